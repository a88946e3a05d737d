//! Page faults (MmAccessFault, MiDispatchFault, spec 4).
//!
//! A [`Fault`] is an operation: stepped until the access can be retried, or a status is raised.
//! A step goes down the tables of the address from the root, making each table valid that is
//! not, and ends at the page's own entry, whose state decides:
//!
//! | Entry | Resolver |
//! |---|---|
//! | zero, demand zero | [`demand_zero`] |
//! | lookup, or zero in a view | [`prototype`], which goes on with the prototype's state |
//! | transition | [`transition`] |
//! | page file | [`page_file`], which starts a read and waits |
//!
//! Page tables are resolved by the same three functions as pages. Before anything is changed
//! the step has reserved every frame and working-set entry it may need ([`prepare`]), so that
//! it never stops half-way.
//!
//! | File | Holds |
//! |---|---|
//! | [`access`] | the operation and the decision tree |
//! | [`prepare`] | reservations, room in the working set |
//! | [`demand_zero`], [`transition`], [`page_file`], [`prototype`], [`mapped_file`] | the resolvers |
//! | [`copy_on_write`] | writes to pages that are copied then |
//! | [`in_page`] | reads in flight: waiting, completion, release |

pub mod access;
pub mod copy_on_write;
pub mod demand_zero;
pub mod in_page;
pub mod mapped_file;
pub mod page_file;
pub mod prepare;
pub mod prototype;
pub mod transition;

pub use access::{Fault, ProcessorMode};
pub(crate) use in_page::Holds;
pub(crate) use page_file::PageRead;

use ntmm_pte::{Level, PagingMode, Protection, PteWord, Va};

use crate::frames::FrameUse;
use crate::operation::{Pause, Wait};
use crate::platform::Platform;
use crate::section::system_space::PoolOffset;
use crate::status::NtStatus;
use crate::tables::EntryRef;
use crate::transfer::TransferId;

/// Why a step cannot go on. Every lock is dropped before the host learns of it.
#[derive(Debug)]
pub(crate) enum Blocked {
    /// Wait, or fail.
    Pause(Pause),
    /// Submit this read, then wait for it.
    Issue(PageRead),
    /// Somebody else reads the page; the operation holds that read now.
    Collided(TransferId),
    /// A page of prototypes has to be brought into memory first.
    Prototypes(PoolOffset),
    /// Something changed in between: start again at the top.
    Restart,
}

impl From<Pause> for Blocked {
    fn from(pause: Pause) -> Self {
        Self::Pause(pause)
    }
}

impl From<Wait> for Blocked {
    fn from(wait: Wait) -> Self {
        Self::Pause(wait.into())
    }
}

impl From<NtStatus> for Blocked {
    fn from(status: NtStatus) -> Self {
        Self::Pause(status.into())
    }
}

/// An entry that is to become valid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// The entry.
    pub(crate) entry: EntryRef,
    /// Address of the page it maps: a user page, or a table's self-map address.
    pub(crate) va: Va,
    /// What it maps.
    pub(crate) kind: TargetKind,
}

/// What a target's entry maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetKind {
    /// A page of a program.
    Page,
    /// A page table.
    Table,
    /// A page of prototype entries.
    Prototypes,
}

impl TargetKind {
    /// What a frame is used for that holds it.
    pub(crate) const fn usage(self) -> FrameUse {
        match self {
            Self::Page => FrameUse::Private,
            Self::Table => FrameUse::PageTable,
            Self::Prototypes => FrameUse::Prototypes,
        }
    }
}

impl Target {
    /// The page at `va`, whose entry is `entry`.
    pub(crate) fn page(entry: EntryRef, va: Va) -> Self {
        Self { entry, va: va.page_base(), kind: TargetKind::Page }
    }

    /// The page of prototypes at `va` of the system space, whose entry is `entry`.
    pub(crate) fn prototypes(entry: EntryRef, va: Va) -> Self {
        Self { entry, va: va.page_base(), kind: TargetKind::Prototypes }
    }

    /// The table that the entry of `level` names on the way to `va`.
    pub(crate) fn table<M: PagingMode>(entry: EntryRef, va: Va, level: Level) -> Self {
        let below = level.down().unwrap_or(Level::Table);
        Self { entry, va: M::table_address(va, below), kind: TargetKind::Table }
    }

    /// The protection of an entry that is zero: a table's, or `page` for a page.
    pub(crate) fn protection(self, page: Protection) -> Protection {
        match self.kind {
            TargetKind::Page | TargetKind::Prototypes => page,
            TargetKind::Table => Protection::EXECUTE_READWRITE,
        }
    }

    /// The valid entry that maps `pfn` for this target.
    pub(crate) fn valid_word<P: Platform>(
        self,
        pfn: ntmm_pte::Pfn,
        protection: Protection,
        dirtiness: ntmm_pte::Dirtiness,
    ) -> u64 {
        match self.kind {
            TargetKind::Page | TargetKind::Prototypes => {
                P::Paging::valid_user(pfn, protection, dirtiness)
            }
            TargetKind::Table => P::Paging::valid_table(pfn),
        }
    }
}
