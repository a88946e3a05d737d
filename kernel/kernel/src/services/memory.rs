//! The Nt calls that allocate, free, protect and lock virtual memory.
//!
//! The calls themselves are [`ntmm::nt`]'s: here pointers are captured, the handle becomes a
//! process, and what the outcome holds is written back. A variable that cannot be written any more
//! when the call has been made changes nothing about its status.

use ntmm::NtStatus;
use ntmm::nt::{
    AddressRequirements, AllocateParameters, AllocateVirtualMemory, Captured, ExtendedParameter,
    FlushParameters, FlushVirtualMemory, FreeParameters, FreeVirtualMemory, LockParameters,
    LockVirtualMemory, Outcome, ProtectParameters, ProtectVirtualMemory, Range,
    UnlockVirtualMemory,
};

use super::{CURRENT_PROCESS, answer, caller, target};
use crate::wait::complete;
use crate::{stack, user};

/// MemExtendedParameterAddressRequirements.
const ADDRESS_REQUIREMENTS: u64 = 1;

/// Extended parameters that are read: as many as may decide a call.
const MOST_EXTENDED: u64 = 8;

/// Bytes of MEM_EXTENDED_PARAMETER.
const EXTENDED_SIZE: u64 = 16;

/// Writes a range back; the status of its call.
fn store(outcome: Outcome, base: u64, size: u64) -> NtStatus {
    if let Some(range) = outcome.output {
        store_range(range, base, size);
    }
    outcome.status
}

fn store_range(range: Range, base: u64, size: u64) {
    let _ = user::write(base, &range.base);
    let _ = user::write(size, &range.size);
}

/// Notes that pages of the thread's own stack may have become guard pages.
fn note_protection(process: u64, range: Option<Range>, protection: u64) {
    if let Some(range) = range
        && process == CURRENT_PROCESS
    {
        stack::note_protection(&caller(), range, protection as u32);
    }
}

/// NtAllocateVirtualMemory.
pub(super) extern "C" fn allocate(
    process: u64,
    base: u64,
    zero_bits: u64,
    size: u64,
    kind: u64,
    protection: u64,
) -> u64 {
    let parameters = AllocateParameters {
        process: target(process),
        base: user::capture(base),
        zero_bits,
        size: user::capture(size),
        kind: kind as u32,
        protection: protection as u32,
    };
    let call = complete(AllocateVirtualMemory::new(caller(), parameters));
    answer(call.map(|outcome| {
        note_protection(process, outcome.output, protection);
        store(outcome, base, size)
    }))
}

/// NtAllocateVirtualMemoryEx. The array of extended parameters and its length are in memory.
pub(super) extern "C" fn allocate_extended(
    process: u64,
    base: u64,
    size: u64,
    kind: u64,
    protection: u64,
    rest: u64,
) -> u64 {
    let call = || {
        let [array, count] = user::read::<[u64; 2]>(rest)?;
        let parameters = AllocateParameters {
            process: target(process),
            base: user::capture(base),
            zero_bits: 0,
            size: user::capture(size),
            kind: kind as u32,
            protection: protection as u32,
        };
        let count = u64::from(count as u32);
        let mut given =
            [ExtendedParameter { kind: 0, requirements: Ok(AddressRequirements::default()) };
                MOST_EXTENDED as usize];
        let known = count.min(MOST_EXTENDED) as usize;
        let extended = if array == 0 { None } else { given.get_mut(..known) };
        let extended = match extended {
            None => None,
            Some(extended) => {
                for (number, parameter) in (0..).zip(extended.iter_mut()) {
                    *parameter = extended_parameter(array.wrapping_add(number * EXTENDED_SIZE))?;
                }
                Some(&*extended)
            }
        };
        let call = AllocateVirtualMemory::extended(caller(), parameters, extended, count);
        let outcome = complete(call)?;
        note_protection(process, outcome.output, protection);
        Ok(store(outcome, base, size))
    };
    answer(call())
}

/// The MEM_EXTENDED_PARAMETER at an address.
fn extended_parameter(address: u64) -> Captured<ExtendedParameter> {
    let [kind, value] = user::read::<[u64; 2]>(address)?;
    let kind = kind & 0xFF;
    let requirements = if kind == ADDRESS_REQUIREMENTS {
        user::read::<[u64; 3]>(value).map(|[lowest, highest, alignment]| AddressRequirements {
            lowest,
            highest,
            alignment,
        })
    } else {
        Ok(AddressRequirements::default())
    };
    Ok(ExtendedParameter { kind, requirements })
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
    let parameters = FreeParameters {
        process: target(process),
        base: user::capture(base),
        size: user::capture(size),
        kind: kind as u32,
    };
    let call = complete(FreeVirtualMemory::new(caller(), parameters));
    answer(call.map(|outcome| store(outcome, base, size)))
}

/// NtProtectVirtualMemory.
pub(super) extern "C" fn protect(
    process: u64,
    base: u64,
    size: u64,
    protection: u64,
    old: u64,
    _: u64,
) -> u64 {
    let parameters = ProtectParameters {
        process: target(process),
        base: user::capture(base),
        size: user::capture(size),
        protection: protection as u32,
        old: user::capture::<u32>(old).map(|_| ()),
    };
    let call = complete(ProtectVirtualMemory::new(caller(), parameters));
    answer(call.map(|outcome| {
        note_protection(process, outcome.output, protection);
        if let Some(range) = outcome.output {
            store_range(range, base, size);
        }
        if let Some(protection) = outcome.old {
            let _ = user::write(old, &protection);
        }
        outcome.status
    }))
}

fn locking(process: u64, base: u64, size: u64, kind: u64) -> LockParameters {
    LockParameters {
        process: target(process),
        base: user::capture(base),
        size: user::capture(size),
        kind: kind as u32,
    }
}

/// NtLockVirtualMemory.
pub(super) extern "C" fn lock(
    process: u64,
    base: u64,
    size: u64,
    kind: u64,
    _: u64,
    _: u64,
) -> u64 {
    let call = LockVirtualMemory::new(caller(), locking(process, base, size, kind));
    answer(complete(call).map(|outcome| store(outcome, base, size)))
}

/// NtUnlockVirtualMemory.
pub(super) extern "C" fn unlock(
    process: u64,
    base: u64,
    size: u64,
    kind: u64,
    _: u64,
    _: u64,
) -> u64 {
    let call = UnlockVirtualMemory::new(caller(), locking(process, base, size, kind));
    answer(complete(call).map(|outcome| store(outcome, base, size)))
}

/// NtFlushVirtualMemory.
pub(super) extern "C" fn flush(
    process: u64,
    base: u64,
    size: u64,
    io_status: u64,
    _: u64,
    _: u64,
) -> u64 {
    let parameters = FlushParameters {
        process: target(process),
        base: user::capture(base),
        size: user::capture(size),
        io_status: user::capture::<[u64; 2]>(io_status).map(|_| ()),
    };
    let call = complete(FlushVirtualMemory::new(caller(), parameters));
    answer(call.map(|outcome| store(outcome, base, size)))
}
