//! NtFreeVirtualMemory (nt-api 4).

use ntmm_pte::{Bytes, PagingMode, Va};

use super::constants::{
    MEM_COALESCE_PLACEHOLDERS, MEM_DECOMMIT, MEM_PRESERVE_PLACEHOLDER, MEM_RELEASE,
};
use super::profile::{Behaviour, Placeholders, WholeDecommit};
use super::target::open;
use super::{Caller, Captured, Outcome, Process, ProcessAccess, Range, Stage};
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::virtual_memory::{ChangePlaceholder, Free, FreeType, PlaceholderChange, Region};

/// The parameters of the call as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeParameters {
    /// ProcessHandle.
    pub process: Process,
    /// What BaseAddress points to.
    pub base: Captured,
    /// What RegionSize points to, in bytes.
    pub size: Captured,
    /// FreeType, MEM_* bits.
    pub kind: u32,
}

/// The call. Yields the range in whole pages.
#[derive(Debug)]
#[must_use]
pub struct FreeVirtualMemory {
    caller: Caller,
    parameters: FreeParameters,
    stage: Stage<Call>,
}

/// The typed call it comes down to.
#[derive(Debug)]
enum Call {
    Free(Free),
    Placeholder(ChangePlaceholder),
}

/// What is freed, and into what.
#[derive(Clone, Copy)]
enum Kind {
    Memory(FreeType),
    Placeholder(PlaceholderChange),
}

impl FreeVirtualMemory {
    /// The call with these parameters.
    pub const fn new(caller: Caller, parameters: FreeParameters) -> Self {
        Self { caller, parameters, stage: Stage::Unchecked }
    }
}

impl Kind {
    /// Row 1 of 4.1.
    fn parse(kind: u32, behaviour: &Behaviour) -> Result<Self, NtStatus> {
        const PRESERVE: u32 = MEM_RELEASE | MEM_PRESERVE_PLACEHOLDER;
        const COALESCE: u32 = MEM_RELEASE | MEM_COALESCE_PLACEHOLDERS;
        let known = behaviour.placeholders == Placeholders::Known;
        match kind {
            MEM_DECOMMIT => Ok(Self::Memory(FreeType::Decommit)),
            MEM_RELEASE => Ok(Self::Memory(FreeType::Release)),
            PRESERVE if known => Ok(Self::Placeholder(PlaceholderChange::Preserve)),
            COALESCE if known => Ok(Self::Placeholder(PlaceholderChange::Coalesce)),
            _ => Err(NtStatus::INVALID_PARAMETER_4),
        }
    }
}

/// Rows 1 to 5 of 4.1, and the rows of 4.3 on the size.
fn check<M: PagingMode>(caller: &Caller, parameters: &FreeParameters) -> Result<Call, NtStatus> {
    let kind = Kind::parse(parameters.kind, caller.behaviour())?;
    let (base, size) = (parameters.base?, parameters.size?);
    if base > M::HIGHEST_USER_ADDRESS.get() {
        return Err(NtStatus::INVALID_PARAMETER_2);
    }
    if size > M::HIGHEST_USER_ADDRESS.get() + 1 - base {
        return Err(NtStatus::INVALID_PARAMETER_3);
    }
    let (from, bytes) = (Va::new(base), Bytes::new(size));
    match kind {
        Kind::Placeholder(_) if size == 0 => Err(NtStatus::INVALID_PARAMETER_3),
        Kind::Placeholder(change) => {
            let space = open(caller, parameters.process, &[ProcessAccess::VM_OPERATION])?;
            Ok(Call::Placeholder(ChangePlaceholder::new(space, from, bytes, change)))
        }
        Kind::Memory(kind) => {
            let space = open(caller, parameters.process, &[ProcessAccess::VM_OPERATION])?;
            Ok(Call::Free(Free::new(space, from, bytes, kind)))
        }
    }
}

/// What is written back.
fn written(caller: &Caller, parameters: &FreeParameters, region: Region) -> Range {
    let whole_decommit = parameters.kind == MEM_DECOMMIT && parameters.size == Ok(0);
    match caller.behaviour().whole_decommit {
        WholeDecommit::Zero if whole_decommit => Range { base: region.base.get(), size: 0 },
        _ => region.into(),
    }
}

impl<P: Platform> Operation<P> for FreeVirtualMemory {
    type Output = Outcome;

    fn step(&mut self, manager: &Manager<P>) -> Step<Outcome> {
        let Self { caller, parameters, stage } = self;
        let step = stage.step(manager, || check::<P::Paging>(caller, parameters));
        step.map(|result| result.map(|region| written(caller, parameters, region)).into())
    }

    fn abandon(self, manager: &Manager<P>) {
        self.stage.abandon(manager);
    }
}

impl<P: Platform> Operation<P> for Call {
    type Output = Region;

    fn step(&mut self, manager: &Manager<P>) -> Step<Region> {
        match self {
            Self::Free(call) => call.step(manager),
            Self::Placeholder(call) => call.step(manager),
        }
    }

    fn abandon(self, manager: &Manager<P>) {
        match self {
            Self::Free(call) => call.abandon(manager),
            Self::Placeholder(call) => call.abandon(manager),
        }
    }
}
