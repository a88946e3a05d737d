//! Sections: prototypes and what they name, and the counters of control areas (spec 2.7, 8.12).
//!
//! A page of prototypes is a page of a hidden space, and a table at the same time: what is in it is
//! counted like the entries of a page table. So that space is walked first. Then each valid entry
//! of a view can be checked against the prototype of its page, found with arithmetic of its own:
//! from the descriptor to the control area, the subsection, the place in the pool.
//!
//! Calls that map views count the view before there is a descriptor for it; how many of them may
//! be between two steps the caller knows.

use std::collections::HashMap;

use ntmm::frames::entry::FrameFlags;
use ntmm::frames::{FrameUse, PageLocation};
use ntmm::inspect::sections::{ControlAreaView, RecordFigures};
use ntmm::platform::Platform;
use ntmm::section::{ControlAreaFlags, ControlAreaId, Holder};
use ntmm::tables::EntryRef;
use ntmm::{AddressSpaceId, Manager};
use ntmm_pte::{PagingFileNumber, Pfn, Slot, Va};
use ntmm_sync::atomic::Ordering;

use super::Audit;
use super::decode::{DECOMMITTED, WORDS, Word};
use super::defect::{AreaFigure, Defect, Form, Place, SlotOwner};
use super::picture::SlotBits;

/// Page of the hidden space that the pool begins with: the lowest a program may use.
const FIRST_POOL_PAGE: u64 = 0x10;

/// A control area, and what names it.
#[derive(Clone, Copy, Debug)]
struct Area {
    view: ControlAreaView,
    objects: u32,
    by_users: u32,
    descriptors: u32,
    /// Frames with pages of its file.
    of_file: u32,
}

/// A run of prototypes.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Where in the pool it begins, in bytes.
    at: u64,
    pages: u64,
    /// The first page it stands for.
    first: u64,
    area: ControlAreaId,
}

/// The sections of the machine under audit.
#[derive(Debug, Default)]
pub(super) struct Sections {
    /// The hidden space.
    pub(super) space: Option<AddressSpaceId>,
    areas: Vec<Area>,
    /// By place in the pool.
    runs: Vec<Run>,
    /// Pages of the pool that are mapped, and their frames.
    homes: HashMap<u64, Pfn>,
    /// Frames of the tables of records.
    pub(super) record_frames: u32,
}

/// A page of prototypes.
#[derive(Clone, Copy)]
pub(super) struct PrototypePage {
    pub(super) space: AddressSpaceId,
    /// Its number in the hidden space.
    pub(super) page: u64,
    /// Its frame and the position of that; none when it is in a paging file.
    pub(super) frame: Option<(Pfn, usize)>,
    /// Whether it is mapped.
    pub(super) mapped: bool,
}

impl PrototypePage {
    /// The prototype in a slot: a place below all tables.
    fn place(&self, slot: u32, entry_bytes: u64) -> Place {
        let table = self.frame.map_or(Pfn::new(u32::MAX), |(pfn, _)| pfn);
        let entry = EntryRef { table, slot: Slot::from_low_bits(u64::from(slot)) };
        let va = Va::new((self.page << 12) + u64::from(slot) * entry_bytes);
        Place { space: self.space, entry, level: 0, va }
    }
}

impl Sections {
    fn area(&mut self, id: ControlAreaId) -> Option<&mut Area> {
        let index = self.areas.binary_search_by_key(&id, |area| area.view.id).ok()?;
        self.areas.get_mut(index)
    }

    /// A descriptor names a control area.
    pub(super) fn note_view(&mut self, id: ControlAreaId) -> bool {
        self.area(id).map(|area| area.descriptors += 1).is_some()
    }

    /// The run a byte of the pool belongs to.
    fn run_at(&self, offset: u64, entry_bytes: u64) -> Option<Run> {
        let behind = self.runs.partition_point(|run| run.at <= offset);
        let run = *self.runs.get(behind.checked_sub(1)?)?;
        (offset < run.at + run.pages * entry_bytes).then_some(run)
    }

    /// Where the prototype of a page of a section lies, if its page of the pool is mapped.
    pub(super) fn prototype_of(
        &self,
        area: ControlAreaId,
        page: u64,
        entry_bytes: u64,
    ) -> Option<EntryRef> {
        let shows =
            |run: &&Run| run.area == area && (run.first..run.first + run.pages).contains(&page);
        let run = self.runs.iter().find(shows)?;
        let offset = run.at + (page - run.first) * entry_bytes;
        let table = *self.homes.get(&(FIRST_POOL_PAGE + offset / 4096))?;
        let slot = Slot::from_low_bits(offset % 4096 / entry_bytes);
        Some(EntryRef { table, slot })
    }

    /// Pages charged for control areas and tables of records.
    fn commitment(&self) -> u64 {
        let areas: u64 = self.areas.iter().map(|area| area.view.committed.get()).sum();
        areas + u64::from(self.record_frames)
    }
}

/// A figure of a control area that is wrong, if it is.
fn compare(area: &Area, figure: AreaFigure, expected: u64, found: u64) -> Result<(), Defect> {
    if expected == found {
        return Ok(());
    }
    Err(Defect::ControlArea { area: area.view.id, figure, expected, found })
}

impl<P: Platform> Audit<'_, '_, '_, P> {
    /// Bytes of an entry.
    pub(super) const ENTRY_BYTES: u64 = 8 / Self::MODE.entries_per_word as u64;

    /// Lists control areas and the runs of prototypes they have.
    pub(super) fn begin_sections(&mut self) -> Result<(), Defect> {
        let manager = self.manager;
        self.check_records(manager)?;
        let sections = &mut self.scratch.sections;
        sections.space = manager.space_of_prototypes();
        sections.areas.clear();
        sections.runs.clear();
        sections.homes.clear();
        for view in manager.control_areas() {
            let area = Area { view, objects: 0, by_users: 0, descriptors: 0, of_file: 0 };
            let (mut next, mut subsections) = (None, 0);
            for subsection in manager.subsection_views(view.id) {
                let (at, pages) = (subsection.prototypes.bytes(), subsection.pages.get());
                let first = subsection.first_page.get();
                let follows = next.is_none_or(|next| next == first);
                let fits = pages * Self::ENTRY_BYTES <= subsection.prototype_bytes;
                if subsection.area != view.id || !follows || !fits || pages == 0 {
                    return Err(Defect::Subsection { area: view.id, number: subsections });
                }
                next = Some(first + pages);
                subsections += 1;
                sections.runs.push(Run { at, pages, first, area: view.id });
            }
            // A control area that is being deleted loses its subsections one by one.
            if !view.flags.contains(ControlAreaFlags::BEING_DELETED) {
                compare(&area, AreaFigure::Subsections, subsections, view.subsections.into())?;
                compare(&area, AreaFigure::Prototypes, next.unwrap_or(0), view.pages.get())?;
            }
            sections.areas.push(area);
        }
        sections.areas.sort_unstable_by_key(|area| area.view.id);
        sections.runs.sort_unstable_by_key(|run| run.at);
        let overlap = sections
            .runs
            .windows(2)
            .find(|runs| runs[0].at + runs[0].pages * Self::ENTRY_BYTES > runs[1].at);
        if let Some(runs) = overlap {
            return Err(Defect::Subsection { area: runs[1].area, number: runs[1].first });
        }
        for section in manager.section_views() {
            let Some(area) = sections.area(section.area) else {
                return Err(Defect::NoControlArea(section.area));
            };
            area.objects += 1;
            area.by_users += u32::from(section.holder == Holder::User);
        }
        Ok(())
    }

    /// Checks the chains of free records, and takes note of the frames of the tables.
    fn check_records(&mut self, manager: &Manager<P>) -> Result<(), Defect> {
        for RecordFigures { in_use, free, all } in manager.section_records() {
            if in_use + free != all {
                return Err(Defect::Records { in_use, free, all });
            }
        }
        let scratch = &mut *self.scratch;
        let mut frames = 0;
        let mut defect = None;
        manager.for_each_section_record_frame(|pfn| {
            frames += 1;
            match scratch.index(pfn) {
                Some(index) if scratch.frames[index].usage == FrameUse::SectionRecords => {
                    scratch.tallies[index].owners += 1;
                }
                index => {
                    let frame = index.map(|index| scratch.frames[index]);
                    let location = frame.map_or(PageLocation::Bad, |frame| frame.location);
                    let usage = frame.map_or(FrameUse::Absent, |frame| frame.usage);
                    defect = Some(Defect::Use { pfn, location, usage });
                }
            }
        });
        scratch.sections.record_frames = frames;
        defect.map_or(Ok(()), Err)
    }

    /// Visits a page of prototypes that is in memory.
    pub(super) fn visit_prototypes(&mut self, page: &PrototypePage) -> Result<(), Defect> {
        let Some((pfn, frame)) = page.frame else { return Ok(()) };
        let view = &self.scratch.frames[frame];
        let unread = FrameFlags::READ_IN_PROGRESS | FrameFlags::IN_PAGE_ERROR;
        if view.flags.intersects(unread)
            && let Word::PageFile { file, slot, .. } = Self::MODE.decode(view.original)
        {
            return self.visit_absent_prototypes(page, file, slot);
        }
        if page.mapped {
            self.scratch.sections.homes.insert(page.page, pfn);
        }
        let words = self.manager.platform().frame(pfn);
        let mut entries = std::mem::take(&mut self.scratch.prototypes);
        entries.clear();
        let load = |word: &ntmm_sync::atomic::AtomicU64| word.load(Ordering::Relaxed);
        Self::MODE.scan(words, load, |slot, word| entries.push((slot, word)));
        let checked = entries.iter().try_for_each(|&(slot, word)| self.visit_one(page, slot, word));
        self.scratch.prototypes = entries;
        checked
    }

    /// Visits a page of prototypes that is in a paging file, if it can be read.
    pub(super) fn visit_absent_prototypes(
        &mut self,
        page: &PrototypePage,
        file: PagingFileNumber,
        slot: u32,
    ) -> Result<(), Defect> {
        let words = self.circumstances.read_slot.and_then(|read| read(file, slot));
        let Some(words) = words else {
            self.scratch.claims.hide(WORDS as u64 * u64::from(Self::MODE.entries_per_word));
            return Ok(());
        };
        let absent = PrototypePage { frame: None, mapped: false, ..*page };
        let mut entries = Vec::new();
        Self::MODE.scan(&words, |word| *word, |slot, word| entries.push((slot, word)));
        entries.into_iter().try_for_each(|(slot, word)| self.visit_one(&absent, slot, word))
    }

    /// Visits a prototype that is not zero.
    fn visit_one(&mut self, page: &PrototypePage, slot: u32, word: u64) -> Result<(), Defect> {
        let place = page.place(slot, Self::ENTRY_BYTES);
        let offset = place.va.get() - (FIRST_POOL_PAGE << 12);
        let Some(run) = self.scratch.sections.run_at(offset, Self::ENTRY_BYTES) else {
            return Err(Defect::OutsideSections(place));
        };
        match Self::MODE.decode(word) {
            Word::Valid { pfn } => self.visit_named(page, (place, word), (pfn, Form::Valid), run),
            Word::Transition { pfn } => {
                self.visit_named(page, (place, word), (pfn, Form::Transition), run)
            }
            Word::PageFile { file, slot, .. } => {
                let owner = |_| SlotOwner::Entry(place);
                self.scratch.claims.claim(&SlotBits::one(file, slot), owner)
            }
            Word::DemandZero { protection } if protection != DECOMMITTED => Ok(()),
            Word::Prototype if self.is_of_file(run.area) => Ok(()),
            _ => Err(Defect::EntryForm { place, word }),
        }
    }

    fn is_of_file(&mut self, id: ControlAreaId) -> bool {
        let area = self.scratch.sections.area(id);
        area.is_some_and(|area| area.view.flags.contains(ControlAreaFlags::FILE))
    }

    /// A prototype that is valid or in transition: its frame holds a page of a section, and names
    /// the prototype.
    fn visit_named(
        &mut self,
        page: &PrototypePage,
        (place, word): (Place, u64),
        (pfn, form): (Pfn, Form),
        run: Run,
    ) -> Result<(), Defect> {
        let Some((_, table)) = page.frame.filter(|_| page.mapped) else {
            return Err(Defect::TrimmedTable { place, word });
        };
        let Some(index) = self.scratch.index(pfn) else {
            return Err(Defect::NoSuchFrame(place, pfn));
        };
        let frame = self.scratch.frames[index];
        let mapped = frame.location == PageLocation::Active;
        let there = match form {
            Form::Valid => mapped,
            Form::Transition => !mapped && !is_free(frame.location),
        };
        if !there || frame.usage != FrameUse::Section {
            let (location, usage) = (frame.location, frame.usage);
            return Err(Defect::EntryFrame { place, pfn, form, location, usage });
        }
        if frame.container != place.entry {
            return Err(Defect::Container { place, pfn, found: frame.container });
        }
        self.scratch.tallies[table].inside += 1;
        self.scratch.tallies[index].prototypes += 1;
        if matches!(Self::MODE.decode(frame.original), Word::Prototype)
            && let Some(area) = self.scratch.sections.area(run.area)
        {
            area.of_file += 1;
        }
        Ok(())
    }

    /// Checks the counters of control areas, when all that names them has been seen.
    pub(super) fn check_sections(&mut self) -> Result<(), Defect> {
        let sections = &self.scratch.sections;
        let mut pending = self.circumstances.pending_views;
        for area in &sections.areas {
            let view = &area.view;
            let counted = |count: u32| u64::from(count);
            compare(
                area,
                AreaFigure::Sections,
                counted(area.objects),
                counted(view.section_references),
            )?;
            let early = view.mapped_views.wrapping_sub(area.descriptors);
            if early > pending {
                let (expected, found) = (counted(area.descriptors), counted(view.mapped_views));
                compare(area, AreaFigure::Views, expected, found)?;
            }
            pending -= early;
            let users = area.by_users + view.mapped_views;
            compare(area, AreaFigure::Users, counted(users), counted(view.user_references))?;
            let (of_file, frames) = (counted(area.of_file), counted(view.pfn_references));
            compare(area, AreaFigure::Frames, of_file, frames)?;
            let making = view.flags.contains(ControlAreaFlags::BEING_CREATED);
            let leaving = view.flags.contains(ControlAreaFlags::BEING_DELETED);
            let whole = view.flags.contains(ControlAreaFlags::COMMIT);
            if whole && !making {
                let (pages, committed) = (view.pages.get(), view.committed.get());
                compare(area, AreaFigure::Commitment, pages, committed)?;
            }
            let idle = view.section_references == 0 && view.mapped_views == 0;
            let kept = view.flags.contains(ControlAreaFlags::FILE) && view.pfn_references > 0;
            if idle && !kept && !making && !view.queued {
                return Err(Defect::Forgotten(view.id));
            }
            if leaving && !idle {
                return Err(Defect::DeletedArea(view.id));
            }
        }
        let (expected, found) = (sections.commitment(), self.manager.section_commit().get());
        if expected == found { Ok(()) } else { Err(Defect::SectionCommit { expected, found }) }
    }
}

const fn is_free(location: PageLocation) -> bool {
    matches!(location, PageLocation::Zeroed | PageLocation::Free | PageLocation::Bad)
}
