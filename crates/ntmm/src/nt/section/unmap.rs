//! NtUnmapViewOfSection and NtUnmapViewOfSectionEx (nt-api 14.8).

use ntmm_pte::{PagingMode, Va};

use crate::manager::Manager;
use crate::nt::constants::{MEM_PRESERVE_PLACEHOLDER, MEM_UNMAP_WITH_TRANSIENT_BOOST};
use crate::nt::profile::Placeholders;
use crate::nt::target::open;
use crate::nt::{Caller, Process, ProcessAccess, Stage};
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::section::UnmapView;
use crate::status::NtStatus;

/// The call. Yields its status.
#[derive(Debug)]
#[must_use]
pub struct UnmapViewOfSection {
    caller: Caller,
    process: Process,
    base: u64,
    /// Of the extended call.
    flags: Option<u32>,
    stage: Stage<UnmapView>,
}

impl UnmapViewOfSection {
    /// Unmaps the view that BaseAddress lies in.
    pub const fn new(caller: Caller, process: Process, base: u64) -> Self {
        Self { caller, process, base, flags: None, stage: Stage::Unchecked }
    }

    /// The extended call, with Flags.
    pub const fn extended(caller: Caller, process: Process, base: u64, flags: u32) -> Self {
        Self { caller, process, base, flags: Some(flags), stage: Stage::Unchecked }
    }
}

/// The rows of 14.8.
fn check<M: PagingMode>(
    caller: &Caller,
    process: Process,
    base: u64,
    flags: Option<u32>,
) -> Result<UnmapView, NtStatus> {
    if flags.is_some() && caller.behaviour().placeholders == Placeholders::Unknown {
        return Err(NtStatus::NOT_IMPLEMENTED);
    }
    let flags = flags.unwrap_or(0);
    if flags & !(MEM_PRESERVE_PLACEHOLDER | MEM_UNMAP_WITH_TRANSIENT_BOOST) != 0 {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let base = Va::new(base);
    if base > M::HIGHEST_USER_ADDRESS {
        return Err(NtStatus::NOT_MAPPED_VIEW);
    }
    let space = open(caller, process, &[ProcessAccess::VM_OPERATION])?;
    let call = UnmapView::new(space, base);
    Ok(if flags & MEM_PRESERVE_PLACEHOLDER == 0 { call } else { call.leaving_placeholder() })
}

impl<P: Platform> Operation<P> for UnmapViewOfSection {
    type Output = NtStatus;

    fn step(&mut self, manager: &Manager<P>) -> Step<NtStatus> {
        let Self { caller, process, base, flags, stage } = self;
        let step = stage.step(manager, || check::<P::Paging>(caller, *process, *base, *flags));
        step.map(|result| result.err().unwrap_or(NtStatus::SUCCESS))
    }

    fn abandon(self, manager: &Manager<P>) {
        self.stage.abandon(manager);
    }
}
