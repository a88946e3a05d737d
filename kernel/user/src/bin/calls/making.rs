//! Allocating, freeing, protecting: what the other programs do not come across.

use ntmm_user::findings::Findings;
use ntmm_user::flags::{
    MEM_COMMIT, MEM_DECOMMIT, MEM_RELEASE, MEM_RESERVE, MEM_RESET, MEM_TOP_DOWN, MemoryFlags,
    PAGE_NOACCESS, PAGE_READWRITE, PAGE_WRITECOPY, Protection,
};
use ntmm_user::memory::Block;
use ntmm_user::services::{
    NtAllocateVirtualMemory, NtFlushVirtualMemory, NtFreeVirtualMemory, NtProtectVirtualMemory,
};
use ntmm_user::structures::Handle;
use ntmm_user::{NtStatus, PAGE_SIZE};

use crate::Profile;

const OWN: Handle = Handle::CURRENT_PROCESS;
/// A handle that names nothing.
const NOBODY: Handle = Handle(0x1234);

/// Bytes of the smallest reservation.
const GRANULARITY: u64 = 0x1_0000;

/// Everything.
pub fn check(findings: &mut Findings, profile: Profile) -> Result<(), NtStatus> {
    allocating(findings)?;
    freeing(findings)?;
    protecting(findings, profile)?;
    flushing(findings)
}

/// NtAllocateVirtualMemory: status, base, size.
fn allocate(
    process: Handle,
    (mut base, zero_bits, mut size): (u64, u64, u64),
    kind: MemoryFlags,
    protection: Protection,
) -> (NtStatus, u64, u64) {
    // SAFETY: the pointers are to locals; what a call here commits or resets is this program's.
    let status = unsafe {
        let (base, size) = (&raw mut base, &raw mut size);
        NtAllocateVirtualMemory(process, base, zero_bits, size, kind.0, protection.0)
    };
    (status, base, size)
}

fn allocating(findings: &mut Findings) -> Result<(), NtStatus> {
    const RW: Protection = PAGE_READWRITE;
    let both = MEM_RESERVE | MEM_COMMIT;
    let place = (0, 0, PAGE_SIZE);
    let highest = 0x7FF_FFFD_FFFF;
    let refused = [
        ("22 zero bits", OWN, (0, 22, PAGE_SIZE), both, RW, NtStatus::INVALID_PARAMETER_3),
        ("no type", OWN, place, MemoryFlags(0), RW, NtStatus::INVALID_PARAMETER_5),
        ("top down alone", OWN, place, MEM_TOP_DOWN, RW, NtStatus::INVALID_PARAMETER_5),
        ("all bits", OWN, place, MemoryFlags(u32::MAX), RW, NtStatus::INVALID_PARAMETER_5),
        ("reset and commit", OWN, place, MEM_RESET | MEM_COMMIT, RW, NtStatus::INVALID_PARAMETER_5),
        ("no protection", OWN, place, both, Protection(0), NtStatus::INVALID_PAGE_PROTECTION),
        ("write-copy", OWN, place, both, PAGE_WRITECOPY, NtStatus::INVALID_PAGE_PROTECTION),
        ("a high base", OWN, (highest + 1, 0, 1), both, RW, NtStatus::INVALID_PARAMETER_2),
        ("a long range", OWN, (highest, 0, 2), both, RW, NtStatus::INVALID_PARAMETER_4),
        ("no size", OWN, (0, 0, 0), both, RW, NtStatus::INVALID_PARAMETER_4),
        ("nobody", NOBODY, place, both, RW, NtStatus::INVALID_HANDLE),
        ("a thread", Handle::CURRENT_THREAD, place, both, RW, NtStatus::OBJECT_TYPE_MISMATCH),
    ];
    for (what, process, (base, zero_bits, size), kind, protection, status) in refused {
        let found = allocate(process, (base, zero_bits, size), kind, protection);
        findings.equal(format_args!("allocate, {what}"), (status, base, size), found);
    }
    // Three zero bits counted from bit 31, and a mask.
    for (zero_bits, limit) in [(3, 1 << 29), (0xFF_FFFF, 1 << 24)] {
        let (status, base, size) = allocate(OWN, (0, zero_bits, 5), MEM_RESERVE, RW);
        findings.equal(format_args!("zero bits {zero_bits:#x}"), NtStatus::SUCCESS, status);
        findings.equal("its size", PAGE_SIZE, size);
        findings.equal("below the limit", true, base + size <= limit);
        release(findings, base);
    }
    let block = Block::allocate(PAGE_SIZE, MEM_COMMIT | MEM_TOP_DOWN, RW)?;
    findings.equal("top down is high", true, block.base() > 1 << 42);
    block.store(0, 1);
    let reset = allocate(OWN, (block.base(), 0, 1), MEM_RESET, RW);
    findings.equal("reset", (NtStatus::SUCCESS, block.base(), PAGE_SIZE), reset);
    let again = allocate(OWN, (block.base(), 0, 1), MEM_RESERVE, RW);
    findings.equal("reserved already", NtStatus::CONFLICTING_ADDRESSES, again.0);
    block.release()?;

    // An explicit base rounds to the granularity, and what is in between is committed too.
    let room = Block::reserve(3 * GRANULARITY / PAGE_SIZE)?;
    let base = room.base();
    room.release()?;
    let made = allocate(OWN, (base + GRANULARITY - 1, 0, 3 * PAGE_SIZE), both, RW);
    findings.equal("rounded", (NtStatus::SUCCESS, base, GRANULARITY + 3 * PAGE_SIZE), made);
    release(findings, base);
    Ok(())
}

fn release(findings: &mut Findings, base: u64) {
    let (mut base, mut size) = (base, 0);
    // SAFETY: the pointers are to locals; the block was allocated by the check that releases it.
    let status = unsafe { NtFreeVirtualMemory(OWN, &raw mut base, &raw mut size, MEM_RELEASE.0) };
    findings.equal("release", NtStatus::SUCCESS, status);
}

fn freeing(findings: &mut Findings) -> Result<(), NtStatus> {
    let block = Block::commit_new(4)?;
    let (base, all) = (block.base(), 4 * PAGE_SIZE);
    let inside = base + PAGE_SIZE;
    let refused = [
        ("both types", OWN, base, 0, MEM_DECOMMIT | MEM_RELEASE, NtStatus::INVALID_PARAMETER_4),
        ("no type", OWN, base, 0, MemoryFlags(0), NtStatus::INVALID_PARAMETER_4),
        ("nobody", NOBODY, base, 0, MEM_RELEASE, NtStatus::INVALID_HANDLE),
        ("a free address", OWN, 0x1000, 0, MEM_RELEASE, NtStatus::MEMORY_NOT_ALLOCATED),
        ("not the base", OWN, inside, 0, MEM_RELEASE, NtStatus::FREE_VM_NOT_AT_BASE),
        ("too much", OWN, inside, all, MEM_DECOMMIT, NtStatus::UNABLE_TO_FREE_VM),
    ];
    for (what, process, address, length, kind, expected) in refused {
        let (mut base, mut size) = (address, length);
        // SAFETY: the pointers are to locals; the block is this function's, and stays.
        let status = unsafe { NtFreeVirtualMemory(process, &raw mut base, &raw mut size, kind.0) };
        findings.equal(
            format_args!("free, {what}"),
            (expected, address, length),
            (status, base, size),
        );
    }
    // The variables may go away with the block: the call has been made.
    block.store(0, base);
    block.store(8, 0);
    let cell = |offset| core::ptr::with_exposed_provenance_mut((base + offset) as usize);
    // SAFETY: the pointers are to the block, which nothing uses any more.
    let status = unsafe { NtFreeVirtualMemory(OWN, cell(0), cell(8), MEM_RELEASE.0) };
    findings.equal("free with its own variables", NtStatus::SUCCESS, status);
    let _ = block.into_base();
    Ok(())
}

fn protecting(findings: &mut Findings, profile: Profile) -> Result<(), NtStatus> {
    const OLD: u32 = 0x5555;
    let block = Block::reserve(2)?;
    block.commit(0, PAGE_SIZE, PAGE_READWRITE)?;
    let protect = |process, base, size, protection: Protection| {
        let (mut base, mut size, mut old) = (base, size, OLD);
        // SAFETY: the pointers are to locals; the block is this function's.
        let status = unsafe {
            let (base, size) = (&raw mut base, &raw mut size);
            NtProtectVirtualMemory(process, base, size, protection.0, &raw mut old)
        };
        (status, base, size, old)
    };
    let base = block.base();
    let private = profile.choose(NtStatus::INVALID_PARAMETER_4, NtStatus::INVALID_PAGE_PROTECTION);
    let absent = profile.choose(OLD, PAGE_NOACCESS.0);
    let writable = PAGE_READWRITE;
    let none = Protection(0);
    for (what, process, base, size, protection, status, old) in [
        ("no protection", OWN, base, 1, none, NtStatus::INVALID_PAGE_PROTECTION, OLD),
        ("write-copy", OWN, base, 1, PAGE_WRITECOPY, private, OLD),
        ("a high base", OWN, u64::MAX, 1, writable, NtStatus::INVALID_PARAMETER_2, OLD),
        ("no size", OWN, base, 0, writable, NtStatus::INVALID_PARAMETER_3, OLD),
        ("nobody", NOBODY, base, 1, writable, NtStatus::INVALID_HANDLE, OLD),
        ("free memory", OWN, 0x1000, 1, writable, NtStatus::CONFLICTING_ADDRESSES, absent),
        ("reserved", OWN, base, 2 * PAGE_SIZE, writable, NtStatus::NOT_COMMITTED, absent),
    ] {
        let found = protect(process, base, size, protection);
        findings.equal(format_args!("protect, {what}"), (status, base, size, old), found);
    }
    let found = protect(OWN, base + 5, 1, PAGE_NOACCESS);
    findings.equal("protect", (NtStatus::SUCCESS, base, PAGE_SIZE, writable.0), found);
    block.release()
}

fn flushing(findings: &mut Findings) -> Result<(), NtStatus> {
    let block = Block::commit_new(1)?;
    for (process, address, expected) in [
        (OWN, block.base(), NtStatus::NOT_MAPPED_VIEW),
        (OWN, u64::MAX, NtStatus::INVALID_PARAMETER_2),
        (NOBODY, block.base(), NtStatus::INVALID_HANDLE),
    ] {
        let (mut base, mut size, mut io_status) = (address, 0, [0; 2]);
        // SAFETY: the pointers are to locals.
        let status = unsafe {
            NtFlushVirtualMemory(process, &raw mut base, &raw mut size, &raw mut io_status)
        };
        findings.equal("flush", (expected, address, 0), (status, base, size));
    }
    block.release()
}
