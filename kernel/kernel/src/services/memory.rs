//! The Nt calls on virtual memory.

use ntmm::NtStatus;
use ntmm::virtual_memory::{
    Allocate, AllocationType, Free, FreeType, MemoryState, Placement, Protect, Query,
};
use ntmm_pte::{Bytes, Protection, Va};

use super::{space_of, status};
use crate::user;
use crate::wait::complete;

const MEM_COMMIT: u64 = 0x1000;
const MEM_RESERVE: u64 = 0x2000;
const MEM_DECOMMIT: u64 = 0x4000;
const MEM_RELEASE: u64 = 0x8000;
const MEM_FREE: u32 = 0x1_0000;
const MEM_PRIVATE: u32 = 0x2_0000;
const MEM_TOP_DOWN: u64 = 0x10_0000;

/// A number for information there is none of.
const INVALID_INFO_CLASS: NtStatus = NtStatus::new(0xC000_0003);
/// The buffer has another size than the information.
const INFO_LENGTH_MISMATCH: NtStatus = NtStatus::new(0xC000_0004);

/// MEMORY_BASIC_INFORMATION of 64-bit programs.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct BasicInformation {
    base: u64,
    allocation_base: u64,
    allocation_protect: u32,
    partition: u32,
    size: u64,
    state: u32,
    protect: u32,
    kind: u32,
    padding: u32,
}

fn protection_of(flags: u64) -> Result<Protection, NtStatus> {
    u32::try_from(flags)
        .ok()
        .and_then(|flags| Protection::from_page_flags(flags).ok())
        .ok_or(NtStatus::INVALID_PAGE_PROTECTION)
}

/// NtAllocateVirtualMemory.
pub(super) extern "C" fn allocate(
    process: u64,
    base: u64,
    zero_bits: u64,
    size: u64,
    kind: u64,
    protect: u64,
) -> u64 {
    let call = || {
        if zero_bits != 0 {
            return Err(NtStatus::INVALID_PARAMETER_3);
        }
        let operation = match kind & !MEM_TOP_DOWN {
            MEM_RESERVE => AllocationType::Reserve,
            MEM_COMMIT => AllocationType::Commit,
            both if both == MEM_RESERVE | MEM_COMMIT => AllocationType::ReserveAndCommit,
            _ => return Err(NtStatus::INVALID_PARAMETER_5),
        };
        let protection = protection_of(protect)?;
        let (wanted, bytes) = (user::capture::<u64>(base)?, user::capture::<u64>(size)?);
        let placement = match wanted {
            0 if kind & MEM_TOP_DOWN != 0 => Placement::Highest,
            0 => Placement::Lowest,
            address => Placement::At(Va::new(address)),
        };
        let space = space_of(process)?;
        let call = Allocate::new(space, placement, Bytes::new(bytes), operation, protection);
        let region = complete(call)?;
        user::write(base, &region.base.get())?;
        user::write(size, &region.size.get())
    };
    status(call())
}

/// NtFreeVirtualMemory.
pub(super) extern "C" fn free(
    process: u64,
    base: u64,
    size: u64,
    kind: u64,
    _: u64,
    _: u64,
) -> u64 {
    let call = || {
        let operation = match kind {
            MEM_DECOMMIT => FreeType::Decommit,
            MEM_RELEASE => FreeType::Release,
            _ => return Err(NtStatus::INVALID_PARAMETER_4),
        };
        let (address, bytes) = (user::capture::<u64>(base)?, user::capture::<u64>(size)?);
        let space = space_of(process)?;
        let call = Free::new(space, Va::new(address), Bytes::new(bytes), operation);
        let region = complete(call)?;
        user::write(base, &region.base.get())?;
        user::write(size, &region.size.get())
    };
    status(call())
}

/// NtProtectVirtualMemory.
pub(super) extern "C" fn protect(
    process: u64,
    base: u64,
    size: u64,
    new: u64,
    old: u64,
    _: u64,
) -> u64 {
    let call = || {
        let protection = protection_of(new)?;
        let (address, bytes) = (user::capture::<u64>(base)?, user::capture::<u64>(size)?);
        user::capture::<u32>(old)?;
        let space = space_of(process)?;
        let call = Protect::new(space, Va::new(address), Bytes::new(bytes), protection);
        let changed = complete(call)?;
        user::write(base, &changed.region.base.get())?;
        user::write(size, &changed.region.size.get())?;
        user::write(old, &changed.old.to_page_flags())
    };
    status(call())
}

/// NtQueryVirtualMemory: the basic information.
pub(super) extern "C" fn query(
    process: u64,
    address: u64,
    class: u64,
    buffer: u64,
    length: u64,
    returned: u64,
) -> u64 {
    let call = || {
        if class != 0 {
            return Err(INVALID_INFO_CLASS);
        }
        if length < size_of::<BasicInformation>() as u64 {
            return Err(INFO_LENGTH_MISMATCH);
        }
        let found = complete(Query::new(space_of(process)?, Va::new(address)))?;
        let (allocation_base, allocation_protect) =
            found.allocation.map_or((0, 0), |(base, made)| (base.get(), made.to_page_flags()));
        let (state, kind) = match found.state {
            MemoryState::Free => (MEM_FREE, 0),
            MemoryState::Reserved => (MEM_RESERVE as u32, MEM_PRIVATE),
            MemoryState::Committed => (MEM_COMMIT as u32, MEM_PRIVATE),
        };
        let protect = match found.state {
            MemoryState::Free => ntmm_pte::protection::PAGE_NOACCESS,
            _ => found.protection.map_or(0, Protection::to_page_flags),
        };
        let information = BasicInformation {
            base: found.base.get(),
            allocation_base,
            allocation_protect,
            size: found.size.get(),
            state,
            protect,
            kind,
            ..BasicInformation::default()
        };
        user::write(buffer, &information)?;
        if returned != 0 {
            user::write(returned, &(size_of::<BasicInformation>() as u64))?;
        }
        Ok(())
    };
    status(call())
}
