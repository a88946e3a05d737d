//! What the manager tells its host: typed events for tracing, and notifications.

use ntmm_pte::{AccessKind, Pfn, Va};

use crate::address_space::AddressSpaceId;
use crate::frames::PageLocation;
use crate::status::NtStatus;

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A fault was resolved or raised.
    Fault {
        /// Address space of the faulting thread.
        space: AddressSpaceId,
        /// Faulting address.
        va: Va,
        /// Access that faulted.
        access: AccessKind,
        /// How it ended.
        outcome: Result<FaultKind, NtStatus>,
    },
    /// A frame changed its location.
    Moved {
        /// Frame.
        pfn: Pfn,
        /// Where it was.
        from: PageLocation,
        /// Where it is now.
        to: PageLocation,
    },
    /// Pages were read from a paging file.
    PageRead {
        /// Number of pages in the transfer.
        pages: u32,
    },
    /// Modified pages were written to a paging file.
    PageWrite {
        /// Number of pages in the transfer.
        pages: u32,
    },
    /// A page left a working set.
    Trimmed {
        /// Address space.
        space: AddressSpaceId,
        /// Page.
        va: Va,
        /// Its frame.
        pfn: Pfn,
    },
}

/// How a fault was resolved (spec 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// The page was valid already: another thread was faster or the translation was stale.
    Spurious,
    /// A zeroed page (STATUS_PAGE_FAULT_DEMAND_ZERO).
    DemandZero,
    /// A page still in memory (STATUS_PAGE_FAULT_TRANSITION).
    Transition,
    /// A page read from a paging file (STATUS_PAGE_FAULT_PAGING_FILE).
    PageFile,
    /// A write to a page that was copied for it (STATUS_PAGE_FAULT_COPY_ON_WRITE).
    CopyOnWrite,
}

/// News for the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notification {
    /// Available pages fell to the low threshold (LowMemoryCondition set).
    LowMemory,
    /// Available pages rose above the low threshold (LowMemoryCondition cleared).
    LowMemoryOver,
    /// Available pages rose to the high threshold (HighMemoryCondition set).
    HighMemory,
    /// Available pages fell below the high threshold (HighMemoryCondition cleared).
    HighMemoryOver,
    /// A commit request was refused (the over-commit popup).
    CommitLimit,
    /// A write to a paging file failed; the pages stay modified.
    ModifiedWriteFailed,
}
