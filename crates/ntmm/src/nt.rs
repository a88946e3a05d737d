//! The memory calls in the shape NT gives them: raw integers in, a status and values to write
//! back out, every check in NT's order.
//!
//! The calls of [`virtual_memory`](crate::virtual_memory) take types that nonsense does not fit
//! into. A system-call handler, an emulator or a sandbox has registers instead, and the order in
//! which a caller's mistakes are noticed is part of how Windows behaves. Each file here holds one
//! call: an [`Operation`] built from the raw parameters, which makes the checks
//! of its table in nt-api 2 to 18 row by row, runs the typed call, and says what is to be written
//! back. Such an operation never raises: its status is in what it yields.
//!
//! What a host does around a call:
//!
//! * it *captures* what pointers point to. A pointer that cannot be probed is
//!   `Err(`[`NtStatus::ACCESS_VIOLATION`]`)` ([`Captured`]) and is reported at its place in the
//!   order, which is seldom the first;
//! * it *resolves* the process handle into a [`Target`], or into the status that the handle
//!   deserves ([`Process`]); whether the handle grants the right is decided here;
//! * it says who calls ([`Caller`]): which versions' rules hold ([`Profile`]), from which mode,
//!   with which privileges, with pointers of which width;
//! * it writes back what the outcome holds, and nothing else.
//!
//! Nothing here is shared and nothing is locked: a value of this module belongs to its call.

mod allocate;
pub mod constants;
mod flush;
mod free;
mod lock;
mod physical_pages;
mod profile;
mod protect;
mod query;
mod requirements;
pub mod section;
mod set_information;
mod target;
mod transfer;
mod write_watch;
mod zero_bits;

pub use allocate::{AllocateParameters, AllocateVirtualMemory};
pub use flush::{FlushParameters, FlushVirtualMemory};
pub use free::{FreeParameters, FreeVirtualMemory};
pub use lock::{LockParameters, LockVirtualMemory, UnlockVirtualMemory};
pub use physical_pages::{
    AllocatePagesParameters, AllocateUserPhysicalPages, FreePagesParameters, FreeUserPhysicalPages,
    MapAddresses, MapPagesParameters, MapUserPhysicalPages,
};
pub use profile::{
    Behaviour, BrokenCopy, BrokenCount, Caching, GuardedStack, NullPage, OldProtection,
    Placeholders, Prefetching, Profile, SparseChecks, WholeDecommit,
};
pub use protect::{ProtectOutcome, ProtectParameters, ProtectVirtualMemory};
pub use query::{
    BasicInformation, ImageInformation, Information, QueryOutcome, QueryParameters,
    QueryVirtualMemory, RegionInformation,
};
pub use requirements::{AddressRequirements, ExtendedParameter};
pub use set_information::{MemoryRange, SetInformationParameters, SetInformationVirtualMemory};
pub use target::{Process, ProcessAccess, Target};
pub use transfer::{TransferOutcome, TransferParameters, TransferVirtualMemory};
pub use write_watch::{GetWriteWatchCall, ResetWriteWatchCall, WriteWatchParameters, WrittenPages};
pub use zero_bits::AddressLimit;

use ntmm_pte::protection::PAGE_GUARD;
use ntmm_pte::{Bytes, PagingMode, Va};

use crate::fault::ProcessorMode;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::virtual_memory::{Region, UserStack};

/// What a pointer parameter points to, or why that could not be probed.
pub type Captured<T = u64> = Result<T, NtStatus>;

bitflags::bitflags! {
    /// Privileges that memory calls ask for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Privileges: u8 {
        /// SeLockMemoryPrivilege: large pages, pages locked in memory, physical pages.
        const LOCK_MEMORY = 1;
    }
}

/// Width of the caller's pointers, which the layouts of what it reads depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointerWidth {
    /// A 32-bit program.
    Bits32,
    /// A 64-bit program.
    Bits64,
}

impl PointerWidth {
    /// The width native to a paging mode.
    #[must_use]
    pub const fn native<M: PagingMode>() -> Self {
        if M::ADDRESS_BITS == 32 { Self::Bits32 } else { Self::Bits64 }
    }

    /// Bytes in a pointer.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Bits32 => 4,
            Self::Bits64 => 8,
        }
    }
}

/// Who makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whose rules hold where versions differ.
    pub profile: Profile,
    /// Mode of the processor before the call. The kernel's handles are not asked for rights.
    pub mode: ProcessorMode,
    /// Privileges that are held and enabled.
    pub privileges: Privileges,
    /// Width of pointers.
    pub width: PointerWidth,
}

impl Caller {
    /// A program of the native width, without privileges.
    #[must_use]
    pub const fn program<M: PagingMode>(profile: Profile) -> Self {
        Self {
            profile,
            mode: ProcessorMode::User,
            privileges: Privileges::empty(),
            width: PointerWidth::native::<M>(),
        }
    }

    /// The rules that hold for it.
    #[must_use]
    pub const fn behaviour(&self) -> &'static Behaviour {
        self.profile.behaviour()
    }

    /// StackLimit of the calling thread after it has given `range` of its own process the
    /// protection `protection`, PAGE_* bits, by a call that yielded the range (nt-api 3.5).
    #[must_use]
    pub fn stack_limit_after(&self, stack: &UserStack, range: Range, protection: u32) -> Va {
        match self.behaviour().guarded_stack {
            GuardedStack::EndsAbove if protection & PAGE_GUARD != 0 => {
                let (base, size) = (Va::new(range.base), Bytes::new(range.size));
                stack.limit_after_guard(Region { base, size })
            }
            GuardedStack::EndsAbove | GuardedStack::Unchanged => stack.limit,
        }
    }

    /// Whether it holds `privileges`; the kernel always does.
    #[must_use]
    pub const fn holds(&self, privileges: Privileges) -> bool {
        matches!(self.mode, ProcessorMode::Kernel) || self.privileges.contains(privileges)
    }
}

/// A range as it is written back: rounded to whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// What to write through the base pointer.
    pub base: u64,
    /// What to write through the size pointer.
    pub size: u64,
}

impl From<Region> for Range {
    fn from(region: Region) -> Self {
        Self { base: region.base.get(), size: region.size.get() }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<T = Range> {
    /// The status to return.
    pub status: NtStatus,
    /// What to write back; none when the caller's variables keep their values.
    pub output: Option<T>,
}

impl<T> Outcome<T> {
    /// Success, with something to write back.
    pub(crate) const fn success(output: T) -> Self {
        Self { status: NtStatus::SUCCESS, output: Some(output) }
    }

    /// Failure: nothing is written back.
    pub(crate) const fn failure(status: NtStatus) -> Self {
        Self { status, output: None }
    }
}

impl<T> From<Result<T, NtStatus>> for Outcome<T> {
    fn from(result: Result<T, NtStatus>) -> Self {
        match result {
            Ok(output) => Self::success(output),
            Err(status) => Self::failure(status),
        }
    }
}

/// A call between its checks and its end.
#[derive(Debug)]
enum Stage<O> {
    /// Parameters not looked at.
    Unchecked,
    /// The typed call runs.
    Running(O),
    /// It has ended.
    Finished,
}

impl<O> Stage<O> {
    /// Checks in the first step, and steps the typed call. None: it waits.
    fn step<P: Platform>(
        &mut self,
        manager: &Manager<P>,
        check: impl FnOnce() -> Result<O, NtStatus>,
    ) -> Step<Result<O::Output, NtStatus>>
    where
        O: Operation<P>,
    {
        if matches!(self, Self::Unchecked) {
            match check() {
                Ok(call) => *self = Self::Running(call),
                Err(status) => {
                    *self = Self::Finished;
                    return Step::Done(Err(status));
                }
            }
        }
        let Self::Running(call) = self else {
            return Step::Done(Err(NtStatus::INVALID_PARAMETER));
        };
        let result = match call.step(manager) {
            Step::Wait(wait) => return Step::Wait(wait),
            Step::Done(output) => Ok(output),
            Step::Raise(status) => Err(status),
        };
        *self = Self::Finished;
        Step::Done(result)
    }

    /// Gives back what the typed call holds.
    fn abandon<P: Platform>(self, manager: &Manager<P>)
    where
        O: Operation<P>,
    {
        if let Self::Running(call) = self {
            call.abandon(manager);
        }
    }
}

impl<T> Step<T> {
    /// What a finished step yields, changed.
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Step<U> {
        match self {
            Self::Done(output) => Step::Done(change(output)),
            Self::Wait(wait) => Step::Wait(wait),
            Self::Raise(status) => Step::Raise(status),
        }
    }
}
