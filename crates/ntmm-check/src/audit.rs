//! The auditors: do the records of a running manager agree with each other?
//!
//! [`audit`] goes through a machine on which no processor is inside the manager and checks the
//! invariants of spec 3.13 and the relations of 3.3, 3.4 and 3.12 behind them. It trusts
//! nothing twice: page-table words are decoded by the auditors' own `decode` and the tables
//! walked with their own arithmetic. It changes nothing and is quick enough to be called after
//! every step of a simulated run; everything it remembers between frames and tables lives in a
//! [`Scratch`] that is used again and again.
//!
//! One audit, in this order:
//!
//! | File | Checks |
//! |---|---|
//! | `memory` | frames lent, the commitment limit, frames being removed |
//! | `lists` | chains, links, totals and colours; available pages; zeroed frames are zero |
//! | `picture` | (reads tables for the next) |
//! | `tables` | each space's tables from the root down: entries and the frames they name, used entries, self-map, slots |
//! | `large_pages` | the directory entries of large pages and their runs |
//! | `working_set` | each valid page has its entry, the free list has the rest, figures |
//! | `descriptors` | the descriptor tree, charges, the figures of the space |
//! | `frames` | each frame's counts, flags, original entry and owner |
//! | `sections` | prototypes and the frames they name, counters of control areas |
//! | `slots` | paging-file bitmaps against the owners found on the way |
//!
//! [`Baseline`] is another question: has everything that was taken been given back?

mod decode;
mod defect;
mod descriptors;
mod frames;
mod large_pages;
mod lists;
mod memory;
mod picture;
mod report;
mod sections;
mod slots;
mod tables;
mod teardown;
mod working_set;

pub use defect::{AreaFigure, Chain, Defect, Figure, Form, FrameCount, Place, Presence, SlotOwner};
pub use teardown::{Baseline, audit_teardown};

use std::rc::Rc;

use ntmm::inspect::{FrameView, SpaceView};
use ntmm::platform::Platform;
use ntmm::{AddressSpaceId, Manager};
use ntmm_pte::{Pages, PagingFileNumber, PagingMode, Pfn, Va};

use decode::{Mode, WORDS};
use descriptors::{Descriptor, SecuredPages};
use frames::Tally;
use picture::Pictures;
use sections::Sections;
use slots::Claims;
use working_set::List;

/// Contents of a page of a paging file, where the machine can give them: needed to see what
/// page tables that are not in memory hold.
pub type ReadSlot<'a> = dyn Fn(PagingFileNumber, u32) -> Option<Rc<[u64; WORDS]>> + 'a;

/// What the caller knows of operations that are between two steps.
#[derive(Clone, Copy, Default)]
pub struct Circumstances<'a> {
    /// Pages charged to the system that operations will hand to a space or return.
    pub pending_commit: PendingCommit,
    /// Calls that map views and may be between two steps: each may have counted its view.
    pub pending_views: u32,
    /// Spaces in which an operation may own address creation.
    pub address_creation: &'a [AddressSpaceId],
    /// Reads a slot of a paging file. Without it, slots that nobody visible owns are accepted
    /// up to the number that page tables out of memory can hold.
    pub read_slot: Option<&'a ReadSlot<'a>>,
    /// Whether nobody can have written to a frame since the last audit. Without it every table
    /// is read at each audit.
    pub untouched: Option<&'a dyn Fn(Pfn) -> bool>,
}

/// Pages that are charged and belong to no space yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PendingCommit {
    /// This many.
    Exactly(Pages),
    /// Up to this many.
    AtMost(Pages),
}

impl Default for PendingCommit {
    fn default() -> Self {
        Self::Exactly(Pages::new(0))
    }
}

/// How much of what is too large to be checked every time an audit looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// A few zeroed frames, others each time.
    #[default]
    Sample,
    /// All of them.
    Everything,
}

/// The auditors' tables. They keep their memory from one audit to the next, and a place in the
/// sampling; a scratch serves one machine.
#[derive(Debug, Default)]
pub struct Scratch {
    depth: Depth,
    round: u64,
    lowest: u32,
    frames: Vec<FrameView>,
    tallies: Vec<Tally>,
    claims: Claims,
    descriptors: Vec<Descriptor>,
    secured: Vec<SecuredPages>,
    list: List,
    pictures: Pictures,
    sections: Sections,
    /// Prototypes of the page being visited.
    prototypes: Vec<(u32, u64)>,
    manager_frames: Option<u32>,
}

impl Scratch {
    /// Tables for audits that go this deep.
    #[must_use]
    pub fn new(depth: Depth) -> Self {
        Self { depth, ..Self::default() }
    }

    /// Position of a frame in the tables.
    #[inline]
    fn index(&self, pfn: Pfn) -> Option<usize> {
        let index = pfn.get().wrapping_sub(self.lowest) as usize;
        (index < self.frames.len()).then_some(index)
    }
}

/// Checks every invariant of a machine on which nobody is inside the manager and no operation
/// is between two steps.
///
/// # Errors
/// The first defect found.
pub fn audit<P: Platform>(manager: &Manager<P>, scratch: &mut Scratch) -> Result<(), Defect> {
    audit_with(manager, scratch, &Circumstances::default())
}

/// Checks every invariant of a machine on which nobody is inside the manager, while operations
/// may be between two steps.
///
/// # Errors
/// The first defect found.
#[inline(never)] // So that a profile tells it from its caller.
pub fn audit_with<P: Platform>(
    manager: &Manager<P>,
    scratch: &mut Scratch,
    circumstances: &Circumstances<'_>,
) -> Result<(), Defect> {
    let mut audit = Audit { manager, scratch, circumstances };
    audit.take_pictures();
    if manager.machine_lock_held() {
        return Err(Defect::LockHeld);
    }
    audit.check_memory()?;
    audit.check_lists()?;
    audit.tally_holders()?;
    audit.begin_sections()?;
    // The space of prototypes first: the others are checked against what is in it.
    let system = audit.scratch.sections.space;
    let is_system = |space: &SpaceView<'_, P>| Some(space.space()) == system;
    let mut charged = 0;
    for space in manager.spaces().filter(is_system) {
        charged += audit.check_space(&space)?;
    }
    for space in manager.spaces().filter(|space| !is_system(space)) {
        charged += audit.check_space(&space)?;
    }
    audit.check_frames()?;
    audit.check_sections()?;
    audit.check_system_commit(charged)?;
    audit.check_slots()
}

/// One audit.
struct Audit<'m, 's, 'c, P: Platform> {
    manager: &'m Manager<P>,
    scratch: &'s mut Scratch,
    circumstances: &'c Circumstances<'c>,
}

impl<P: Platform> Audit<'_, '_, '_, P> {
    /// The paging mode of the machine.
    const MODE: Mode = Mode::named(P::Paging::NAME);

    /// Decodes the whole database once; everything else looks at the copy.
    fn take_pictures(&mut self) {
        let scratch = &mut *self.scratch;
        scratch.round = scratch.round.wrapping_add(1);
        scratch.frames.clear();
        scratch.frames.extend(self.manager.frame_views());
        scratch.lowest = scratch.frames.first().map_or(0, |frame| frame.pfn.get());
        scratch.tallies.clear();
        scratch.tallies.resize(scratch.frames.len(), Tally::default());
        scratch.claims.begin(self.manager);
    }

    /// Checks one space from its root down; returns the pages charged to it.
    fn check_space(&mut self, space: &SpaceView<'_, P>) -> Result<u64, Defect> {
        let id = space.space();
        if space.is_locked() {
            return Err(Defect::SpaceLocked(id));
        }
        if space.address_creation_is_owned() && !self.circumstances.address_creation.contains(&id) {
            return Err(Defect::AddressCreationOwned(id));
        }
        self.begin_descriptors(space)?;
        self.begin_secured(space);
        let mut list = core::mem::take(&mut self.scratch.list);
        self.open_list(space, &mut list)?;
        let census = self.check_tables(space, &list)?;
        working_set::check(space, &list, &census)?;
        self.scratch.list = list;
        self.check_descriptors(space, &census)?;
        Ok(space.header().commit() + self.tally_physical(space)?)
    }
}

/// The address of a page: of 48 bits the highest is repeated, which 32 never reach.
const fn address_of(page: u64) -> Va {
    Va::new(((page << 28) as i64 >> 16) as u64)
}
