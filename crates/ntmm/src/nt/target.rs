//! The process a call is about, as its handle names it (nt-api 0.3 rule 7, 1.4).

use super::Caller;
use crate::address_space::AddressSpaceId;
use crate::fault::ProcessorMode;
use crate::status::NtStatus;

bitflags::bitflags! {
    /// Rights to a process that a handle grants.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ProcessAccess: u32 {
        /// PROCESS_VM_OPERATION: change its address space.
        const VM_OPERATION = 0x8;
        /// PROCESS_VM_READ: read its memory.
        const VM_READ = 0x10;
        /// PROCESS_VM_WRITE: write its memory.
        const VM_WRITE = 0x20;
        /// PROCESS_QUERY_INFORMATION.
        const QUERY_INFORMATION = 0x400;
        /// PROCESS_QUERY_LIMITED_INFORMATION.
        const QUERY_LIMITED_INFORMATION = 0x1000;
        /// Whatever else a handle may grant.
        const _ = !0;
    }
}

/// A process and what may be done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its address space.
    pub space: AddressSpaceId,
    /// The rights of the handle.
    pub access: ProcessAccess,
}

impl Target {
    /// The process behind the handle -1, which grants everything.
    #[must_use]
    pub const fn current(space: AddressSpaceId) -> Self {
        Self { space, access: ProcessAccess::all() }
    }
}

/// What a handle stands for: a process, or the status that says why it does not
/// ([`NtStatus::INVALID_HANDLE`], [`NtStatus::OBJECT_TYPE_MISMATCH`],
/// [`NtStatus::PROCESS_IS_TERMINATING`]).
pub type Process = Result<Target, NtStatus>;

/// The address space behind `process`, if its handle grants one of the sets in `wanted`.
pub(super) fn open(
    caller: &Caller,
    process: Process,
    wanted: &[ProcessAccess],
) -> Result<AddressSpaceId, NtStatus> {
    let target = process?;
    let granted = wanted.iter().any(|&set| target.access.contains(set));
    if granted || caller.mode == ProcessorMode::Kernel {
        Ok(target.space)
    } else {
        Err(NtStatus::ACCESS_DENIED)
    }
}
