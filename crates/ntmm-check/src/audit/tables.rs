//! The page tables of a space, from its root down: invariants 5, 6, 7 and 11 of spec 3.13.
//!
//! Each entry that is not zero is decoded; the frame it names must name it; its page must have
//! its working-set entry or, not mapped, none; the slot it names is claimed. Tables that are in
//! memory without being mapped are walked as well, and those in paging files where the caller
//! can read them: what they hold can only be pages in paging files.

use ntmm::AddressSpaceId;
use ntmm::frames::entry::FrameFlags;
use ntmm::frames::{FrameUse, PageLocation};
use ntmm::inspect::{FrameView, SpaceView};
use ntmm::platform::Platform;
use ntmm::section::ControlAreaId;
use ntmm::tables::EntryRef;
use ntmm::vad::VadKind;
use ntmm::working_set::header::HEADER_WORDS;
use ntmm_pte::{PagingFileNumber, Pfn, Slot};
use ntmm_sync::atomic::Ordering;

use super::decode::{DECOMMITTED, WORDS, Word};
use super::defect::{Defect, Figure, Form, Place, SlotOwner};
use super::descriptors::Descriptor;
use super::picture::{Picture, SlotBits, count_between};
use super::sections::PrototypePage;
use super::working_set::List;
use super::{Audit, address_of};

/// What the tables of a space hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Census {
    /// Working-set entries found in use.
    pub(super) in_use: u32,
    /// The highest of them.
    pub(super) last: u32,
    /// Those that are locked.
    pub(super) locked: u32,
    /// Those that are not direct.
    pub(super) indirect: u32,
    /// User pages in memory and in paging files.
    pub(super) private_pages: u64,
    /// Those of them in memory whose contents have been reset.
    pub(super) reset_pages: u64,
    /// Those of the user pages that are their sections'.
    pub(super) shared_pages: u64,
    /// Pages of the working-set list.
    pub(super) list_pages: u32,
    /// Pages of its hash.
    pub(super) hash_pages: u32,
    /// Tables that map the list.
    list_tables: u32,
    /// Entries of the self-map.
    self_map_entries: u32,
    /// There are tables that cannot be read.
    pub(super) hidden: bool,
}

/// The walk through one space.
pub(super) struct Walk<'a> {
    pub(super) space: AddressSpaceId,
    root: Pfn,
    list: &'a List,
    pub(super) census: Census,
    /// First descriptor that does not end before the entry being visited.
    pub(super) descriptor: usize,
}

/// A table on the way.
#[derive(Clone, Copy)]
pub(super) struct Table {
    /// Its frame, or that of the table that names it when it is in a paging file.
    pfn: Pfn,
    /// Position of that frame in the pictures.
    pub(super) frame: usize,
    level: u8,
    /// First page it covers.
    base: u64,
    residence: Residence,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Residence {
    /// Mapped by a valid entry.
    Mapped,
    /// In memory, named by a transition entry.
    Trimmed,
    /// In a paging file; its own entry is this slot of the table above.
    Absent { slot: u32 },
}

/// An entry being visited.
pub(super) struct Visit<'a> {
    pub(super) table: &'a Table,
    slot: u32,
    pub(super) word: u64,
    /// First page it maps.
    pub(super) page: u64,
}

impl Visit<'_> {
    /// Whether the table of the entry is mapped itself.
    pub(super) fn is_in_mapped_table(&self) -> bool {
        self.table.residence == Residence::Mapped
    }
}

/// Whose part of the space an entry maps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Described by descriptors, pageable.
    User,
    /// What the space has from its beginning: it stays.
    Own,
}

impl<P: Platform> Audit<'_, '_, '_, P> {
    /// Finds the pages of a space's working-set list.
    pub(super) fn open_list(
        &self,
        space: &SpaceView<'_, P>,
        list: &mut List,
    ) -> Result<(), Defect> {
        let header = space.header();
        list.entries = header.initialized();
        list.first_dynamic = header.first_dynamic();
        list.table = Pfn::new(header.list_table());
        list.hash_pages = header.hash_size().div_ceil(WORDS as u32);
        list.pages.clear();
        list.words.clear();
        let count = (HEADER_WORDS + list.entries).div_ceil(WORDS as u32);
        let first = Self::MODE.slot(Self::MODE.list_page, 1);
        let id = space.space();
        let (table, own) = (list.table, space.list());
        let broken = |page, expected, found| Defect::ListPage { space: id, page, expected, found };
        if self.scratch.index(table).is_none() {
            return Err(broken(None, table, None));
        }
        for page in 0..count {
            let slot = first + page;
            let word = if slot < Self::MODE.entries() { self.word_at(table, slot) } else { 0 };
            let found = match Self::MODE.decode(word) {
                Word::Valid { pfn } if self.scratch.index(pfn).is_some() => Some(pfn),
                _ => None,
            };
            match found {
                Some(pfn) if page > 0 || pfn == own => list.pages.push(pfn),
                _ => return Err(broken(Some(page), own, found)),
            }
        }
        list.hash.clear();
        for page in 0..list.hash_pages {
            let word = self.word_at(table, Self::MODE.entries() - 1 - page);
            let Word::Valid { pfn } = Self::MODE.decode(word) else {
                return Err(broken(None, own, None));
            };
            if self.scratch.index(pfn).is_none() {
                return Err(broken(None, own, Some(pfn)));
            }
            let words = self.manager.platform().frame(pfn);
            list.hash.extend(words.iter().map(|word| word.load(Ordering::Relaxed)));
        }
        list.read(self.manager);
        Ok(())
    }

    /// An entry of a table in memory.
    fn word_at(&self, table: Pfn, slot: u32) -> u64 {
        let words = self.manager.platform().frame(table);
        Self::MODE.entry_of(|index| words[index].load(Ordering::Relaxed), slot)
    }

    /// Walks the tables of a space.
    pub(super) fn check_tables(
        &mut self,
        space: &SpaceView<'_, P>,
        list: &List,
    ) -> Result<Census, Defect> {
        let (root, id) = (space.root(), space.space());
        let index = self.scratch.index(root);
        let usage = index.map_or(FrameUse::Absent, |index| self.scratch.frames[index].usage);
        let Some(frame) = index.filter(|_| usage == FrameUse::Root) else {
            return Err(Defect::Use { pfn: root, location: PageLocation::Active, usage });
        };
        self.scratch.tallies[frame].owners += 1;
        let (list_pages, hash_pages) = (list.pages.len() as u32, list.hash_pages);
        let census = Census { list_pages, hash_pages, ..Census::default() };
        let mut walk = Walk { space: id, root, list, census, descriptor: 0 };
        let (level, residence) = (Self::MODE.levels, Residence::Mapped);
        self.walk_table(&mut walk, &Table { pfn: root, frame, level, base: 0, residence })?;
        if walk.census.list_tables != 1 {
            let (page, found) = (None, None);
            return Err(Defect::ListPage { space: id, page, expected: list.table, found });
        }
        let (figure, expected) = (Figure::SelfMapEntries, u64::from(Self::MODE.self_map_entries));
        let found = u64::from(walk.census.self_map_entries);
        if found != expected {
            return Err(Defect::Figure { space: id, figure, expected, found });
        }
        Ok(walk.census)
    }

    fn walk_table(&mut self, walk: &mut Walk<'_>, table: &Table) -> Result<(), Defect> {
        let picture = self.picture(table.pfn, table.frame, table.level);
        self.check_entries(walk, table, &picture)?;
        let (expected, found) = (picture.used, self.scratch.frames[table.frame].used_entries);
        let found = u32::from(found);
        // A table that has been read in and not been used since has not been counted yet.
        let uncounted = table.residence == Residence::Trimmed && found == 0;
        if found != expected && !uncounted {
            let (space, table) = (walk.space, table.pfn);
            return Err(Defect::UsedEntries { space, table, expected, found });
        }
        Ok(())
    }

    /// Checks the entries of a table.
    fn check_entries(
        &mut self,
        walk: &mut Walk<'_>,
        table: &Table,
        picture: &Picture,
    ) -> Result<(), Defect> {
        let of_pages = table.level == 1;
        if of_pages {
            self.check_sums(walk, table, picture)?;
        }
        for &(slot, word) in &picture.visited {
            let visit = Self::visit(table, slot, word);
            match of_pages {
                true if visit.page > Self::MODE.last_user_page => {
                    self.visit_list_page(walk, &visit)?;
                }
                true => {
                    self.skip_descriptors(walk, visit.page);
                    self.visit_page(walk, &visit)?;
                }
                false => self.visit_table(walk, &visit)?,
            }
        }
        Ok(())
    }

    /// Checks what the entries of a lowest table say together: each is in the range of a
    /// descriptor, and the slots they name are theirs.
    fn check_sums(
        &mut self,
        walk: &mut Walk<'_>,
        table: &Table,
        picture: &Picture,
    ) -> Result<(), Defect> {
        if table.base > Self::MODE.last_user_page {
            // Pages of the system's part are in memory, and visited.
            let ill = picture.summed.first();
            return ill
                .map_or(Ok(()), |&(slot, word)| Err(form(walk, &Self::visit(table, slot, word))));
        }
        let last = table.base + u64::from(Self::MODE.entries()) - 1;
        // Entries in ranges of descriptors, and those of physical pages, which are charged on
        // their own.
        let (mut covered, mut in_windows) = (0, 0);
        self.skip_descriptors(walk, table.base);
        for descriptor in &mut self.scratch.descriptors[walk.descriptor..] {
            if descriptor.start > last || covered == picture.used {
                break;
            }
            let from = descriptor.start.max(table.base) - table.base;
            let to = descriptor.end.min(last) - table.base;
            let (from, to) = (from as u32, to as u32);
            let within = |entries| count_between(entries, from, to);
            let (committed, decommitted) =
                (within(&picture.committed), within(&picture.decommitted));
            covered += committed + decommitted;
            if descriptor.kind == VadKind::AddressWindow {
                // What is not mapped in a window has been, and is decommitted.
                let empty = Word::DemandZero { protection: DECOMMITTED };
                let ill = picture.summed.iter().find(|&&(slot, word)| {
                    (from..=to).contains(&slot) && Self::MODE.decode(word) != empty
                });
                if let Some(&(slot, word)) = ill {
                    return Err(form(walk, &Self::visit(table, slot, word)));
                }
                in_windows += committed;
            } else {
                descriptor.note(committed, decommitted);
            }
        }
        if covered != picture.used {
            return Err(self.outside_descriptors(walk, table, picture));
        }
        // Pages of the user, wherever they are.
        walk.census.private_pages += u64::from(picture.pages - in_windows);
        for slots in &picture.slots {
            let owner = |slot| {
                let names = |&&(_, word): &&(u32, u64)| {
                    matches!(Self::MODE.decode(word),
                    Word::PageFile { file, slot: named, .. } if file == slots.file && named == slot)
                };
                let &(entry, word) = picture.summed.iter().rfind(names).unwrap_or(&(0, 0));
                SlotOwner::Entry(place(walk.space, &Self::visit(table, entry, word)))
            };
            self.scratch.claims.claim(slots, owner)?;
        }
        if self.is_of_prototypes(walk) {
            self.visit_prototypes_in_files(walk, table, picture)?;
        }
        if self.scratch.secured.is_empty() {
            return Ok(());
        }
        self.check_secured_entries(walk, table, picture)
    }

    /// Checks that no page of a secured range has less access than the range wants.
    fn check_secured_entries(
        &mut self,
        walk: &Walk<'_>,
        table: &Table,
        picture: &Picture,
    ) -> Result<(), Defect> {
        for &(slot, word) in picture.visited.iter().chain(&picture.summed) {
            let original = match Self::MODE.decode(word) {
                Word::Valid { pfn } => {
                    let index = self.scratch.index(pfn);
                    index.map_or(0, |index| self.scratch.frames[index].original)
                }
                _ => word,
            };
            let protection = (original >> 5) as u8 & 31;
            self.check_secured_page(Self::visit(table, slot, word).page, protection)
                .map_err(|start| Defect::Secured { space: walk.space, start: address_of(start) })?;
        }
        Ok(())
    }

    /// The first entry of a table that is in no descriptor's range.
    #[cold]
    fn outside_descriptors(&self, walk: &Walk<'_>, table: &Table, picture: &Picture) -> Defect {
        let entries = picture.visited.iter().chain(&picture.summed);
        let outside = entries.map(|&(slot, word)| Self::visit(table, slot, word)).filter(|visit| {
            let covers = |vad: &Descriptor| vad.start <= visit.page && visit.page <= vad.end;
            !self.scratch.descriptors.iter().any(covers)
        });
        let first = outside.min_by_key(|visit| visit.slot);
        let first = first.unwrap_or_else(|| Self::visit(table, 0, 0));
        Defect::OutsideVads(place(walk.space, &first))
    }

    /// A visit to an entry of a table.
    #[inline]
    const fn visit(table: &Table, slot: u32, word: u64) -> Visit<'_> {
        let page = table.base + ((slot as u64) << Self::MODE.page_shift(table.level));
        Visit { table, slot, word, page }
    }

    /// Visits the entry of a page in memory.
    #[inline]
    fn visit_page(&mut self, walk: &mut Walk<'_>, visit: &Visit<'_>) -> Result<(), Defect> {
        let vad = self.scratch.descriptors.get(walk.descriptor);
        let window = vad.is_some_and(|vad| vad.kind == VadKind::AddressWindow);
        match Self::MODE.decode(visit.word) {
            Word::Valid { pfn } if window => self.visit_window(walk, visit, pfn),
            Word::Valid { pfn } if self.is_of_section(walk, pfn) => {
                self.visit_shared(walk, visit, pfn)
            }
            Word::Valid { pfn } => {
                let usage = self.pageable_use(walk);
                let index = self.check_named(walk, visit, pfn, Form::Valid, usage)?;
                self.scratch.tallies[visit.table.frame].inside += 1;
                self.scratch.tallies[index].mappings += 1;
                walk.census.reset_pages += self.is_reset(index);
                self.check_working_set_entry(walk, visit, index, visit.page, Part::User)?;
                self.visit_page_of_prototypes(walk, visit, pfn, index)
            }
            Word::Transition { pfn } if !window => {
                let (form, usage) = (Form::Transition, self.pageable_use(walk));
                let index = self.check_named(walk, visit, pfn, form, usage)?;
                self.scratch.tallies[visit.table.frame].inside += 1;
                self.scratch.tallies[index].transitions += 1;
                walk.census.reset_pages += self.is_reset(index);
                self.visit_page_of_prototypes(walk, visit, pfn, index)
            }
            Word::Prototype if Self::MODE.is_lookup(visit.word) && self.view(walk).is_some() => {
                Ok(())
            }
            _ => Err(form(walk, visit)),
        }
    }

    /// The control area and the first page of the view that pages being visited lie in.
    fn view(&self, walk: &Walk<'_>) -> Option<(ControlAreaId, u64)> {
        self.scratch.descriptors.get(walk.descriptor)?.view
    }

    /// Whether prototypes lie in the space.
    fn is_of_prototypes(&self, walk: &Walk<'_>) -> bool {
        self.scratch.sections.space == Some(walk.space)
    }

    /// What frames of pages of the space alone are used for.
    fn pageable_use(&self, walk: &Walk<'_>) -> FrameUse {
        if self.is_of_prototypes(walk) { FrameUse::Prototypes } else { FrameUse::Private }
    }

    /// Whether an entry of a view maps a page of its section, and not a copy.
    fn is_of_section(&self, walk: &Walk<'_>, pfn: Pfn) -> bool {
        let index = self.scratch.index(pfn).filter(|_| self.view(walk).is_some());
        index.is_some_and(|index| self.scratch.frames[index].usage == FrameUse::Section)
    }

    /// Visits the valid entry of a page of a section: the frame is the one its prototype names.
    fn visit_shared(
        &mut self,
        walk: &mut Walk<'_>,
        visit: &Visit<'_>,
        pfn: Pfn,
    ) -> Result<(), Defect> {
        let place = || place(walk.space, visit);
        let (Some(index), Some((area, first))) = (self.scratch.index(pfn), self.view(walk)) else {
            return Err(Defect::NoSuchFrame(place(), pfn));
        };
        if visit.table.residence != Residence::Mapped {
            return Err(Defect::TrimmedTable { place: place(), word: visit.word });
        }
        let FrameView { location, usage, container: found, .. } = self.scratch.frames[index];
        if location != PageLocation::Active {
            let form = Form::Valid;
            return Err(Defect::EntryFrame { place: place(), pfn, form, location, usage });
        }
        let shown = first + visit.page - self.scratch.descriptors[walk.descriptor].start;
        let prototype = self.scratch.sections.prototype_of(area, shown, Self::ENTRY_BYTES);
        if prototype != Some(found) {
            return Err(Defect::NotPrototype { place: place(), pfn, prototype, found });
        }
        self.scratch.tallies[visit.table.frame].inside += 1;
        self.scratch.tallies[index].mappings += 1;
        walk.census.shared_pages += 1;
        self.check_working_set_entry(walk, visit, index, visit.page, Part::User)
    }

    /// Visits what is in a page of the space of prototypes; nothing in other spaces.
    fn visit_page_of_prototypes(
        &mut self,
        walk: &Walk<'_>,
        visit: &Visit<'_>,
        pfn: Pfn,
        index: usize,
    ) -> Result<(), Defect> {
        if !self.is_of_prototypes(walk) {
            return Ok(());
        }
        let mapped = matches!(Self::MODE.decode(visit.word), Word::Valid { .. });
        let (space, page, frame) = (walk.space, visit.page, Some((pfn, index)));
        self.visit_prototypes(&PrototypePage { space, page, frame, mapped })
    }

    /// Visits the pages of prototypes that a table says are in paging files.
    fn visit_prototypes_in_files(
        &mut self,
        walk: &Walk<'_>,
        table: &Table,
        picture: &Picture,
    ) -> Result<(), Defect> {
        for &(slot, word) in &picture.summed {
            if let Word::PageFile { file, slot: named, .. } = Self::MODE.decode(word) {
                let page = Self::visit(table, slot, word).page;
                let absent = PrototypePage { space: walk.space, page, frame: None, mapped: false };
                self.visit_absent_prototypes(&absent, file, named)?;
            }
        }
        Ok(())
    }

    /// One when the contents of a frame have been reset.
    #[inline]
    fn is_reset(&self, index: usize) -> u64 {
        u64::from(self.scratch.frames[index].flags.contains(FrameFlags::RESET))
    }

    /// Visits the entry of a window that maps a physical page of the process, which is in no
    /// working set and charged on its own.
    fn visit_window(&mut self, walk: &Walk<'_>, visit: &Visit<'_>, pfn: Pfn) -> Result<(), Defect> {
        let index = self.check_named(walk, visit, pfn, Form::Valid, FrameUse::UserPhysical)?;
        if walk.list.pages.first() != Some(&Pfn::new(self.scratch.frames[index].u1)) {
            return Err(Defect::ForeignPage { place: place(walk.space, visit), pfn });
        }
        self.scratch.tallies[visit.table.frame].inside += 1;
        self.scratch.tallies[index].mappings += 1;
        Ok(())
    }

    /// Visits the entry of a page of the working-set list.
    fn visit_list_page(&mut self, walk: &mut Walk<'_>, visit: &Visit<'_>) -> Result<(), Defect> {
        match Self::MODE.decode(visit.word) {
            Word::Valid { pfn } if self.is_own(walk, visit) => {
                let usage = FrameUse::WorkingSetList;
                let index = self.check_named(walk, visit, pfn, Form::Valid, usage)?;
                self.count_valid(visit, index, Part::Own);
                self.check_working_set_entry(walk, visit, index, visit.page, Part::Own)
            }
            _ => Err(form(walk, visit)),
        }
    }

    /// Visits the entry of a table.
    fn visit_table(&mut self, walk: &mut Walk<'_>, visit: &Visit<'_>) -> Result<(), Defect> {
        let mode = Self::MODE;
        let level = visit.table.level;
        if level == mode.levels && visit.slot >= mode.root_entries {
            return Err(form(walk, visit));
        }
        if level == mode.self_map_level && mode.is_table_page(visit.page) {
            return self.check_self_map(walk, visit);
        }
        let user = visit.page <= mode.last_user_page && level <= mode.self_map_level;
        if user {
            let last = visit.page + (1 << mode.page_shift(level)) - 1;
            self.advance_descriptor(walk, visit, last)?;
            if level == 2 && self.is_in_large_pages(walk, visit) {
                return self.visit_large(walk, visit);
            }
        } else if !self.is_own(walk, visit) {
            return Err(form(walk, visit));
        }
        let part = if user { Part::User } else { Part::Own };
        if mode.decode_large(visit.word).is_some() && level == 2 {
            return Err(form(walk, visit));
        }
        match mode.decode(visit.word) {
            Word::Valid { pfn } => self.visit_mapped(walk, visit, pfn, part),
            Word::Transition { pfn } if user => self.visit_trimmed(walk, visit, pfn),
            Word::PageFile { file, slot, .. } if user => {
                let owner = |_| SlotOwner::Entry(place(walk.space, visit));
                self.scratch.claims.claim(&SlotBits::one(file, slot), owner)?;
                self.visit_absent(walk, visit, file, slot)
            }
            _ => Err(form(walk, visit)),
        }
    }

    /// Whether an entry of the system's part is one that a space has: on the way to the
    /// working-set list, of the list or of its hash, or in the root of PAE.
    fn is_own(&self, walk: &Walk<'_>, visit: &Visit<'_>) -> bool {
        let mode = Self::MODE;
        let Visit { table, slot, page, .. } = *visit;
        if table.level > 1 {
            let shift = mode.page_shift(table.level);
            return table.level > mode.self_map_level || page >> shift == mode.list_page >> shift;
        }
        let number = page.wrapping_sub(mode.list_page);
        number < walk.list.pages.len() as u64 || slot >= mode.entries() - walk.list.hash_pages
    }

    /// Goes on to a descriptor of the pages that the entry of a table maps, the last of which is
    /// `last`; there must be one.
    fn advance_descriptor(
        &self,
        walk: &mut Walk<'_>,
        visit: &Visit<'_>,
        last: u64,
    ) -> Result<(), Defect> {
        self.skip_descriptors(walk, visit.page);
        match self.scratch.descriptors.get(walk.descriptor) {
            Some(vad) if vad.start <= last => Ok(()),
            _ => Err(Defect::OutsideVads(place(walk.space, visit))),
        }
    }

    /// Skips the descriptors that end before a page.
    #[inline]
    fn skip_descriptors(&self, walk: &mut Walk<'_>, page: u64) {
        let descriptors = &self.scratch.descriptors;
        while descriptors.get(walk.descriptor).is_some_and(|vad| vad.end < page) {
            walk.descriptor += 1;
        }
    }

    /// The position of the frame an entry names, when there is one, it is used as such an entry
    /// wants, and it names the entry in turn.
    #[inline]
    fn check_named(
        &self,
        walk: &Walk<'_>,
        visit: &Visit<'_>,
        pfn: Pfn,
        form: Form,
        wanted: FrameUse,
    ) -> Result<usize, Defect> {
        let place = || place(walk.space, visit);
        if visit.table.residence != Residence::Mapped {
            return Err(Defect::TrimmedTable { place: place(), word: visit.word });
        }
        let Some(index) = self.scratch.index(pfn) else {
            return Err(Defect::NoSuchFrame(place(), pfn));
        };
        let frame = &self.scratch.frames[index];
        let there = match (form, frame.location) {
            (Form::Valid, location) => location == PageLocation::Active,
            (
                Form::Transition,
                PageLocation::Standby
                | PageLocation::Modified
                | PageLocation::ModifiedNoWrite
                | PageLocation::Transition,
            ) => true,
            (Form::Transition, _) => false,
        };
        if !there || frame.usage != wanted {
            let (location, usage) = (frame.location, frame.usage);
            return Err(Defect::EntryFrame { place: place(), pfn, form, location, usage });
        }
        if frame.container != entry(visit) {
            return Err(Defect::Container { place: place(), pfn, found: frame.container });
        }
        Ok(index)
    }

    /// Counts a valid entry.
    fn count_valid(&mut self, visit: &Visit<'_>, named: usize, part: Part) {
        self.scratch.tallies[visit.table.frame].inside += 1;
        let tally = &mut self.scratch.tallies[named];
        tally.mappings += 1;
        tally.permanent |= part == Part::Own;
    }

    /// Visits a table that is mapped.
    fn visit_mapped(
        &mut self,
        walk: &mut Walk<'_>,
        visit: &Visit<'_>,
        pfn: Pfn,
        part: Part,
    ) -> Result<(), Defect> {
        let index = self.check_named(walk, visit, pfn, Form::Valid, FrameUse::PageTable)?;
        self.count_valid(visit, index, part);
        let level = visit.table.level;
        let seen = Self::MODE.table_page(visit.page, level - 1);
        self.check_working_set_entry(walk, visit, index, seen, part)?;
        if level == 2 && pfn == walk.list.table {
            walk.census.list_tables += 1;
        }
        self.walk_table(walk, &child(visit, pfn, index, Residence::Mapped))
    }

    /// Visits a table that is in memory and not mapped.
    fn visit_trimmed(
        &mut self,
        walk: &mut Walk<'_>,
        visit: &Visit<'_>,
        pfn: Pfn,
    ) -> Result<(), Defect> {
        let index = self.check_named(walk, visit, pfn, Form::Transition, FrameUse::PageTable)?;
        self.scratch.tallies[visit.table.frame].inside += 1;
        self.scratch.tallies[index].transitions += 1;
        let frame = &self.scratch.frames[index];
        let filled =
            !frame.flags.intersects(FrameFlags::READ_IN_PROGRESS | FrameFlags::IN_PAGE_ERROR);
        match Self::MODE.decode(frame.original) {
            Word::PageFile { file, slot, .. } if !filled => {
                self.visit_absent(walk, visit, file, slot)
            }
            _ => self.walk_table(walk, &child(visit, pfn, index, Residence::Trimmed)),
        }
    }

    /// Visits a table that is in a paging file, if it can be read.
    fn visit_absent(
        &mut self,
        walk: &mut Walk<'_>,
        visit: &Visit<'_>,
        file: PagingFileNumber,
        slot: u32,
    ) -> Result<(), Defect> {
        let residence = Residence::Absent { slot: visit.slot };
        let table = child(visit, visit.table.pfn, visit.table.frame, residence);
        if let Some(picture) = self.absent_picture(file, slot, table.level) {
            return self.check_entries(walk, &table, &picture);
        }
        let shift = Self::MODE.page_shift(visit.table.level);
        self.scratch.claims.hide(1 << shift);
        walk.census.hidden = true;
        let last = visit.page + (1 << shift) - 1;
        for descriptor in &mut self.scratch.descriptors[walk.descriptor..] {
            if descriptor.start > last {
                break;
            }
            descriptor.hidden = true;
        }
        Ok(())
    }

    /// A self-map entry names the root, or in PAE the directory that the root's entry names.
    fn check_self_map(&mut self, walk: &mut Walk<'_>, visit: &Visit<'_>) -> Result<(), Defect> {
        let mode = Self::MODE;
        let place = place(walk.space, visit);
        let whole = mode.self_map_level == mode.levels;
        let expected = if whole {
            walk.root
        } else {
            match mode.decode(self.word_at(walk.root, visit.slot - mode.self_map_slot)) {
                Word::Valid { pfn } => pfn,
                _ => walk.root,
            }
        };
        if mode.decode(visit.word) != (Word::Valid { pfn: expected }) {
            return Err(Defect::SelfMap { place, expected, word: visit.word });
        }
        let Some(index) = self.scratch.index(expected) else {
            return Err(Defect::NoSuchFrame(place, expected));
        };
        walk.census.self_map_entries += 1;
        self.scratch.tallies[visit.table.frame].inside += 1;
        self.scratch.tallies[index].mappings += 1;
        if !whole {
            return Ok(());
        }
        let found = self.scratch.frames[index].container;
        if found != place.entry {
            return Err(Defect::Container { place, pfn: expected, found });
        }
        let seen = mode.table_page(visit.page, mode.levels);
        self.check_working_set_entry(walk, visit, index, seen, Part::Own)
    }

    /// The page that is seen at `page` has its entry in the working set: the one its frame
    /// names, or for a page of a section any that is not direct.
    fn check_working_set_entry(
        &mut self,
        walk: &mut Walk<'_>,
        visit: &Visit<'_>,
        frame: usize,
        page: u64,
        part: Part,
    ) -> Result<(), Defect> {
        let list = walk.list;
        let hint = self.scratch.frames[frame].u1;
        let maps = |index| {
            list.entry(index)
                .filter(|entry| entry.is_valid() && entry.page().get() == page)
                .map(|entry| (index, entry))
        };
        let direct = maps(hint).filter(|(_, entry)| entry.is_direct());
        let indirect = || (0..list.entries).filter_map(maps).find(|(_, entry)| !entry.is_direct());
        let shared = self.scratch.frames[frame].usage == FrameUse::Section;
        let indirect = || indirect().filter(|_| shared);
        let Some((index, entry)) = direct.or_else(indirect) else {
            let (place, pfn) = (place(walk.space, visit), self.scratch.frames[frame].pfn);
            return Err(Defect::NoWorkingSetEntry { place, pfn, index: hint });
        };
        let locked = entry.is_locked();
        if locked != (index < list.first_dynamic) || (part == Part::Own && !locked) {
            return Err(Defect::PermanentEntry { space: walk.space, index });
        }
        self.scratch.tallies[frame].direct += u32::from(shared && entry.is_direct());
        let census = &mut walk.census;
        census.in_use += 1;
        census.last = census.last.max(index);
        census.locked += u32::from(locked);
        census.indirect += u32::from(!entry.is_direct());
        Ok(())
    }
}

/// The table an entry names.
fn child(visit: &Visit<'_>, pfn: Pfn, frame: usize, residence: Residence) -> Table {
    Table { pfn, frame, level: visit.table.level - 1, base: visit.page, residence }
}

/// Where an entry lies, as the frame it names has it.
#[inline]
pub(super) fn entry(visit: &Visit<'_>) -> EntryRef {
    let slot = match visit.table.residence {
        Residence::Absent { slot } => slot,
        Residence::Mapped | Residence::Trimmed => visit.slot,
    };
    EntryRef { table: visit.table.pfn, slot: Slot::from_low_bits(u64::from(slot)) }
}

/// Where an entry is.
#[cold]
pub(super) fn place(space: AddressSpaceId, visit: &Visit<'_>) -> Place {
    let (level, va) = (visit.table.level, address_of(visit.page));
    Place { space, entry: entry(visit), level, va }
}

/// An entry in a form its place does not have.
#[cold]
pub(super) fn form(walk: &Walk<'_>, visit: &Visit<'_>) -> Defect {
    Defect::EntryForm { place: place(walk.space, visit), word: visit.word }
}
