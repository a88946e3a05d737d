//! A simulated processor: its interrupt level, its active address space, what it has cached, and
//! the flushes it has been told of.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;

use ntmm::platform::{FlushTicket, Irql};
use ntmm_pte::Va;

use crate::format::Hardware;
use crate::ram::FrameSlot;
use crate::retained::{Retained, SpaceTag};
use crate::tlb::Tlb;

/// Number of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuId(pub u32);

impl CpuId {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "processor {}", self.0)
    }
}

/// An address space a processor runs in: what a load of CR3 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveSpace {
    /// The address space.
    pub tag: SpaceTag,
    /// The frame its tables start in.
    pub root: FrameSlot,
}

/// A flush that a processor has been told of and has not made yet.
#[derive(Clone, Debug)]
pub(crate) struct Shootdown {
    pub ticket: FlushTicket,
    pub scope: Scope,
}

/// What a shootdown removes.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    Pages(SpaceTag, Vec<Va>),
    Space(SpaceTag),
}

impl Scope {
    pub const fn space(&self) -> SpaceTag {
        match self {
            Self::Pages(space, _) | Self::Space(space) => *space,
        }
    }
}

/// A processor.
#[derive(Debug)]
pub struct Processor {
    pub(crate) irql: Cell<Irql>,
    pub(crate) active: Cell<Option<ActiveSpace>>,
    pub(crate) tlb: Tlb,
    pub(crate) retained: RefCell<Retained>,
    pub(crate) shootdowns: RefCell<VecDeque<Shootdown>>,
    /// Whether an allocation was made to fail here in this turn.
    pub(crate) refused: Cell<bool>,
}

impl Processor {
    pub(crate) fn new<H: Hardware>() -> Self {
        let leaf_shift = H::WALK_LEVELS[H::WALK_LEVELS.len() - 2].shift;
        Self {
            irql: Cell::new(Irql::PASSIVE),
            active: Cell::new(None),
            tlb: Tlb::new(leaf_shift),
            retained: RefCell::new(Retained::new(H::WALK_LEVELS)),
            shootdowns: RefCell::new(VecDeque::new()),
            refused: Cell::new(false),
        }
    }

    /// The address space the processor runs in.
    #[must_use]
    pub fn active(&self) -> Option<ActiveSpace> {
        self.active.get()
    }

    /// The processor's interrupt level.
    #[must_use]
    pub fn irql(&self) -> Irql {
        self.irql.get()
    }

    pub(crate) fn tell(&self, ticket: FlushTicket, scope: Scope) {
        self.shootdowns.borrow_mut().push_back(Shootdown { ticket, scope });
    }

    pub(crate) fn is_in(&self, space: SpaceTag) -> bool {
        self.active.get().is_some_and(|active| active.tag == space)
    }
}
