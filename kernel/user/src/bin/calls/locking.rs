//! NtLockVirtualMemory and NtUnlockVirtualMemory.

use ntmm_user::findings::Findings;
use ntmm_user::flags::{
    MAP_PROCESS, MAP_SYSTEM, MEM_COMMIT, MapType, PAGE_GUARD, PAGE_NOACCESS, PAGE_READWRITE,
};
use ntmm_user::memory::Block;
use ntmm_user::services::{NtLockVirtualMemory, NtUnlockVirtualMemory};
use ntmm_user::structures::Handle;
use ntmm_user::{NtStatus, PAGE_SIZE, system};

use crate::query::is_locked;

/// Which of the two calls.
#[derive(Clone, Copy)]
enum Call {
    Lock,
    Unlock,
}

/// Makes a call: status, base, size.
fn make(call: Call, process: Handle, base: u64, size: u64, kind: MapType) -> (NtStatus, u64, u64) {
    let (mut at, mut length) = (base, size);
    // SAFETY: the pointers are to locals.
    let status = unsafe {
        match call {
            Call::Lock => NtLockVirtualMemory(process, &raw mut at, &raw mut length, kind.0),
            Call::Unlock => NtUnlockVirtualMemory(process, &raw mut at, &raw mut length, kind.0),
        }
    };
    (status, at, length)
}

/// Everything.
pub fn check(findings: &mut Findings) -> Result<(), NtStatus> {
    let own = Handle::CURRENT_PROCESS;
    let block = Block::commit_new(4)?;
    let second = block.base() + PAGE_SIZE;
    let steps = [
        ("not locked yet", Call::Unlock, second, 1, NtStatus::NOT_LOCKED),
        ("lock", Call::Lock, second + 5, 1, NtStatus::SUCCESS),
        ("lock again", Call::Lock, second, 1, NtStatus::WAS_LOCKED),
        ("lock more", Call::Lock, second, 2 * PAGE_SIZE, NtStatus::WAS_LOCKED),
        ("unlock too much", Call::Unlock, second, 3 * PAGE_SIZE, NtStatus::NOT_LOCKED),
    ];
    for (what, call, base, size, status) in steps {
        let rounded = match status.is_success() {
            true => (second, size.next_multiple_of(PAGE_SIZE)),
            false => (base, size),
        };
        let found = make(call, own, base, size, MAP_PROCESS);
        findings.equal(what, (status, rounded.0, rounded.1), found);
    }
    // Locked pages stay where they are.
    system::empty_working_set()?;
    for (page, expected) in [false, true, true, false].into_iter().enumerate() {
        let found = is_locked(block.base() + page as u64 * PAGE_SIZE)?;
        findings.equal(format_args!("page {page} is locked"), expected, found);
    }
    let status = make(Call::Unlock, own, second, 2 * PAGE_SIZE, MAP_PROCESS).0;
    findings.equal("unlock", NtStatus::SUCCESS, status);
    findings.equal("is locked still", false, is_locked(second)?);

    let nobody = Handle(0x1234);
    let end = 0x7FF_FFFE_FFFF;
    for call in [Call::Lock, Call::Unlock] {
        for (what, process, base, size, kind, expected) in [
            ("no type", own, second, 1, MapType(0), NtStatus::INVALID_PARAMETER),
            ("another type", own, second, 1, MapType(4), NtStatus::INVALID_PARAMETER),
            ("no size", own, second, 0, MAP_PROCESS, NtStatus::INVALID_PARAMETER),
            ("beyond the end", own, end, 2, MAP_PROCESS, NtStatus::INVALID_PARAMETER),
            ("nobody", nobody, second, 1, MAP_PROCESS, NtStatus::INVALID_HANDLE),
            ("privilege", own, second, 1, MAP_SYSTEM, NtStatus::PRIVILEGE_NOT_HELD),
        ] {
            let found = make(call, process, base, size, kind);
            findings.equal(format_args!("lock or unlock, {what}"), (expected, base, size), found);
        }
    }
    block.protect(0, PAGE_SIZE, PAGE_NOACCESS)?;
    let status = make(Call::Lock, own, block.base(), 1, MAP_PROCESS).0;
    findings.equal("lock without access", NtStatus::ACCESS_VIOLATION, status);
    // A lock does not outlive its page.
    findings.equal("lock", NtStatus::SUCCESS, make(Call::Lock, own, second, 1, MAP_PROCESS).0);
    block.decommit(PAGE_SIZE, PAGE_SIZE)?;
    let status = make(Call::Lock, own, second, 1, MAP_PROCESS).0;
    findings.equal("lock what is reserved", NtStatus::ACCESS_VIOLATION, status);
    block.release()?;

    let guarded = Block::allocate(PAGE_SIZE, MEM_COMMIT, PAGE_READWRITE | PAGE_GUARD)?;
    for expected in [NtStatus::GUARD_PAGE_VIOLATION, NtStatus::SUCCESS] {
        let status = make(Call::Lock, own, guarded.base(), 1, MAP_PROCESS).0;
        findings.equal("lock a guard page", expected, status);
    }
    guarded.release()
}
