//! Sections: memory that several address spaces share, files that are mapped, images (spec 8).
//!
//! ```text
//! section object --> control area <-- view (a descriptor of an address space)
//!                        |
//!                        +--> subsections --> prototype entries
//! ```
//!
//! Where a page of a section is says one **prototype entry**, and nothing else: a word like that of
//! a page table, which no hardware walks. An address space that maps a view finds the prototype of
//! a page through its descriptor, makes its own entry valid when the page is touched, and writes a
//! *lookup* word when the page leaves its working set: see the prototype. So a page is in memory
//! once, however many map it, and goes to a paging file or its file once.
//!
//! Prototype entries lie in pool that is paged itself: in the memory of a hidden address space, the
//! [`system_space`], whose pages go the way of all pages. A page of prototypes with an entry
//! that is valid or in transition stays in memory, as a page table does.
//!
//! | Prototype | Means | Changed by |
//! |---|---|---|
//! | zero | what the control area says of an untouched page | compare-and-swap |
//! | demand zero, page file, subsection | where the page is | compare-and-swap |
//! | valid, transition | the frame that holds it: mapped, not mapped | the holder of *that frame's lock* |
//!
//! | File | Holds |
//! |---|---|
//! | `records` | tables of records that grow |
//! | [`control_area`] | control area, subsection, section object; their counts |
//! | [`system_space`] | the hidden space and the pool of prototypes in it |
//! | [`prototype`] | from a page of a view to its prototype, held in memory |
//! | [`attributes`] | what a section was asked for beside size and protection |
//! | [`create`] | making a section, closing it |
//! | [`grow`] | committing behind the end of a file |
//! | [`image`] | sections of images |
//! | `based` | sections whose views lie at one address |
//! | [`extend`] | making a section longer |
//! | [`view`] | mapping and unmapping |
//! | [`files`] | what file systems ask: truncation, who writes |
//! | [`flush`] | writing changed pages of a view to its file |
//! | `commit` | which pages of a view are committed |
//! | [`dereference`] | the engine that deletes what nobody uses any more |
//!
//! Locks: one lock, of the level `Section`, serialises making and deleting sections, the tables of
//! records, and what names them. Faults never take it.

pub mod attributes;
mod based;
pub(crate) mod commit;
pub mod control_area;
pub mod create;
pub mod dereference;
pub mod extend;
pub mod files;
pub mod flush;
pub mod grow;
pub mod image;
pub mod prototype;
pub(crate) mod records;
pub mod system_space;
pub mod view;

use ntmm_sync::atomic::{AtomicU32, AtomicU64, Ordering};
use ntmm_sync::level::{self, Level, Outside, Token};
use ntmm_sync::lock::WordLock;

use crate::manager::Manager;
use crate::operation::Epoch;
use crate::platform::{FileId, Platform};
use control_area::{CONTROL_AREA_WORDS, SECTION_WORDS, SUBSECTION_WORDS};
use records::{NO_RECORD, Records};

pub use attributes::SectionAttributes;
pub use control_area::{ControlAreaFlags, ControlAreaId, Holder, SectionId};
pub use create::{CreateSection, SectionInformation, SectionKind, SectionRequest};
pub use extend::ExtendSection;
pub use files::{ModifiedWriting, TruncateSection};
pub use flush::FlushView;
pub use grow::CommitPages;
pub use image::{CreateImageSection, Image, ImagePart};
pub use view::{Extent, Inherit, MapView, MappedView, UnmapView, ViewPlace, ViewRequest};

/// Chains that control areas of files are on.
const FILE_HEADS: usize = 64;

/// The sections of a machine.
#[derive(Debug)]
pub(crate) struct Sections {
    lock: WordLock,
    /// Control areas.
    pub(crate) control_areas: Records<CONTROL_AREA_WORDS>,
    /// Subsections.
    pub(crate) subsections: Records<SUBSECTION_WORDS>,
    /// Section objects.
    pub(crate) objects: Records<SECTION_WORDS>,
    /// Control areas that the dereference engine is to look at. Tag A.
    pub(crate) queue: AtomicU32,
    /// The hidden address space. Tag A.
    space: AtomicU64,
    /// Distinguishes section objects that have the same number. The lock.
    generation: AtomicU32,
    /// The based section with the highest address. The lock.
    based: AtomicU32,
    /// First control area of the files of each hash. The lock.
    files: [AtomicU32; FILE_HEADS],
    /// Times a control area was made or deleted, or a write to a file ended. Tag A.
    epoch: AtomicU64,
    /// Pages charged for tables of records and for sections. Tag A.
    pub(crate) commit: AtomicU64,
}

impl Sections {
    pub(crate) fn new() -> Self {
        Self {
            lock: WordLock::new(),
            control_areas: Records::new(),
            subsections: Records::new(),
            objects: Records::new(),
            queue: AtomicU32::new(NO_RECORD),
            space: AtomicU64::new(0),
            generation: AtomicU32::new(0),
            based: AtomicU32::new(NO_RECORD),
            files: core::array::from_fn(|_| AtomicU32::new(NO_RECORD)),
            epoch: AtomicU64::new(0),
            commit: AtomicU64::new(0),
        }
    }

    /// The head of the chain of control areas that `file` belongs to.
    // The remainder is below the number of heads.
    #[allow(clippy::indexing_slicing)]
    fn files(&self, file: FileId) -> &AtomicU32 {
        &self.files[file.0 as usize % FILE_HEADS]
    }

    /// Times a control area was made or deleted.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// A control area was made or deleted, or a write to its file has ended.
    pub(crate) fn advance(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the lock is held.
    pub(crate) fn is_held(&self) -> bool {
        self.lock.is_held()
    }
}

/// The lock of the sections.
#[derive(Debug)]
pub(crate) struct SectionGuard<'m, 't, P: Platform> {
    manager: &'m Manager<P>,
    token: Token<'t, level::Section>,
}

impl<P: Platform> Manager<P> {
    /// Locks the sections.
    pub(crate) fn lock_sections<'m, 't, L: Level + Outside<level::Section>>(
        &'m self,
        token: &'t mut Token<'_, L>,
    ) -> SectionGuard<'m, 't, P> {
        self.platform().interleave();
        self.sections.lock.acquire(|| self.platform().relax());
        SectionGuard { manager: self, token: token.descend() }
    }
}

impl<'m, 't, P: Platform> SectionGuard<'m, 't, P> {
    pub(crate) const fn manager(&self) -> &'m Manager<P> {
        self.manager
    }

    /// The token for locks further in.
    pub(crate) const fn token(&mut self) -> &mut Token<'t, level::Section> {
        &mut self.token
    }

    /// A number that no section object has had for long.
    fn next_generation(&mut self) -> u32 {
        let next = self.manager.sections.generation.load(Ordering::Relaxed).wrapping_add(1);
        self.manager.sections.generation.store(next, Ordering::Relaxed);
        next & (u32::MAX >> 1)
    }
}

impl<P: Platform> Drop for SectionGuard<'_, '_, P> {
    fn drop(&mut self) {
        self.manager.sections.lock.release();
    }
}
