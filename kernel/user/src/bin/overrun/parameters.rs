//! Calls with parameters out of all bounds.

use ntmm_user::findings::Findings;
use ntmm_user::flags::{
    MEM_COMMIT, MEM_DECOMMIT, MEM_RELEASE, MEM_RESERVE, MEM_RESET, MEM_TOP_DOWN, PAGE_GUARD,
    PAGE_NOACCESS, PAGE_READONLY, PAGE_READWRITE, PAGE_WRITECOPY, Protection,
};
use ntmm_user::memory::{Block, query};
use ntmm_user::services::{NtAllocateVirtualMemory, NtFreeVirtualMemory, NtProtectVirtualMemory};
use ntmm_user::structures::Handle;
use ntmm_user::{NtStatus, PAGE_SIZE};

const OWN: Handle = Handle::CURRENT_PROCESS;
const NOBODY: Handle = Handle(0x1234);
const RESERVE: u32 = MEM_RESERVE.0;
const COMMIT: u32 = MEM_COMMIT.0;
const WRITABLE: u32 = PAGE_READWRITE.0;

/// An address of the kernel's half.
const KERNEL: u64 = 0xFFFF_8000_0000_0000;
/// Where user allocations end.
const USER_END: u64 = 0x0000_07FF_FFFE_0000;

/// All of it.
pub fn check(findings: &mut Findings) -> Result<(), NtStatus> {
    let block = Block::reserve(16)?;
    allocations(findings, &block);
    frees(findings, &block);
    protections(findings, &block);
    queries(findings)?;
    block.release()
}

/// Calls NtAllocateVirtualMemory and expects it to refuse.
fn allocate(
    findings: &mut Findings,
    case: &str,
    expected: NtStatus,
    (process, base, zero_bits, size): (Handle, u64, u64, u64),
    (kind, protect): (u32, u32),
) {
    let (mut base_after, mut size_after) = (base, size);
    // SAFETY: the pointers are to locals; every call here is one that must be refused.
    let status = unsafe {
        NtAllocateVirtualMemory(
            process,
            &raw mut base_after,
            zero_bits,
            &raw mut size_after,
            kind,
            protect,
        )
    };
    findings.equal(format_args!("allocate, {case}"), expected, status);
    findings.equal(format_args!("allocate, {case}: base"), base, base_after);
    findings.equal(format_args!("allocate, {case}: size"), size, size_after);
}

fn allocations(findings: &mut Findings, block: &Block) {
    let free = (OWN, 0, 0, PAGE_SIZE);
    let mut one = |case, expected, place, how| allocate(findings, case, expected, place, how);
    one(
        "zero bits 25",
        NtStatus::INVALID_PARAMETER_3,
        (OWN, 0, 25, PAGE_SIZE),
        (RESERVE, WRITABLE),
    );
    for kind in [0, MEM_TOP_DOWN.0, 0xFFFF_FFFF, RESERVE | MEM_RESET.0, RESERVE | 0x4000] {
        one("type", NtStatus::INVALID_PARAMETER_5, free, (kind, WRITABLE));
    }
    let nonsense = [
        0,
        PAGE_GUARD.0,
        (PAGE_NOACCESS | PAGE_GUARD).0,
        (PAGE_READWRITE | PAGE_READONLY).0,
        PAGE_WRITECOPY.0,
        0xFFFF_FFFF,
    ];
    for protect in nonsense {
        one("protection", NtStatus::INVALID_PAGE_PROTECTION, free, (RESERVE | COMMIT, protect));
    }
    let reserve = (RESERVE, WRITABLE);
    one("size 0", NtStatus::INVALID_PARAMETER_4, (OWN, 0, 0, 0), reserve);
    one("base in the kernel", NtStatus::INVALID_PARAMETER_2, (OWN, KERNEL, 0, PAGE_SIZE), reserve);
    let last = USER_END - 0x1_0000;
    one("end beyond", NtStatus::INVALID_PARAMETER_4, (OWN, last, 0, 0x10_0000), reserve);
    one("end wraps", NtStatus::INVALID_PARAMETER_4, (OWN, last, 0, u64::MAX), reserve);
    one("bad handle", NtStatus::INVALID_HANDLE, (NOBODY, 0, 0, PAGE_SIZE), reserve);
    let inside = block.base() + PAGE_SIZE;
    one("occupied", NtStatus::CONFLICTING_ADDRESSES, (OWN, inside, 0, PAGE_SIZE), reserve);
    let commit = (COMMIT, WRITABLE);
    let nowhere = block.base() + block.size() + 0x10_0000_0000;
    one("commit in nothing", NtStatus::CONFLICTING_ADDRESSES, (OWN, nowhere, 0, 1), commit);
    let beyond = (OWN, block.base(), 0, block.size() + 1);
    one("commit across the end", NtStatus::CONFLICTING_ADDRESSES, beyond, commit);
    // No hole is that long.
    for size in [1 << 47, 1 << 63, u64::MAX - PAGE_SIZE, u64::MAX] {
        let refused = Block::allocate(size, MEM_RESERVE, PAGE_READWRITE).err();
        let none = [Some(NtStatus::NO_MEMORY), Some(NtStatus::INVALID_PARAMETER_4)];
        findings.any_of(format_args!("reserve 0x{size:x} bytes"), &none, refused);
    }
}

/// Calls NtFreeVirtualMemory and expects it to refuse.
fn free(
    findings: &mut Findings,
    case: &str,
    expected: NtStatus,
    (process, base, size): (Handle, u64, u64),
    kind: u32,
) {
    let (mut base_after, mut size_after) = (base, size);
    // SAFETY: the pointers are to locals; every call here is one that must be refused.
    let status =
        unsafe { NtFreeVirtualMemory(process, &raw mut base_after, &raw mut size_after, kind) };
    findings.equal(format_args!("free, {case}"), expected, status);
    findings.equal(format_args!("free, {case}: base"), base, base_after);
    findings.equal(format_args!("free, {case}: size"), size, size_after);
}

fn frees(findings: &mut Findings, block: &Block) {
    let (base, size) = (block.base(), block.size());
    let (release, decommit) = (MEM_RELEASE.0, MEM_DECOMMIT.0);
    let mut one = |case, expected, place, kind| free(findings, case, expected, place, kind);
    for kind in [0, release | decommit, RESERVE, 0xFFFF_FFFF] {
        one("type", NtStatus::INVALID_PARAMETER_4, (OWN, base, 0), kind);
    }
    for kind in [release, decommit] {
        one("base in the kernel", NtStatus::INVALID_PARAMETER_2, (OWN, KERNEL, PAGE_SIZE), kind);
        one("end beyond", NtStatus::INVALID_PARAMETER_3, (OWN, base, USER_END), kind);
        one("end wraps", NtStatus::INVALID_PARAMETER_3, (OWN, base, u64::MAX), kind);
        one("bad handle", NtStatus::INVALID_HANDLE, (NOBODY, base, 0), kind);
        one("null", NtStatus::MEMORY_NOT_ALLOCATED, (OWN, 0, 0), kind);
        one("across the end", NtStatus::UNABLE_TO_FREE_VM, (OWN, base, size + 1), kind);
        let inside = base + PAGE_SIZE;
        one("not at base", NtStatus::FREE_VM_NOT_AT_BASE, (OWN, inside, 0), kind);
    }
}

/// Calls NtProtectVirtualMemory and expects it to refuse.
fn protect(
    findings: &mut Findings,
    case: &str,
    expected: NtStatus,
    (process, base, size): (Handle, u64, u64),
    protection: Protection,
) {
    let (mut base_after, mut size_after, mut old) = (base, size, 0);
    // SAFETY: the pointers are to locals; every call here is one that must be refused.
    let status = unsafe {
        NtProtectVirtualMemory(
            process,
            &raw mut base_after,
            &raw mut size_after,
            protection.0,
            &raw mut old,
        )
    };
    findings.equal(format_args!("protect, {case}"), expected, status);
    findings.equal(format_args!("protect, {case}: base"), base, base_after);
    findings.equal(format_args!("protect, {case}: size"), size, size_after);
}

fn protections(findings: &mut Findings, block: &Block) {
    let (base, size) = (block.base(), block.size());
    let mut one = |case, expected, place, how| protect(findings, case, expected, place, how);
    for nonsense in [Protection(0), PAGE_GUARD, Protection(0xFFFF_FFFF), Protection(3)] {
        let status = NtStatus::INVALID_PAGE_PROTECTION;
        one("protection", status, (OWN, base, PAGE_SIZE), nonsense);
    }
    one("base in the kernel", NtStatus::INVALID_PARAMETER_2, (OWN, KERNEL, 1), PAGE_READONLY);
    one("end beyond", NtStatus::INVALID_PARAMETER_3, (OWN, base, USER_END), PAGE_READONLY);
    one("end wraps", NtStatus::INVALID_PARAMETER_3, (OWN, base, u64::MAX), PAGE_READONLY);
    one("size 0", NtStatus::INVALID_PARAMETER_3, (OWN, base, 0), PAGE_READONLY);
    one("bad handle", NtStatus::INVALID_HANDLE, (NOBODY, base, 1), PAGE_READONLY);
    let nowhere = NtStatus::CONFLICTING_ADDRESSES;
    one("across the end", nowhere, (OWN, base, size + 1), PAGE_READONLY);
    one("null", nowhere, (OWN, 0, 1), PAGE_READONLY);
    one("reserved", NtStatus::NOT_COMMITTED, (OWN, base, 1), PAGE_READONLY);
}

fn queries(findings: &mut Findings) -> Result<(), NtStatus> {
    for address in [KERNEL, u64::MAX, 0x0000_7FFF_FFFF_F000] {
        let refused = query(address).map(|_| ());
        findings.equal("query", Err(NtStatus::INVALID_PARAMETER), refused);
    }
    query(0).map(|_| ())
}
