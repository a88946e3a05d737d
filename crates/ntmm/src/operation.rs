//! Operations: everything that may have to wait.
//!
//! The manager never blocks. A fault, an allocation, a deletion is a value that is stepped
//! until it is done. A step that cannot go on returns [`Step::Wait`] with no lock held; the
//! host parks the thread (a kernel), runs another one (a simulator) and steps again when the
//! key is woken. Every step looks again at whatever may have changed.
//!
//! No wake-up is lost: before it parks a thread the host asks
//! [`Manager::still_pending`](crate::Manager::still_pending) under the lock its wake function
//! takes too. An operation that will not be stepped again is given to
//! [`Manager::abandon`](crate::Manager::abandon), which returns all it holds.

use crate::address_space::AddressSpaceId;
use crate::manager::Manager;
use crate::platform::{FlushTicket, Platform};
use crate::status::NtStatus;

/// Outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step<T> {
    /// Finished.
    Done(T),
    /// Step again once the key has been woken.
    Wait(Wait),
    /// Failed; the status goes to the caller or is raised in the thread.
    Raise(NtStatus),
}

/// Why a step ends before the operation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// Step again once the key has been woken.
    Wait(Wait),
    /// Fail.
    Raise(NtStatus),
}

impl From<Wait> for Pause {
    fn from(wait: Wait) -> Self {
        Self::Wait(wait)
    }
}

impl From<NtStatus> for Pause {
    fn from(status: NtStatus) -> Self {
        Self::Raise(status)
    }
}

impl<T> From<Result<T, Pause>> for Step<T> {
    fn from(outcome: Result<T, Pause>) -> Self {
        match outcome {
            Ok(output) => Self::Done(output),
            Err(Pause::Wait(wait)) => Self::Wait(wait),
            Err(Pause::Raise(status)) => Self::Raise(status),
        }
    }
}

/// What an operation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What will be woken.
    pub key: WaitKey,
    /// The state of the key when the operation decided to wait.
    pub epoch: Epoch,
}

/// Something to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitKey {
    /// The read of an in-page support block.
    InPage(InPageId),
    /// Available pages (MmAvailablePagesEvent).
    AvailablePages,
    /// A free in-page support block or flush batch.
    Records,
    /// Ownership of address creation in a space (NT's AddressCreationLock).
    AddressCreation(AddressSpaceId),
    /// A control area that somebody else is making or deleting.
    Sections,
    /// The acknowledgement of a flush by every processor. The platform wakes this one.
    Flush(FlushTicket),
}

/// Counts the wake-ups of a key, so that one between the decision to wait and the parking is
/// noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub(crate) u64);

/// Names an in-page support block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InPageId(pub(crate) u32);

/// An operation value.
pub trait Operation<P: Platform> {
    /// What it yields when it is done.
    type Output;

    /// Goes on as far as possible. Called at an interrupt level below DISPATCH_LEVEL, with no
    /// manager lock held.
    fn step(&mut self, manager: &Manager<P>) -> Step<Self::Output>;

    /// Gives back everything the operation holds. What it has already changed stays changed
    /// where the call it belongs to allows a partial effect, and is undone otherwise.
    fn abandon(self, manager: &Manager<P>);
}
