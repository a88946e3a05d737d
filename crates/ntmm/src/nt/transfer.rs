//! NtReadVirtualMemory and NtWriteVirtualMemory (nt-api 9).
//!
//! Both copy between the memory of the caller and that of the process a handle names, which may
//! be the same.

use ntmm_pte::{Bytes, PagingMode, Va};

use super::profile::{Behaviour, BrokenCount};
use super::target::open;
use super::{Caller, Captured, Process, ProcessAccess, Stage};
use crate::address_space::AddressSpaceId;
use crate::fault::ProcessorMode;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::virtual_memory::{Copied, CopyMemory, MemoryAt, Side};

/// The parameters of both calls as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferParameters {
    /// ProcessHandle.
    pub process: Process,
    /// BaseAddress, in that process.
    pub base: u64,
    /// The address space of the caller.
    pub local: AddressSpaceId,
    /// Buffer, in that space.
    pub buffer: u64,
    /// NumberOfBytesToRead, or to write.
    pub size: u64,
    /// Whether the pointer to the number of bytes transferred, unless it is null, can be written.
    pub done: Captured<()>,
}

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Out of the process.
    Read,
    /// Into the process.
    Write,
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferOutcome {
    /// The status to return.
    pub status: NtStatus,
    /// Number of bytes transferred, to be written if the caller wants it: failures write it too,
    /// unless there is none here.
    pub done: Option<u64>,
}

/// The call: [`read`](Self::read) or [`write`](Self::write).
#[derive(Debug)]
#[must_use]
pub struct TransferVirtualMemory {
    caller: Caller,
    parameters: TransferParameters,
    way: Way,
    stage: Stage<CopyMemory>,
}

impl TransferVirtualMemory {
    /// NtReadVirtualMemory.
    pub const fn read(caller: Caller, parameters: TransferParameters) -> Self {
        Self { caller, parameters, way: Way::Read, stage: Stage::Unchecked }
    }

    /// NtWriteVirtualMemory.
    pub const fn write(caller: Caller, parameters: TransferParameters) -> Self {
        Self { caller, parameters, way: Way::Write, stage: Stage::Unchecked }
    }
}

/// Rows 1 and 2 of 9, after which the number of bytes is written.
fn check_range<M: PagingMode>(
    caller: &Caller,
    parameters: &TransferParameters,
) -> Result<(), NtStatus> {
    let outside = |base: u64| {
        let last = base.checked_add(parameters.size);
        last.is_none_or(|end| end > M::HIGHEST_USER_ADDRESS.get() + 1)
    };
    let checked = caller.mode == ProcessorMode::User;
    if checked && (outside(parameters.base) || outside(parameters.buffer)) {
        return Err(NtStatus::ACCESS_VIOLATION);
    }
    parameters.done
}

/// Row 4 of 9, and the typed call.
fn check(
    caller: &Caller,
    parameters: &TransferParameters,
    way: Way,
) -> Result<CopyMemory, NtStatus> {
    let TransferParameters { process, base, local, buffer, size, .. } = *parameters;
    let wanted = match way {
        Way::Read => ProcessAccess::VM_READ,
        Way::Write => ProcessAccess::VM_WRITE,
    };
    let space = open(caller, process, &[wanted])?;
    let remote = MemoryAt { space, va: Va::new(base) };
    let local = MemoryAt { space: local, va: Va::new(buffer) };
    let size = Bytes::new(size);
    Ok(match way {
        Way::Read => CopyMemory::new(remote, local, size),
        Way::Write => CopyMemory::new(local, remote, size),
    })
}

/// Rows 5 to 8 of 9.
fn outcome(behaviour: &Behaviour, way: Way, result: Result<Copied, NtStatus>) -> TransferOutcome {
    let copied = match result {
        Ok(copied) => copied,
        Err(status) => return TransferOutcome { status, done: Some(0) },
    };
    let bytes = copied.bytes.get();
    let (status, done) = match copied.stop {
        None => (NtStatus::SUCCESS, bytes),
        Some(stop) if stop.status == NtStatus::PROCESS_IS_TERMINATING => (stop.status, 0),
        Some(stop) if stop.side == Side::Source => (NtStatus::PARTIAL_COPY, bytes),
        Some(_) if bytes == 0 => match way {
            Way::Read => (behaviour.bad_buffer, 0),
            Way::Write => (NtStatus::PARTIAL_COPY, 0),
        },
        Some(_) => match behaviour.broken_copy.count {
            BrokenCount::Zero => (behaviour.broken_copy.status, 0),
            BrokenCount::Copied => (behaviour.broken_copy.status, bytes),
        },
    };
    TransferOutcome { status, done: Some(done) }
}

impl<P: Platform> Operation<P> for TransferVirtualMemory {
    type Output = TransferOutcome;

    fn step(&mut self, manager: &Manager<P>) -> Step<TransferOutcome> {
        let Self { caller, parameters, way, stage } = self;
        if matches!(stage, Stage::Unchecked) {
            if let Err(status) = check_range::<P::Paging>(caller, parameters) {
                return Step::Done(TransferOutcome { status, done: None });
            }
            // Row 3: the handle does not matter.
            if parameters.size == 0 {
                let status = NtStatus::SUCCESS;
                return Step::Done(TransferOutcome { status, done: Some(0) });
            }
        }
        let step = stage.step(manager, || check(caller, parameters, *way));
        step.map(|result| outcome(caller.behaviour(), *way, result))
    }

    fn abandon(self, manager: &Manager<P>) {
        self.stage.abandon(manager);
    }
}
