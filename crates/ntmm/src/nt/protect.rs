//! NtProtectVirtualMemory (nt-api 5).

use ntmm_pte::protection::PAGE_NOACCESS;
use ntmm_pte::{Bytes, PagingMode, Protection, Va};

use super::profile::{Behaviour, Caching, OldProtection};
use super::target::open;
use super::{Caller, Captured, Process, ProcessAccess, Range, Stage};
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::virtual_memory::{Protect, Protected};

/// The parameters of the call as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtectParameters {
    /// ProcessHandle.
    pub process: Process,
    /// What BaseAddress points to.
    pub base: Captured,
    /// What NumberOfBytesToProtect points to.
    pub size: Captured,
    /// NewAccessProtection, PAGE_* bits.
    pub protection: u32,
    /// Whether OldAccessProtection can be written.
    pub old: Captured<()>,
}

/// How the call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtectOutcome {
    /// The status to return.
    pub status: NtStatus,
    /// The range in whole pages, when it is to be written back.
    pub output: Option<Range>,
    /// PAGE_* bits for OldAccessProtection, when something is to be written there: some failures
    /// do so too.
    pub old: Option<u32>,
}

/// The call. Yields the range in whole pages and what its first page's protection was.
#[derive(Debug)]
#[must_use]
pub struct ProtectVirtualMemory {
    caller: Caller,
    parameters: ProtectParameters,
    stage: Stage<Protect>,
}

impl ProtectVirtualMemory {
    /// The call with these parameters.
    pub const fn new(caller: Caller, parameters: ProtectParameters) -> Self {
        Self { caller, parameters, stage: Stage::Unchecked }
    }
}

/// Rows 1 to 5 of 5.1; the rest is the typed call's.
fn check<M: PagingMode>(
    caller: &Caller,
    parameters: &ProtectParameters,
) -> Result<Protect, NtStatus> {
    let protection = Protection::from_page_flags(parameters.protection)
        .map_err(|_| NtStatus::INVALID_PAGE_PROTECTION)?;
    let (base, size) = (parameters.base?, parameters.size?);
    parameters.old?;
    let highest = M::HIGHEST_USER_ADDRESS.get();
    if base > highest {
        return Err(NtStatus::INVALID_PARAMETER_2);
    }
    if size == 0 || size > highest + 1 - base {
        return Err(NtStatus::INVALID_PARAMETER_3);
    }
    let space = open(caller, parameters.process, &[ProcessAccess::VM_OPERATION])?;
    let behaviour = caller.behaviour();
    let call = Protect::new(space, Va::new(base), Bytes::new(size), protection)
        .refusing_write_copy_with(behaviour.private_write_copy);
    Ok(match behaviour.caching {
        Caching::OfPage => call,
        Caching::OfAllocation => call.keeping_caching(),
    })
}

fn outcome(behaviour: &Behaviour, result: Result<Protected, NtStatus>) -> ProtectOutcome {
    match result {
        Ok(Protected { region, old }) => ProtectOutcome {
            status: NtStatus::SUCCESS,
            output: Some(region.into()),
            old: Some(old.to_page_flags()),
        },
        Err(status) => {
            // Rows 6 and 11.
            let absent =
                matches!(status, NtStatus::CONFLICTING_ADDRESSES | NtStatus::NOT_COMMITTED);
            let old = match behaviour.old_protection {
                OldProtection::NoAccess if absent => Some(PAGE_NOACCESS),
                _ => None,
            };
            ProtectOutcome { status, output: None, old }
        }
    }
}

impl<P: Platform> Operation<P> for ProtectVirtualMemory {
    type Output = ProtectOutcome;

    fn step(&mut self, manager: &Manager<P>) -> Step<ProtectOutcome> {
        let Self { caller, parameters, stage } = self;
        let step = stage.step(manager, || check::<P::Paging>(caller, parameters));
        step.map(|result| outcome(caller.behaviour(), result))
    }

    fn abandon(self, manager: &Manager<P>) {
        self.stage.abandon(manager);
    }
}
