//! NtAllocateUserPhysicalPages, NtFreeUserPhysicalPages, NtMapUserPhysicalPages and
//! NtMapUserPhysicalPagesScatter (nt-api 18).
//!
//! The specification leaves the order of the checks open, and the codes of some of them. Here a
//! count that no array can have is told by its parameter's number, then come the arrays, then the
//! handle; a wrong address is told as parameter 1, a wrong frame as a conflict. A call on no pages
//! succeeds, unless what it looks at all the same is wrong: a handle, the base of a run that is no
//! user address, an array that cannot be read.

use ntmm_pte::{PagingMode, Pfn, Va};

use super::target::open;
use super::{Caller, Captured, Outcome, Privileges, Process, ProcessAccess, Stage};
use crate::address_space::AddressSpaceId;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::virtual_memory::{
    AllocatePhysicalPages, FrameNumbers, FreePhysicalPages, MapPhysicalPages, WindowAddresses,
};

/// Frame numbers as a caller passes them.
#[derive(Clone, Copy, Debug)]
struct RawFrames<'b>(&'b [u64]);

impl FrameNumbers for RawFrames<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn frame(&self, place: usize) -> Option<Pfn> {
        self.0.get(place).and_then(|&number| u32::try_from(number).ok()).map(Pfn::new)
    }
}

/// Addresses as a caller passes them.
#[derive(Clone, Copy, Debug)]
struct RawAddresses<'b>(&'b [u64]);

impl WindowAddresses for RawAddresses<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn address(&self, place: usize) -> Option<Va> {
        self.0.get(place).copied().map(Va::new)
    }
}

/// A count of entries as long as pointers, which an array in a program can have.
fn check_count<M: PagingMode>(caller: &Caller, count: u64) -> Result<u64, NtStatus> {
    if count > M::HIGHEST_USER_ADDRESS.get() / caller.width.bytes() {
        return Err(NtStatus::INVALID_PARAMETER_2);
    }
    Ok(count)
}

/// The first `count` entries of an array, of which the host has read at least as many.
fn entries(array: &[u64], count: u64) -> Result<&[u64], NtStatus> {
    let length = usize::try_from(count).ok();
    length.and_then(|length| array.get(..length)).ok_or(NtStatus::ACCESS_VIOLATION)
}

/// The parameters of NtAllocateUserPhysicalPages as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocatePagesParameters {
    /// ProcessHandle.
    pub process: Process,
    /// What NumberOfPages points to.
    pub count: Captured,
    /// Whether UserPfnArray, as long as the count says, can be written. Not asked before the
    /// count has been found good.
    pub array: Captured<()>,
}

/// NtAllocateUserPhysicalPages. Yields what to write through NumberOfPages; so many entries of the
/// array that was lent hold the pages, ascending.
///
/// The host lends room for frame numbers: as much as the count says, or as much of it as it likes
/// to give.
#[derive(Debug)]
#[must_use]
pub struct AllocateUserPhysicalPages<'b> {
    caller: Caller,
    parameters: AllocatePagesParameters,
    room: Option<&'b mut [Pfn]>,
    stage: Stage<AllocateSome<'b>>,
}

/// The typed call; none when no pages are asked for.
#[derive(Debug)]
struct AllocateSome<'b>(Option<AllocatePhysicalPages<'b>>);

impl<'b> AllocateUserPhysicalPages<'b> {
    /// The call with these parameters.
    pub const fn new(
        caller: Caller,
        parameters: AllocatePagesParameters,
        room: &'b mut [Pfn],
    ) -> Self {
        Self { caller, parameters, room: Some(room), stage: Stage::Unchecked }
    }
}

fn check_allocate<'b, M: PagingMode>(
    caller: &Caller,
    parameters: &AllocatePagesParameters,
    room: &'b mut [Pfn],
) -> Result<AllocateSome<'b>, NtStatus> {
    if !caller.holds(Privileges::LOCK_MEMORY) {
        return Err(NtStatus::PRIVILEGE_NOT_HELD);
    }
    let count = check_count::<M>(caller, parameters.count?)?;
    parameters.array?;
    let space = open(caller, parameters.process, &[ProcessAccess::VM_OPERATION])?;
    let length = usize::try_from(count).unwrap_or(usize::MAX).min(room.len());
    let room = room.get_mut(..length).unwrap_or_default();
    Ok(AllocateSome((count > 0).then(|| AllocatePhysicalPages::new(space, room))))
}

impl<P: Platform> Operation<P> for AllocateSome<'_> {
    type Output = usize;

    fn step(&mut self, manager: &Manager<P>) -> Step<usize> {
        self.0.as_mut().map_or(Step::Done(0), |call| call.step(manager))
    }

    fn abandon(self, manager: &Manager<P>) {
        if let Some(call) = self.0 {
            call.abandon(manager);
        }
    }
}

impl<P: Platform> Operation<P> for AllocateUserPhysicalPages<'_> {
    type Output = Outcome<u64>;

    fn step(&mut self, manager: &Manager<P>) -> Step<Outcome<u64>> {
        let Self { caller, parameters, room, stage } = self;
        let step = stage.step(manager, || {
            check_allocate::<P::Paging>(caller, parameters, room.take().unwrap_or_default())
        });
        step.map(|result| result.map(|granted| granted as u64).into())
    }

    fn abandon(self, manager: &Manager<P>) {
        self.stage.abandon(manager);
    }
}

/// The parameters of NtFreeUserPhysicalPages as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreePagesParameters<'b> {
    /// ProcessHandle.
    pub process: Process,
    /// What NumberOfPages points to.
    pub count: Captured,
    /// What UserPfnArray points to, at least as much as the count says. Not asked before the count
    /// has been found good.
    pub array: Captured<&'b [u64]>,
}

/// NtFreeUserPhysicalPages. Yields what to write through NumberOfPages.
#[derive(Debug)]
#[must_use]
pub struct FreeUserPhysicalPages<'b> {
    caller: Caller,
    parameters: FreePagesParameters<'b>,
    stage: Stage<FreePhysicalPages<RawFrames<'b>>>,
}

impl<'b> FreeUserPhysicalPages<'b> {
    /// The call with these parameters.
    pub const fn new(caller: Caller, parameters: FreePagesParameters<'b>) -> Self {
        Self { caller, parameters, stage: Stage::Unchecked }
    }
}

impl<P: Platform> Operation<P> for FreeUserPhysicalPages<'_> {
    type Output = Outcome<u64>;

    fn step(&mut self, manager: &Manager<P>) -> Step<Outcome<u64>> {
        let Self { caller, parameters, stage } = self;
        let step = stage.step(manager, || {
            let count = check_count::<P::Paging>(caller, parameters.count?)?;
            let frames = RawFrames(entries(parameters.array?, count)?);
            let space = open(caller, parameters.process, &[ProcessAccess::VM_OPERATION])?;
            Ok(FreePhysicalPages::new(space, frames))
        });
        step.map(|result| result.map(|freed| freed as u64).into())
    }

    fn abandon(self, manager: &Manager<P>) {
        self.stage.abandon(manager);
    }
}

/// The parameters of NtMapUserPhysicalPages and NtMapUserPhysicalPagesScatter as they come. Both
/// are about the calling process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapPagesParameters<'b> {
    /// Where the pages go.
    pub addresses: MapAddresses<'b>,
    /// NumberOfPages.
    pub count: u64,
    /// What UserPfnArray points to, at least as much as the count says; none for the null pointer,
    /// which asks for pages to be unmapped.
    pub frames: Captured<Option<&'b [u64]>>,
}

/// Where pages are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapAddresses<'b> {
    /// VirtualAddress of NtMapUserPhysicalPages: from here on.
    From(u64),
    /// What VirtualAddresses of NtMapUserPhysicalPagesScatter points to, at least as much as the
    /// count says.
    Scattered(Captured<&'b [u64]>),
}

/// NtMapUserPhysicalPages or NtMapUserPhysicalPagesScatter. Yields its status.
#[derive(Debug)]
#[must_use]
pub struct MapUserPhysicalPages<'b> {
    caller: Caller,
    space: AddressSpaceId,
    parameters: MapPagesParameters<'b>,
    stage: Stage<MapPhysicalPages<RawAddresses<'b>, RawFrames<'b>>>,
}

impl<'b> MapUserPhysicalPages<'b> {
    /// The call with these parameters by the process of `space`.
    pub const fn new(
        caller: Caller,
        space: AddressSpaceId,
        parameters: MapPagesParameters<'b>,
    ) -> Self {
        Self { caller, space, parameters, stage: Stage::Unchecked }
    }
}

fn check_map<'b, M: PagingMode>(
    caller: &Caller,
    space: AddressSpaceId,
    parameters: &MapPagesParameters<'b>,
) -> Result<MapPhysicalPages<RawAddresses<'b>, RawFrames<'b>>, NtStatus> {
    let MapPagesParameters { addresses, count, frames } = *parameters;
    let count = check_count::<M>(caller, count)?;
    if let MapAddresses::From(base) = addresses
        && base > M::HIGHEST_USER_ADDRESS.get()
    {
        return Err(NtStatus::INVALID_PARAMETER_1);
    }
    let frames = || frames?.map(|frames| entries(frames, count).map(RawFrames)).transpose();
    match addresses {
        MapAddresses::From(base) => Ok(match frames()? {
            Some(frames) => MapPhysicalPages::at(space, Va::new(base), frames),
            None => MapPhysicalPages::unmap_at(space, Va::new(base), count as usize),
        }),
        MapAddresses::Scattered(addresses) => {
            let addresses = RawAddresses(entries(addresses?, count)?);
            Ok(match frames()? {
                Some(frames) => MapPhysicalPages::scattered(space, addresses, frames),
                None => MapPhysicalPages::unmap_scattered(space, addresses),
            })
        }
    }
}

impl<P: Platform> Operation<P> for MapUserPhysicalPages<'_> {
    type Output = NtStatus;

    fn step(&mut self, manager: &Manager<P>) -> Step<NtStatus> {
        let Self { caller, space, parameters, stage } = self;
        let step = stage.step(manager, || check_map::<P::Paging>(caller, *space, parameters));
        step.map(|result| result.map_or_else(|status| status, |()| NtStatus::SUCCESS))
    }

    fn abandon(self, manager: &Manager<P>) {
        self.stage.abandon(manager);
    }
}
