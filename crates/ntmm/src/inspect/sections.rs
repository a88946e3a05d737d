//! Sections, read: control areas, subsections and section objects as plain values, and the tables
//! their records lie in (spec 8.2-8.5, 8.12).

use ntmm_pte::{Pages, Pfn, Protection};
use ntmm_sync::atomic::Ordering;
use ntmm_sync::record::View;

use crate::manager::Manager;
use crate::platform::Platform;
use crate::section::control_area::{ControlArea, SectionObject};
use crate::section::records::{IN_USE, NO_RECORD, Records};
use crate::section::system_space::PoolOffset;
use crate::section::{ControlAreaFlags, ControlAreaId, Holder};

/// A control area in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlAreaView {
    /// The control area.
    pub id: ControlAreaId,
    /// Its flags.
    pub flags: ControlAreaFlags,
    /// Section objects (NumberOfSectionReferences).
    pub section_references: u32,
    /// Section objects and views of programs (NumberOfUserReferences).
    pub user_references: u32,
    /// Views (NumberOfMappedViews).
    pub mapped_views: u32,
    /// Frames that hold pages of its file (NumberOfPfnReferences).
    pub pfn_references: u32,
    /// Subsections.
    pub subsections: u32,
    /// Prototype entries of all of them (TotalNumberOfPtes).
    pub pages: Pages,
    /// Pages charged for it (NumberOfCommittedPages).
    pub committed: Pages,
    /// Whether the dereference engine is to look at it.
    pub queued: bool,
}

/// A subsection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubsectionView {
    /// The control area it names.
    pub area: ControlAreaId,
    /// Protection of its pages.
    pub protection: Protection,
    /// Its first page, counted from the beginning of the section.
    pub first_page: Pages,
    /// Its prototype entries (PtesInSubsection).
    pub pages: Pages,
    /// Where the first of them lies.
    pub prototypes: PoolOffset,
    /// Bytes of pool that were allocated for them.
    pub prototype_bytes: u64,
}

/// A section object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionView {
    /// Its control area.
    pub area: ControlAreaId,
    /// Who made it.
    pub holder: Holder,
    /// Its size in bytes.
    pub size: u64,
}

/// How many records of one kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordFigures {
    /// Records in use.
    pub in_use: u32,
    /// Records that the chain of free ones reaches; one too many should it form a ring.
    pub free: u32,
    /// All records.
    pub all: u32,
}

impl<P: Platform> Manager<P> {
    /// The control areas in use.
    pub fn control_areas(&self) -> impl Iterator<Item = ControlAreaView> {
        let areas = &self.sections.control_areas;
        self.records_in_use(areas).map(|(index, record)| {
            let area = ControlArea::of(record);
            ControlAreaView {
                id: ControlAreaId(index),
                flags: area.state(),
                section_references: area.section_references(),
                user_references: area.user_references(),
                mapped_views: area.mapped_views(),
                pfn_references: area.pfn_references(),
                subsections: area.subsections(),
                pages: Pages::new(area.pages()),
                committed: Pages::new(area.committed()),
                queued: area.queued() != 0,
            }
        })
    }

    /// The subsections of a control area in use, in the order of their pages. Stops after as many
    /// as there are of all control areas, should they form a ring.
    pub fn subsection_views(&self, id: ControlAreaId) -> impl Iterator<Item = SubsectionView> {
        let limit = self.sections.subsections.len() as usize;
        self.subsections_of(self.control_area(id)).take(limit).map(|(_, subsection)| {
            SubsectionView {
                area: ControlAreaId(subsection.control_area()),
                protection: Protection::from_low_bits(u64::from(subsection.protection())),
                first_page: Pages::new(subsection.first_page()),
                pages: Pages::new(subsection.pages()),
                prototypes: PoolOffset(subsection.prototypes()),
                prototype_bytes: subsection.prototype_bytes(),
            }
        })
    }

    /// The section objects there are. Numbers that have been taken for sections being made are
    /// not among them.
    pub fn section_views(&self) -> impl Iterator<Item = SectionView> {
        self.records_in_use(&self.sections.objects)
            .map(|(_, record)| SectionObject::of(record))
            .filter(|object| object.size() != 0)
            .map(|object| SectionView {
                area: ControlAreaId(object.control_area()),
                holder: if object.by_user() != 0 { Holder::User } else { Holder::System },
                size: object.size(),
            })
    }

    /// How many control areas, subsections and section objects there are.
    #[must_use]
    pub fn section_records(&self) -> [RecordFigures; 3] {
        let Self { sections, .. } = self;
        [
            self.figures_of(&sections.control_areas),
            self.figures_of(&sections.subsections),
            self.figures_of(&sections.objects),
        ]
    }

    /// Calls `visit` with each frame of the tables of records.
    pub fn for_each_section_record_frame(&self, mut visit: impl FnMut(Pfn)) {
        self.for_each_record_frame(&self.sections.control_areas, &mut visit);
        self.for_each_record_frame(&self.sections.subsections, &mut visit);
        self.for_each_record_frame(&self.sections.objects, &mut visit);
    }

    fn records_in_use<'m, const WORDS: usize>(
        &'m self,
        table: &'m Records<WORDS>,
    ) -> impl Iterator<Item = (u32, View<'m, WORDS>)> {
        (0..table.len())
            .map(|index| (index, self.record(table, index)))
            .filter(|(_, record)| record.word(0).load(Ordering::Acquire) & IN_USE != 0)
    }

    fn figures_of<const WORDS: usize>(&self, table: &Records<WORDS>) -> RecordFigures {
        let all = table.len();
        let existing = |index: u32| (index != NO_RECORD && index < all).then_some(index);
        let chain = core::iter::successors(existing(table.first_free()), |&index| {
            existing(self.record(table, index).word(0).load(Ordering::Acquire) as u32)
        });
        RecordFigures {
            in_use: self.records_in_use(table).count() as u32,
            free: chain.take(all as usize + 1).count() as u32,
            all,
        }
    }
}
