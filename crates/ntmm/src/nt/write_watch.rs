//! NtGetWriteWatch and NtResetWriteWatch (nt-api 17).

use ntmm_pte::{Bytes, PAGE_SIZE, PagingMode, Va};

use super::constants::WRITE_WATCH_FLAG_RESET;
use super::target::open;
use super::{Caller, Captured, Process, ProcessAccess, Stage};
use crate::address_space::AddressSpaceId;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::virtual_memory::{GetWriteWatch, ResetWriteWatch, Watch};

/// The parameters of NtGetWriteWatch as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteWatchParameters {
    /// ProcessHandle.
    pub process: Process,
    /// Flags, WRITE_WATCH_FLAG_* bits.
    pub flags: u32,
    /// BaseAddress.
    pub base: u64,
    /// RegionSize, in bytes.
    pub size: u64,
    /// Whether UserAddressArray, as long as the count says, can be written. Not asked before the
    /// count has been found good.
    pub array: Captured<()>,
    /// What EntriesInUserAddressArray points to.
    pub count: Captured,
    /// Whether Granularity can be written.
    pub granularity: Captured<()>,
}

/// What NtGetWriteWatch writes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenPages {
    /// Addresses stored, in ascending order; they are in the array that was lent.
    pub count: u64,
    /// Bytes in a page.
    pub granularity: u32,
}

/// NtGetWriteWatch.
///
/// The host lends room for addresses: as much as the count says, or as much of it as it likes to
/// give.
#[derive(Debug)]
#[must_use]
pub struct GetWriteWatchCall<'b> {
    caller: Caller,
    parameters: WriteWatchParameters,
    pages: Option<&'b mut [u64]>,
    stage: Stage<GetWriteWatch<'b>>,
}

impl<'b> GetWriteWatchCall<'b> {
    /// The call with these parameters.
    pub const fn new(
        caller: Caller,
        parameters: WriteWatchParameters,
        pages: &'b mut [u64],
    ) -> Self {
        Self { caller, parameters, pages: Some(pages), stage: Stage::Unchecked }
    }
}

/// Rows 1 and 2 of 17.
fn check_range<M: PagingMode>(base: u64, size: u64) -> Result<(), NtStatus> {
    let highest = M::HIGHEST_USER_ADDRESS.get();
    if base > highest {
        return Err(NtStatus::INVALID_PARAMETER_2);
    }
    if size > highest + 1 - base {
        return Err(NtStatus::INVALID_PARAMETER_3);
    }
    Ok(())
}

fn target(caller: &Caller, process: Process) -> Result<AddressSpaceId, NtStatus> {
    open(caller, process, &[ProcessAccess::VM_OPERATION])
}

/// Rows 1 to 9 of 17.
fn check<'b, M: PagingMode>(
    caller: &Caller,
    parameters: &WriteWatchParameters,
    pages: &'b mut [u64],
) -> Result<GetWriteWatch<'b>, NtStatus> {
    let WriteWatchParameters { process, flags, base, size, array, .. } = *parameters;
    check_range::<M>(base, size)?;
    let count = parameters.count?;
    parameters.granularity?;
    let longest = M::HIGHEST_USER_ADDRESS.get() / caller.width.bytes();
    if count == 0 || count > longest {
        return Err(NtStatus::INVALID_PARAMETER_5);
    }
    array?;
    let space = target(caller, process)?;
    if size == 0 {
        return Err(NtStatus::INVALID_PARAMETER_4);
    }
    let watch = match flags {
        0 => Watch::Keep,
        WRITE_WATCH_FLAG_RESET => Watch::Reset,
        _ => return Err(NtStatus::INVALID_PARAMETER_2),
    };
    let room = usize::try_from(count).unwrap_or(usize::MAX).min(pages.len());
    let pages = pages.get_mut(..room).unwrap_or_default();
    Ok(GetWriteWatch::new(space, Va::new(base), Bytes::new(size), watch, pages))
}

impl<P: Platform> Operation<P> for GetWriteWatchCall<'_> {
    type Output = super::Outcome<WrittenPages>;

    fn step(&mut self, manager: &Manager<P>) -> Step<Self::Output> {
        let Self { caller, parameters, pages, stage } = self;
        let step = stage.step(manager, || {
            check::<P::Paging>(caller, parameters, pages.take().unwrap_or_default())
        });
        let written = |count| WrittenPages { count: count as u64, granularity: PAGE_SIZE as u32 };
        step.map(|result| result.map(written).into())
    }

    fn abandon(self, manager: &Manager<P>) {
        self.stage.abandon(manager);
    }
}

/// NtResetWriteWatch. Yields its status.
#[derive(Debug)]
#[must_use]
pub struct ResetWriteWatchCall {
    caller: Caller,
    process: Process,
    base: u64,
    size: u64,
    stage: Stage<ResetWriteWatch>,
}

impl ResetWriteWatchCall {
    /// The call on `size` bytes at `base`.
    pub const fn new(caller: Caller, process: Process, base: u64, size: u64) -> Self {
        Self { caller, process, base, size, stage: Stage::Unchecked }
    }
}

impl<P: Platform> Operation<P> for ResetWriteWatchCall {
    type Output = NtStatus;

    fn step(&mut self, manager: &Manager<P>) -> Step<NtStatus> {
        let Self { caller, process, base, size, stage } = self;
        let step = stage.step(manager, || {
            check_range::<P::Paging>(*base, *size)?;
            let space = target(caller, *process)?;
            if *size == 0 {
                return Err(NtStatus::INVALID_PARAMETER_3);
            }
            Ok(ResetWriteWatch::new(space, Va::new(*base), Bytes::new(*size)))
        });
        step.map(|result| result.map_or_else(|status| status, |_| NtStatus::SUCCESS))
    }

    fn abandon(self, manager: &Manager<P>) {
        self.stage.abandon(manager);
    }
}
