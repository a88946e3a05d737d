//! The page tables of a space, from its root down: invariants 5, 6, 7 and 11 of spec 3.13.
//!
//! Each entry that is not zero is decoded; the frame it names must name it; its page must have
//! its working-set entry or, not mapped, none; the slot it names is claimed. Tables that are in
//! memory without being mapped are walked as well, and those in paging files where the caller
//! can read them: what they hold can only be pages in paging files.

use ntmm::AddressSpaceId;
use ntmm::frames::entry::FrameFlags;
use ntmm::frames::{FrameUse, PageLocation};
use ntmm::inspect::SpaceView;
use ntmm::platform::Platform;
use ntmm::tables::EntryRef;
use ntmm::working_set::header::HEADER_WORDS;
use ntmm_pte::{PagingFileNumber, Pfn, Slot};
use ntmm_sync::atomic::Ordering;

use super::decode::{WORDS, Word};
use super::defect::{Defect, Figure, Form, Place, SlotOwner};
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
    /// Pages of the working-set list.
    pub(super) list_pages: u32,
    /// Tables that map the list.
    list_tables: u32,
    /// Entries of the self-map.
    self_map_entries: u32,
    /// There are tables that cannot be read.
    pub(super) hidden: bool,
}

/// The walk through one space.
struct Walk<'a> {
    space: AddressSpaceId,
    root: Pfn,
    list: &'a List,
    census: Census,
    /// First descriptor that does not end before the entry being visited.
    descriptor: usize,
}

/// A table on the way.
#[derive(Clone, Copy)]
struct Table {
    /// Its frame, or that of the table that names it when it is in a paging file.
    pfn: Pfn,
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
#[derive(Clone, Copy)]
struct Visit {
    table: Table,
    slot: u32,
    word: u64,
    /// First page it maps.
    page: u64,
    /// Whose part of the space it maps.
    part: Part,
}

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
        match index.filter(|_| usage == FrameUse::Root) {
            Some(index) => self.scratch.tallies[index].owners += 1,
            None => return Err(Defect::Use { pfn: root, location: PageLocation::Active, usage }),
        }
        let census = Census { list_pages: list.pages.len() as u32, ..Census::default() };
        let mut walk = Walk { space: id, root, list, census, descriptor: 0 };
        let (level, residence) = (Self::MODE.levels, Residence::Mapped);
        self.walk_table(&mut walk, Table { pfn: root, level, base: 0, residence })?;
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

    fn walk_table(&mut self, walk: &mut Walk<'_>, table: Table) -> Result<(), Defect> {
        let manager = self.manager;
        let mut expected = 0;
        let words = manager.platform().frame(table.pfn);
        for (block, eight) in words.chunks_exact(8).enumerate() {
            // Most of most tables is zero.
            if eight.iter().fold(0, |bits, word| bits | word.load(Ordering::Relaxed)) == 0 {
                continue;
            }
            for (index, word) in (8 * block as u32..).zip(eight) {
                expected += self.visit_word(walk, table, index, word.load(Ordering::Relaxed))?;
            }
        }
        let index = self.scratch.index(table.pfn);
        let found = index.map_or(0, |index| u32::from(self.scratch.frames[index].used_entries));
        // A table that has been read in and not been used since has not been counted yet.
        let uncounted = table.residence == Residence::Trimmed && found == 0;
        if found != expected && !uncounted {
            let (space, table) = (walk.space, table.pfn);
            return Err(Defect::UsedEntries { space, table, expected, found });
        }
        Ok(())
    }

    /// Visits the entries of a 64-bit word of a table; returns how many are not zero.
    #[inline]
    fn visit_word(
        &mut self,
        walk: &mut Walk<'_>,
        table: Table,
        index: u32,
        value: u64,
    ) -> Result<u32, Defect> {
        if value == 0 {
            return Ok(0);
        }
        let count = Self::MODE.entries_per_word;
        if count == 1 {
            self.visit_entry(walk, table, index, value)?;
            return Ok(1);
        }
        let mut used = 0;
        for half in 0..count {
            let word = value >> (32 * half) & 0xFFFF_FFFF;
            if word != 0 {
                self.visit_entry(walk, table, index * count + half, word)?;
                used += 1;
            }
        }
        Ok(used)
    }

    fn visit_entry(
        &mut self,
        walk: &mut Walk<'_>,
        table: Table,
        slot: u32,
        word: u64,
    ) -> Result<(), Defect> {
        let mode = Self::MODE;
        let shift = mode.page_shift(table.level);
        let page = table.base + (u64::from(slot) << shift);
        let user = page <= mode.last_user_page && table.level <= mode.self_map_level;
        let part = if user { Part::User } else { Part::Own };
        let visit = Visit { table, slot, word, page, part };
        let form = Defect::EntryForm { place: place(walk.space, visit), word };
        if table.level == mode.levels && slot >= mode.root_entries {
            return Err(form);
        }
        if table.level == mode.self_map_level && mode.is_table_page(page) {
            return self.check_self_map(walk, visit);
        }
        match part {
            Part::User => self.advance_descriptor(walk, visit)?,
            Part::Own if self.is_own(walk, visit) => {}
            Part::Own => return Err(form),
        }
        match mode.decode(word) {
            Word::Valid { pfn } => self.visit_valid(walk, visit, pfn),
            Word::Transition { pfn } if user => self.visit_transition(walk, visit, pfn),
            Word::PageFile { file, slot, protection } if user => {
                let owner = || SlotOwner::Entry(place(walk.space, visit));
                self.scratch.claims.claim(self.manager, file, slot, owner)?;
                if table.level == 1 {
                    self.count_page(walk, Some(protection));
                    Ok(())
                } else {
                    self.visit_absent(walk, visit, file, slot)
                }
            }
            Word::DemandZero { protection } if user && table.level == 1 => {
                self.scratch.descriptors[walk.descriptor].note(Some(protection));
                Ok(())
            }
            _ => Err(form),
        }
    }

    /// Whether an entry of the system's part is one that a space has: on the way to the
    /// working-set list, of the list or of its hash, or in the root of PAE.
    fn is_own(&self, walk: &Walk<'_>, visit: Visit) -> bool {
        let mode = Self::MODE;
        let Visit { table, slot, page, .. } = visit;
        if table.level > 1 {
            let shift = mode.page_shift(table.level);
            return table.level > mode.self_map_level || page >> shift == mode.list_page >> shift;
        }
        let number = page.wrapping_sub(mode.list_page);
        number < walk.list.pages.len() as u64 || slot >= mode.entries() - walk.list.hash_pages
    }

    /// Goes on to the descriptor of a page, or for the entry of a table to one of those it
    /// covers; there must be one.
    fn advance_descriptor(&self, walk: &mut Walk<'_>, visit: Visit) -> Result<(), Defect> {
        let last = visit.page + (1 << Self::MODE.page_shift(visit.table.level)) - 1;
        let descriptors = &self.scratch.descriptors;
        while descriptors.get(walk.descriptor).is_some_and(|vad| vad.end < visit.page) {
            walk.descriptor += 1;
        }
        match descriptors.get(walk.descriptor) {
            Some(vad) if vad.start <= last => Ok(()),
            _ => Err(Defect::OutsideVads(place(walk.space, visit))),
        }
    }

    /// Counts a page of the user, wherever it is.
    fn count_page(&mut self, walk: &mut Walk<'_>, protection: Option<u8>) {
        walk.census.private_pages += 1;
        self.scratch.descriptors[walk.descriptor].note(protection);
    }

    /// The position of the frame an entry names, when there is one, it is used as such an entry
    /// wants, and it names the entry in turn.
    fn check_named(
        &self,
        walk: &Walk<'_>,
        visit: Visit,
        pfn: Pfn,
        form: Form,
    ) -> Result<usize, Defect> {
        let place = place(walk.space, visit);
        if visit.table.residence != Residence::Mapped {
            return Err(Defect::TrimmedTable { place, word: visit.word });
        }
        let Some(index) = self.scratch.index(pfn) else {
            return Err(Defect::NoSuchFrame(place, pfn));
        };
        let frame = &self.scratch.frames[index];
        let wanted = match (visit.table.level, visit.part) {
            (1, Part::User) => FrameUse::Private,
            (1, Part::Own) => FrameUse::WorkingSetList,
            _ => FrameUse::PageTable,
        };
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
            return Err(Defect::EntryFrame { place, pfn, form, location, usage });
        }
        if frame.container != place.entry {
            return Err(Defect::Container { place, pfn, found: frame.container });
        }
        Ok(index)
    }

    fn count_inside(&mut self, table: Pfn) {
        if let Some(index) = self.scratch.index(table) {
            self.scratch.tallies[index].inside += 1;
        }
    }

    fn visit_valid(&mut self, walk: &mut Walk<'_>, visit: Visit, pfn: Pfn) -> Result<(), Defect> {
        let index = self.check_named(walk, visit, pfn, Form::Valid)?;
        self.count_inside(visit.table.pfn);
        let tally = &mut self.scratch.tallies[index];
        tally.mappings += 1;
        tally.permanent |= visit.part == Part::Own;
        let level = visit.table.level;
        if level == 1 {
            self.check_working_set_entry(walk, visit, index, visit.page)?;
            if visit.part == Part::User {
                self.count_page(walk, None);
            }
            return Ok(());
        }
        let seen = Self::MODE.table_page(visit.page, level - 1);
        self.check_working_set_entry(walk, visit, index, seen)?;
        if level == 2 && pfn == walk.list.table {
            walk.census.list_tables += 1;
        }
        self.walk_table(walk, self.child(visit, pfn, Residence::Mapped))
    }

    fn child(&self, visit: Visit, pfn: Pfn, residence: Residence) -> Table {
        let shift = Self::MODE.page_shift(visit.table.level);
        let base = visit.table.base + (u64::from(visit.slot) << shift);
        Table { pfn, level: visit.table.level - 1, base, residence }
    }

    fn visit_transition(
        &mut self,
        walk: &mut Walk<'_>,
        visit: Visit,
        pfn: Pfn,
    ) -> Result<(), Defect> {
        let index = self.check_named(walk, visit, pfn, Form::Transition)?;
        self.count_inside(visit.table.pfn);
        self.scratch.tallies[index].transitions += 1;
        if visit.table.level == 1 {
            self.count_page(walk, None);
            return Ok(());
        }
        let frame = self.scratch.frames[index];
        let filled =
            !frame.flags.intersects(FrameFlags::READ_IN_PROGRESS | FrameFlags::IN_PAGE_ERROR);
        match Self::MODE.decode(frame.original) {
            Word::PageFile { file, slot, .. } if !filled => {
                self.visit_absent(walk, visit, file, slot)
            }
            _ => self.walk_table(walk, self.child(visit, pfn, Residence::Trimmed)),
        }
    }

    /// Visits a table that is in a paging file, if it can be read.
    fn visit_absent(
        &mut self,
        walk: &mut Walk<'_>,
        visit: Visit,
        file: PagingFileNumber,
        slot: u32,
    ) -> Result<(), Defect> {
        let residence = Residence::Absent { slot: visit.slot };
        let table = self.child(visit, visit.table.pfn, residence);
        if let Some(words) = self.circumstances.read_slot.and_then(|read| read(file, slot)) {
            for (index, &value) in (0..).zip(&words) {
                self.visit_word(walk, table, index, value)?;
            }
            return Ok(());
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
    fn check_self_map(&mut self, walk: &mut Walk<'_>, visit: Visit) -> Result<(), Defect> {
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
        self.count_inside(visit.table.pfn);
        self.scratch.tallies[index].mappings += 1;
        if !whole {
            return Ok(());
        }
        let found = self.scratch.frames[index].container;
        if found != place.entry {
            return Err(Defect::Container { place, pfn: expected, found });
        }
        let seen = mode.table_page(visit.page, mode.levels);
        self.check_working_set_entry(walk, visit, index, seen)
    }

    /// The page that is seen at `page` has its entry in the working set: the one its frame
    /// names, or for a page of several spaces any that is not direct.
    fn check_working_set_entry(
        &self,
        walk: &mut Walk<'_>,
        visit: Visit,
        frame: usize,
        page: u64,
    ) -> Result<(), Defect> {
        let (manager, list) = (self.manager, walk.list);
        let hint = self.scratch.frames[frame].u1;
        let maps = |index| {
            list.entry(manager, index)
                .filter(|entry| entry.is_valid() && entry.page().get() == page)
                .map(|entry| (index, entry))
        };
        let direct = maps(hint).filter(|(_, entry)| entry.is_direct());
        let indirect = || (0..list.entries).filter_map(maps).find(|(_, entry)| !entry.is_direct());
        let Some((index, entry)) = direct.or_else(indirect) else {
            let (place, pfn) = (place(walk.space, visit), self.scratch.frames[frame].pfn);
            return Err(Defect::NoWorkingSetEntry { place, pfn, index: hint });
        };
        let locked = entry.is_locked();
        if locked != (index < list.first_dynamic) || (visit.part == Part::Own && !locked) {
            return Err(Defect::PermanentEntry { space: walk.space, index });
        }
        let census = &mut walk.census;
        census.in_use += 1;
        census.last = census.last.max(index);
        census.locked += u32::from(locked);
        census.indirect += u32::from(!entry.is_direct());
        Ok(())
    }
}

/// Where an entry is.
fn place(space: AddressSpaceId, visit: Visit) -> Place {
    let slot = match visit.table.residence {
        Residence::Absent { slot } => slot,
        Residence::Mapped | Residence::Trimmed => visit.slot,
    };
    let entry = EntryRef { table: visit.table.pfn, slot: Slot::from_low_bits(u64::from(slot)) };
    Place { space, entry, level: visit.table.level, va: address_of(visit.page) }
}
