//! NtSetInformationVirtualMemory (nt-api 20): prefetching, the class that is specified.
//!
//! Prefetching is advice. The manager reads pages in clusters when they are touched and takes no
//! advice, so that the call comes down to its checks.

use ntmm_pte::PagingMode;

use super::profile::Prefetching;
use super::target::open;
use super::{Caller, Captured, Process, ProcessAccess};
use crate::address_space::AddressSpaceId;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;

/// VmPrefetchInformation.
const PREFETCH: u32 = 0;

/// Bytes of the information: flags.
const FLAGS_LENGTH: u64 = 4;

/// A MEMORY_RANGE_ENTRY: its address and its size in bytes.
pub type MemoryRange = (u64, u64);

/// The parameters of the call as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetInformationParameters<'b> {
    /// ProcessHandle.
    pub process: Process,
    /// VmInformationClass.
    pub class: u32,
    /// NumberOfEntries.
    pub count: u64,
    /// What VirtualAddresses points to, at least as much as the count says. Not asked before the
    /// count has been found good.
    pub ranges: Captured<&'b [MemoryRange]>,
    /// What VmInformation points to; none for the null pointer. Not asked before its length has
    /// been found good.
    pub information: Option<Captured<u32>>,
    /// VmInformationLength, in bytes.
    pub length: u64,
}

/// The call. Yields its status.
#[derive(Debug)]
#[must_use]
pub struct SetInformationVirtualMemory<'b> {
    caller: Caller,
    parameters: SetInformationParameters<'b>,
}

impl<'b> SetInformationVirtualMemory<'b> {
    /// The call with these parameters.
    pub const fn new(caller: Caller, parameters: SetInformationParameters<'b>) -> Self {
        Self { caller, parameters }
    }
}

/// The rows of 20 in their order, then the handle.
fn check<M: PagingMode>(
    caller: &Caller,
    parameters: &SetInformationParameters<'_>,
) -> Result<AddressSpaceId, NtStatus> {
    let SetInformationParameters { process, class, count, ranges, information, length } =
        *parameters;
    if caller.behaviour().prefetching == Prefetching::Unknown {
        return Err(NtStatus::NOT_IMPLEMENTED);
    }
    if class != PREFETCH {
        return Err(NtStatus::INVALID_PARAMETER_2);
    }
    let information = information.ok_or(NtStatus::INVALID_PARAMETER_5)?;
    if length != FLAGS_LENGTH {
        return Err(NtStatus::INVALID_PARAMETER_6);
    }
    information?;
    let end = M::HIGHEST_USER_ADDRESS.get() + 1;
    if count == 0 || count > end / (2 * caller.width.bytes()) {
        return Err(NtStatus::INVALID_PARAMETER_3);
    }
    let wanted = usize::try_from(count).ok().and_then(|count| ranges.ok()?.get(..count));
    for &(base, size) in wanted.ok_or(NtStatus::ACCESS_VIOLATION)? {
        if size == 0 || base >= end || size > end - base {
            return Err(NtStatus::INVALID_PARAMETER_4);
        }
    }
    open(caller, process, &[ProcessAccess::VM_OPERATION])
}

impl<P: Platform> Operation<P> for SetInformationVirtualMemory<'_> {
    type Output = NtStatus;

    fn step(&mut self, manager: &Manager<P>) -> Step<NtStatus> {
        let checked = check::<P::Paging>(&self.caller, &self.parameters).and_then(|space| {
            let mut entry = manager.enter();
            manager.lock_live_space(entry.token(), space).map(drop)
        });
        Step::Done(checked.err().unwrap_or(NtStatus::SUCCESS))
    }

    fn abandon(self, _manager: &Manager<P>) {}
}
