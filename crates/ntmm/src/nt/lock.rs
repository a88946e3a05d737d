//! NtLockVirtualMemory and NtUnlockVirtualMemory (nt-api 8).

use ntmm_pte::{Bytes, PagingMode, Va};

use super::constants::{MAP_PROCESS, MAP_SYSTEM};
use super::target::open;
use super::{Caller, Captured, Outcome, Privileges, Process, ProcessAccess, Stage};
use crate::address_space::AddressSpaceId;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::virtual_memory::{Before, LockMemory, Locked, Locks, UnlockMemory};

/// The parameters of both calls as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockParameters {
    /// ProcessHandle.
    pub process: Process,
    /// What BaseAddress points to.
    pub base: Captured,
    /// What NumberOfBytesToLock, or to unlock, points to.
    pub size: Captured,
    /// MapType, MAP_* bits.
    pub kind: u32,
}

/// NtLockVirtualMemory. Yields the range in whole pages; its status is
/// [`NtStatus::WAS_LOCKED`] when some of it was locked before.
#[derive(Debug)]
#[must_use]
pub struct LockVirtualMemory {
    caller: Caller,
    parameters: LockParameters,
    stage: Stage<LockMemory>,
}

/// NtUnlockVirtualMemory. Yields the range in whole pages.
#[derive(Debug)]
#[must_use]
pub struct UnlockVirtualMemory {
    caller: Caller,
    parameters: LockParameters,
    stage: Stage<UnlockMemory>,
}

impl LockVirtualMemory {
    /// The call with these parameters.
    pub const fn new(caller: Caller, parameters: LockParameters) -> Self {
        Self { caller, parameters, stage: Stage::Unchecked }
    }
}

impl UnlockVirtualMemory {
    /// The call with these parameters.
    pub const fn new(caller: Caller, parameters: LockParameters) -> Self {
        Self { caller, parameters, stage: Stage::Unchecked }
    }
}

/// What the checks leave: space, range, and ways to lock.
type Checked = (AddressSpaceId, Va, Bytes, Locks);

/// Rows 1 to 5 of 8.
fn check<M: PagingMode>(caller: &Caller, parameters: &LockParameters) -> Result<Checked, NtStatus> {
    const BOTH: u32 = MAP_PROCESS | MAP_SYSTEM;
    let locks = match parameters.kind {
        MAP_PROCESS => Locks::WorkingSet,
        MAP_SYSTEM => Locks::Memory,
        BOTH => Locks::Both,
        _ => return Err(NtStatus::INVALID_PARAMETER),
    };
    let (base, size) = (parameters.base?, parameters.size?);
    let highest = M::HIGHEST_USER_ADDRESS.get();
    if base > highest || size == 0 || size > highest + 1 - base {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let space = open(caller, parameters.process, &[ProcessAccess::VM_OPERATION])?;
    if parameters.kind & MAP_SYSTEM != 0 && !caller.holds(Privileges::LOCK_MEMORY) {
        return Err(NtStatus::PRIVILEGE_NOT_HELD);
    }
    Ok((space, Va::new(base), Bytes::new(size), locks))
}

impl<P: Platform> Operation<P> for LockVirtualMemory {
    type Output = Outcome;

    fn step(&mut self, manager: &Manager<P>) -> Step<Outcome> {
        let Self { caller, parameters, stage } = self;
        let step = stage.step(manager, || {
            let (space, base, size, locks) = check::<P::Paging>(caller, parameters)?;
            Ok(LockMemory::new(space, base, size, locks))
        });
        step.map(|result| match result {
            Ok(Locked { region, before: Before::Locked }) => {
                Outcome { status: NtStatus::WAS_LOCKED, output: Some(region.into()) }
            }
            Ok(Locked { region, before: Before::Unlocked }) => Outcome::success(region.into()),
            Err(status) => Outcome::failure(status),
        })
    }

    fn abandon(self, manager: &Manager<P>) {
        self.stage.abandon(manager);
    }
}

impl<P: Platform> Operation<P> for UnlockVirtualMemory {
    type Output = Outcome;

    fn step(&mut self, manager: &Manager<P>) -> Step<Outcome> {
        let Self { caller, parameters, stage } = self;
        let step = stage.step(manager, || {
            let (space, base, size, locks) = check::<P::Paging>(caller, parameters)?;
            Ok(UnlockMemory::new(space, base, size, locks))
        });
        step.map(|result| result.map(Into::into).into())
    }

    fn abandon(self, manager: &Manager<P>) {
        self.stage.abandon(manager);
    }
}
