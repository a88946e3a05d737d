//! NtAllocateUserPhysicalPages and its relatives (nt-api 18).
//!
//! Windows for physical pages can be reserved, queried and released, but the manager hands out no
//! frames for them: an allocation ends as it does on a machine that has none to spare, and frames
//! that nobody owns can be neither mapped nor freed.

use super::target::open;
use super::{Caller, Captured, Privileges, Process, ProcessAccess};
use crate::status::NtStatus;

/// The parameters of NtAllocateUserPhysicalPages and NtFreeUserPhysicalPages as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhysicalPagesParameters {
    /// ProcessHandle.
    pub process: Process,
    /// What NumberOfPages points to.
    pub count: Captured,
    /// Whether UserPfnArray can be written, or read.
    pub array: Captured<()>,
}

/// NtAllocateUserPhysicalPages: its status. Nothing is written back.
#[must_use]
pub fn allocate_user_physical_pages(
    caller: &Caller,
    parameters: &PhysicalPagesParameters,
) -> NtStatus {
    if !caller.holds(Privileges::LOCK_MEMORY) {
        return NtStatus::PRIVILEGE_NOT_HELD;
    }
    refuse(caller, parameters, NtStatus::INSUFFICIENT_RESOURCES)
}

/// NtFreeUserPhysicalPages: its status. Nothing is written back.
#[must_use]
pub fn free_user_physical_pages(caller: &Caller, parameters: &PhysicalPagesParameters) -> NtStatus {
    refuse(caller, parameters, NtStatus::CONFLICTING_ADDRESSES)
}

fn refuse(caller: &Caller, parameters: &PhysicalPagesParameters, status: NtStatus) -> NtStatus {
    let PhysicalPagesParameters { process, count, array } = *parameters;
    let checked = count
        .and_then(|count| array.map(|()| count))
        .and_then(|count| open(caller, process, &[ProcessAccess::VM_OPERATION]).map(|_| count));
    match checked {
        Ok(0) => NtStatus::SUCCESS,
        Ok(_) => status,
        Err(status) => status,
    }
}
