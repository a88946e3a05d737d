//! The calls on virtual memory (NtAllocateVirtualMemory and its family, spec 7.4-7.7, 14).
//!
//! Each call is an operation. It goes through its range in stretches: a stretch is done under the
//! working-set lock, with one flush batch. A call whose range is short is done under one hold of
//! the lock; a longer one lets go of it between stretches, and so does one that has to wait. For
//! as long as it is under way without the lock it owns address creation in its space, so that no
//! two calls change the descriptors of one space at a time. Descriptors, entries and charges
//! agree at the end of each stretch, so that a call may be abandoned after any of them.
//!
//! | File | Holds |
//! |---|---|
//! | `range` | going through the entries of a range |
//! | `delete` | deleting one page and the tables it empties |
//! | [`allocate`] | reserve and commit |
//! | [`free`] | release and decommit |
//! | [`large_pages`] | memory in large pages |
//! | [`lock`] | pages locked in the working set |
//! | [`physical_pages`] | physical pages of a process, in windows of its addresses |
//! | [`placeholder`] | placeholders split, merged and given back |
//! | [`protect`] | protection |
//! | [`query`] | what is where |
//! | [`reset`] | contents given up |
//! | [`resident`] | which pages are in memory |
//! | [`secure`] | ranges that must stay accessible |
//! | [`stack`] | growth of stacks |
//! | [`write_watch`] | which pages were written |
//! | [`software`] | memory read, written and copied without a processor |

pub mod allocate;
pub(crate) mod delete;
pub mod free;
pub mod large_pages;
pub mod lock;
pub mod physical_pages;
pub mod placeholder;
pub mod protect;
pub mod query;
pub(crate) mod range;
pub mod reset;
pub mod resident;
pub mod secure;
pub mod software;
pub mod stack;
pub mod write_watch;

use crate::address_space::AddressSpaceId;
use crate::fault::Blocked;
use crate::manager::Manager;
use crate::operation::{Pause, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::working_set::WorkingSetGuard;
use range::Pending;

pub use allocate::{
    Allocate, AllocationType, CommitInView, Direction, MemoryUse, Placement, Region, Window,
};
pub use free::{Free, FreeType};
pub use large_pages::AllocateLargePages;
pub use lock::{Before, LockMemory, Locked, Locks, UnlockMemory};
pub use physical_pages::{
    AllocatePhysicalPages, FrameNumbers, FreePhysicalPages, MapPhysicalPages, WindowAddresses,
};
pub use placeholder::{ChangePlaceholder, PlaceholderChange};
pub use protect::{Protect, Protected};
pub use query::{AllocationInformation, MemoryInformation, MemoryState, Query, QueryAllocation};
pub use reset::Reset;
pub use resident::{
    ListWorkingSet, PageQuestions, PageSink, QueryPages, Residency, ResidentPage, Sharing,
};
pub use secure::{SecureMemory, UnsecureMemory};
pub use software::{Accessed, Copied, CopyMemory, MemoryAt, ReadMemory, Side, Stop, WriteMemory};

pub use stack::{GrowStack, StackGrowth, UserStack};
pub use write_watch::{GetWriteWatch, ResetWriteWatch, Watch};

/// What every call keeps between its steps.
#[derive(Debug)]
pub(crate) struct Call {
    space: AddressSpaceId,
    ownership: Ownership,
    pub(crate) pending: Pending,
}

/// Whether a call owns address creation in its space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ownership {
    No,
    Yes,
}

impl Call {
    pub(crate) const fn new(space: AddressSpaceId) -> Self {
        Self { space, ownership: Ownership::No, pending: Pending::new() }
    }
}

/// A call that is made in stages.
pub(crate) trait Stages<P: Platform> {
    /// What the call yields.
    type Output;

    /// What it keeps between its steps.
    fn call(&mut self) -> &mut Call;

    /// Checks the parameters that can be checked without looking at the space.
    fn check_parameters(&self) -> Result<(), NtStatus>;

    /// Whether a stage has begun that no other call may come in between.
    fn is_under_way(&self) -> bool;

    /// Goes on from the stage it is in, which nobody has come in between.
    fn proceed(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<Self::Output, Blocked>;

    /// Learns that a page table could not be read that the call has waited for. Fine when it goes
    /// on to take back what it has done; otherwise it ends with this status.
    fn refuse(&mut self, status: NtStatus) -> Result<(), NtStatus> {
        Err(status)
    }

    /// Gives back what the stage it is in holds, apart from the [`Call`].
    fn give_back(&mut self, manager: &Manager<P>) {
        let _ = manager;
    }

    /// Goes on under one hold of the working-set lock. Address creation is owned when that ends
    /// with the call under way, and not owned when the call has ended.
    fn hold(&mut self, manager: &Manager<P>) -> Result<Self::Output, Blocked> {
        if !self.is_under_way() {
            self.check_parameters()?;
        }
        let Call { space, ownership, .. } = *self.call();
        match self.call().pending.check(manager) {
            Err(Pause::Raise(status)) => {
                self.call().pending.holds.release(manager);
                self.refuse(status)?;
            }
            checked => checked?,
        }
        let mut entry = manager.enter();
        let mut set = match ownership {
            Ownership::Yes => {
                manager.lock_space(entry.token(), space).ok_or(NtStatus::INVALID_HANDLE)?
            }
            Ownership::No => {
                let set = manager.lock_live_space(entry.token(), space)?;
                set.address_creation_is_free()?;
                set
            }
        };
        let outcome = self.proceed(&mut set);
        let ended = matches!(outcome, Ok(_) | Err(Blocked::Pause(Pause::Raise(_))));
        match ownership {
            Ownership::No if !ended && self.is_under_way() => {
                set.own_address_creation();
                self.call().ownership = Ownership::Yes;
            }
            Ownership::Yes if ended => {
                set.disown_address_creation();
                self.call().ownership = Ownership::No;
            }
            _ => {}
        }
        outcome
    }

    /// The step of the operation.
    fn step_stages(&mut self, manager: &Manager<P>) -> Step<Self::Output> {
        let outcome = loop {
            let blocked = match self.hold(manager) {
                Ok(output) => break Ok(output),
                Err(blocked) => blocked,
            };
            match self.call().pending.holds.absorb(manager, blocked) {
                None => {}
                Some(Pause::Wait(wait)) => return Step::Wait(wait),
                Some(Pause::Raise(status)) => break Err(Pause::Raise(status)),
            }
        };
        self.end(manager);
        outcome.into()
    }

    /// Gives back all that the call holds, after its last step or when it is given up.
    fn end(&mut self, manager: &Manager<P>) {
        self.give_back(manager);
        let call = self.call();
        call.pending.holds.release(manager);
        if call.ownership == Ownership::Yes {
            call.ownership = Ownership::No;
            manager.disown_address_creation(call.space);
        }
    }
}
