//! NtFlushVirtualMemory (nt-api 10).
//!
//! Only views of data files have anything to flush.

use ntmm_pte::{Bytes, PagingMode, Va};

use super::target::open;
use super::{Caller, Captured, Outcome, Process, ProcessAccess, Stage};
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::section::FlushView;
use crate::status::NtStatus;

/// The parameters of the call as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushParameters {
    /// ProcessHandle.
    pub process: Process,
    /// What BaseAddress points to.
    pub base: Captured,
    /// What RegionSize points to, in bytes; 0 for all up to the end of the view.
    pub size: Captured,
    /// Whether IoStatus can be written.
    pub io_status: Captured<()>,
}

/// The call. Yields the range in whole pages.
#[derive(Debug)]
#[must_use]
pub struct FlushVirtualMemory {
    caller: Caller,
    parameters: FlushParameters,
    stage: Stage<FlushView>,
}

impl FlushVirtualMemory {
    /// The call with these parameters.
    pub const fn new(caller: Caller, parameters: FlushParameters) -> Self {
        Self { caller, parameters, stage: Stage::Unchecked }
    }
}

/// Rows 1 to 3 of 10; the rest is the typed call's.
fn check<M: PagingMode>(
    caller: &Caller,
    parameters: &FlushParameters,
) -> Result<FlushView, NtStatus> {
    let (base, size) = (parameters.base?, parameters.size?);
    parameters.io_status?;
    let highest = M::HIGHEST_USER_ADDRESS.get();
    if base > highest || size > highest + 1 - base {
        return Err(NtStatus::INVALID_PARAMETER_2);
    }
    let space = open(caller, parameters.process, &[ProcessAccess::VM_OPERATION])?;
    Ok(FlushView::new(space, Va::new(base), Bytes::new(size)))
}

impl<P: Platform> Operation<P> for FlushVirtualMemory {
    type Output = Outcome;

    fn step(&mut self, manager: &Manager<P>) -> Step<Outcome> {
        let Self { caller, parameters, stage } = self;
        let step = stage.step(manager, || check::<P::Paging>(caller, parameters));
        step.map(|result| result.map(Into::into).into())
    }

    fn abandon(self, manager: &Manager<P>) {
        self.stage.abandon(manager);
    }
}
