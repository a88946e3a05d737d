//! The records of a section: control area, subsections, section object (CONTROL_AREA with its
//! SEGMENT, SUBSECTION, SECTION; spec 8.1-8.5).
//!
//! A **control area** stands for what is mapped, once: pages of the paging files, a data file, an
//! image. It counts who uses it. Counts go up under the lock of the sections, or where one is
//! held already; they go down without a lock. Whoever takes the last of them away hands the
//! control area to the dereference engine, which looks again under the lock.
//!
//! A **subsection** is a run of prototype entries with one protection and one place in the file.
//!
//! A **section object** is what a handle names: a size, a protection, and its control area.

use ntmm_pte::{Pages, Protection};
use ntmm_sync::atomic::Ordering;
use ntmm_sync::record;

use super::records::NO_RECORD;
use crate::manager::Manager;
use crate::platform::{Engine, Platform};

/// Names a control area while something keeps it: a view, a section object, a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ControlAreaId(pub(crate) u32);

impl ControlAreaId {
    /// Its number among all control areas.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// Names a section object. Kept too long it names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectionId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl SectionId {
    /// An id that may or may not name a section, for tests of bad input.
    #[must_use]
    pub const fn forged(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }
}

/// Set in the link of a control area that is queued.
const QUEUED: u64 = 1 << 32;

/// Words of a control area.
pub(super) const CONTROL_AREA_WORDS: usize = 16;
/// Words of a subsection.
pub(crate) const SUBSECTION_WORDS: usize = 8;
/// Words of a section object.
pub(super) const SECTION_WORDS: usize = 8;

bitflags::bitflags! {
    /// Flags of a control area (spec 8.3), with NT's values.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ControlAreaFlags: u32 {
        /// It is being deleted.
        const BEING_DELETED = 0x1;
        /// It is being made.
        const BEING_CREATED = 0x2;
        /// Its pages are being thrown away.
        const BEING_PURGED = 0x4;
        /// The mapped-page writer leaves its pages alone.
        const NO_MODIFIED_WRITING = 0x8;
        /// Its file is gone.
        const FAIL_ALL_IO = 0x10;
        /// An image.
        const IMAGE = 0x20;
        /// All views lie at one address.
        const BASED = 0x40;
        /// Backed by a file.
        const FILE = 0x80;
        /// Pages are committed through views.
        const RESERVE = 0x1000;
        /// All pages have been committed when it was made.
        const COMMIT = 0x2000;
        /// The protection of views cannot be changed.
        const NO_CHANGE = 0x80_0000;
    }
}

record! {
    /// A control area with its segment.
    pub record ControlArea [CONTROL_AREA_WORDS] {
        /// [`ControlAreaFlags`]. The lock of the sections.
        flags, set_flags: u32 = 0, 0, 32;
        /// Section objects (NumberOfSectionReferences). Atomic.
        section_references, set_section_references: u32 = 1, 0, 32;
        /// Section references and views that are not the cache's (NumberOfUserReferences). Atomic.
        user_references, set_user_references: u32 = 1, 32, 32;
        /// Views (NumberOfMappedViews). Atomic.
        mapped_views, set_mapped_views: u32 = 2, 0, 32;
        /// Frames that hold pages of the file (NumberOfPfnReferences). Atomic.
        pfn_references, set_pfn_references: u32 = 2, 32, 32;
        /// Writes of its pages under way (ModifiedWriteCount). Atomic.
        modified_writes, set_modified_writes: u32 = 3, 0, 32;
        /// Flushes under way (FlushInProgressCount). Atomic.
        flushes, set_flushes: u32 = 3, 32, 32;
        /// First subsection.
        first_subsection, set_first_subsection: u32 = 4, 0, 32;
        /// Number of subsections.
        subsections, set_subsections: u32 = 4, 32, 32;
        /// Prototype entries of all subsections (TotalNumberOfPtes).
        pages, set_pages: u64 = 5, 0, 64;
        /// Size in bytes (SizeOfSegment).
        size, set_size: u64 = 6, 0, 64;
        /// Committed pages (NumberOfCommittedPages). Atomic.
        committed, set_committed: u64 = 7, 0, 64;
        /// The file, when [`ControlAreaFlags::FILE`] is set.
        file, set_file: u32 = 10, 0, 32;
        /// The next control area of a file with the same hash.
        next_of_file, set_next_of_file: u32 = 10, 32, 32;
        /// Protection of a page that has never been touched (SegmentPteTemplate).
        protection, set_protection: u8 = 11, 0, 5;
        /// Pages every view of an image is charged (ImageCommitment).
        image_commitment, set_image_commitment: u32 = 11, 32, 32;
        /// The address an image wants, or that all views of a based section have.
        base, set_base: u64 = 12, 0, 64;
        /// Byte of the first field of an image's headers that may read as zero.
        cleared_field, set_cleared_field: u32 = 13, 0, 32;
        /// How many such fields there are at most.
        cleared_fields, set_cleared_fields: u32 = 13, 32, 32;
        /// The next control area to look at, while it is queued. Atomic.
        next_queued, set_next_queued: u32 = 14, 0, 32;
        /// 1 while it is queued. Atomic.
        queued, set_queued: u8 = 14, 32, 1;
    }
}

record! {
    /// A subsection.
    pub record Subsection [SUBSECTION_WORDS] {
        /// The next subsection.
        next, set_next: u32 = 0, 0, 32;
        /// The control area.
        control_area, set_control_area: u32 = 1, 0, 32;
        /// Protection of its pages.
        protection, set_protection: u8 = 1, 32, 5;
        /// Its first page, counted from the beginning of the section.
        first_page, set_first_page: u64 = 2, 0, 64;
        /// Its prototype entries (PtesInSubsection).
        pages, set_pages: u64 = 3, 0, 64;
        /// Where its data begin in the file, in bytes (StartingSector).
        offset, set_offset: u64 = 4, 0, 64;
        /// Bytes of the file that it shows (NumberOfFullSectors, SectorEndOffset).
        bytes, set_bytes: u64 = 5, 0, 64;
        /// Where in the pool its first prototype entry lies (SubsectionBase).
        prototypes, set_prototypes: u64 = 6, 0, 64;
        /// Bytes of the pool that were allocated for them.
        prototype_bytes, set_prototype_bytes: u64 = 7, 0, 64;
    }
}

record! {
    /// A section object.
    pub record SectionObject [SECTION_WORDS] {
        /// Distinguishes this object from those that had its number before.
        generation, set_generation: u32 = 0, 32, 31;
        /// The control area.
        control_area, set_control_area: u32 = 1, 0, 32;
        /// The protection it was made with (InitialPageProtection).
        protection, set_protection: u8 = 1, 32, 5;
        /// Who asked for it: 1 for a program.
        by_user, set_by_user: u8 = 1, 40, 1;
        /// Size in bytes (SizeOfSection).
        size, set_size: u64 = 2, 0, 64;
        /// The attributes it was made with, SEC_ values.
        attributes, set_attributes: u32 = 3, 0, 32;
        /// The based section with the next lower address.
        next_based, set_next_based: u32 = 3, 32, 32;
        /// Where all its views lie, zero unless it is based.
        base, set_base: u64 = 4, 0, 64;
    }
}

/// Who maps a view, or holds a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A program.
    User,
    /// The kernel: its views are no user references.
    System,
}

impl Holder {
    const fn count(self) -> u64 {
        match self {
            Self::User => 1 << 32,
            Self::System => 0,
        }
    }
}

impl ControlArea<'_> {
    /// Its flags.
    pub(crate) fn state(&self) -> ControlAreaFlags {
        ControlAreaFlags::from_bits_retain(self.flags())
    }

    /// Adds a section object of `holder`.
    pub(super) fn add_section(&self, holder: Holder) {
        self.view().word(1).fetch_add(1 + holder.count(), Ordering::AcqRel);
    }

    /// Adds a view of `holder`.
    pub(super) fn add_view(&self, holder: Holder) {
        self.view().word(2).fetch_add(1, Ordering::AcqRel);
        self.view().word(1).fetch_add(holder.count(), Ordering::AcqRel);
    }

    /// Whether nothing keeps it but pages in memory.
    pub(super) fn is_idle(&self) -> bool {
        self.section_references() == 0
            && self.mapped_views() == 0
            && self.view().word(3).load(Ordering::Acquire) == 0
    }

    /// What an untouched page may be used for.
    pub(crate) fn template(&self) -> Protection {
        Protection::from_low_bits(u64::from(self.protection()))
    }

    /// Counts pages that have been committed.
    pub(super) fn add_committed(&self, pages: Pages) {
        self.view().word(7).fetch_add(pages.get(), Ordering::AcqRel);
    }
}

impl<P: Platform> Manager<P> {
    /// A control area that something keeps.
    pub(crate) fn control_area(&self, id: ControlAreaId) -> ControlArea<'_> {
        ControlArea::of(self.record(&self.sections.control_areas, id.0))
    }

    /// Whether a control area that something keeps is of a file.
    pub(crate) fn shows_file(&self, id: ControlAreaId) -> bool {
        self.control_area(id).state().contains(ControlAreaFlags::FILE)
    }

    /// A subsection of a control area that something keeps.
    pub(crate) fn subsection(&self, index: u32) -> Subsection<'_> {
        Subsection::of(self.record(&self.sections.subsections, index))
    }

    /// The subsections of a control area, in the order of their pages.
    pub(crate) fn subsections_of(
        &self,
        area: ControlArea<'_>,
    ) -> impl Iterator<Item = (u32, Subsection<'_>)> {
        let at = |index: u32| (index != NO_RECORD).then(|| (index, self.subsection(index)));
        core::iter::successors(at(area.first_subsection()), move |(_, last)| at(last.next()))
    }

    /// A view of `holder` is gone.
    pub(crate) fn drop_view(&self, id: ControlAreaId, holder: Holder) {
        let area = self.control_area(id);
        area.view().word(1).fetch_sub(holder.count(), Ordering::AcqRel);
        area.view().word(2).fetch_sub(1, Ordering::AcqRel);
        self.check_control_area(id);
    }

    /// A section object of `holder` is gone.
    pub(super) fn drop_section(&self, id: ControlAreaId, holder: Holder) {
        let area = self.control_area(id);
        area.view().word(1).fetch_sub(1 + holder.count(), Ordering::AcqRel);
        self.check_control_area(id);
    }

    /// Has the dereference engine look at a control area that nothing keeps any more
    /// (MiCheckControlArea).
    pub(crate) fn check_control_area(&self, id: ControlAreaId) {
        let area = self.control_area(id);
        if !area.is_idle() {
            return;
        }
        self.push_queued(id, area);
        self.platform().request(Engine::Dereference);
    }

    /// Puts a control area on the queue of the dereference engine, unless it is there.
    pub(super) fn push_queued(&self, id: ControlAreaId, area: ControlArea<'_>) {
        let link = area.view().word(14);
        if link.fetch_or(QUEUED, Ordering::AcqRel) & QUEUED != 0 {
            return;
        }
        let head = &self.sections.queue;
        let mut first = head.load(Ordering::Acquire);
        loop {
            link.store(QUEUED | u64::from(first), Ordering::Release);
            match head.compare_exchange(first, id.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(actual) => first = actual,
            }
        }
    }
}
