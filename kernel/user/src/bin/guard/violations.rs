//! The cases: what raises, as what, and how it goes on.

use core::sync::atomic::Ordering;

use ntmm_user::attempt::{self, Exception};
use ntmm_user::findings::Findings;
use ntmm_user::flags::{
    MEM_COMMIT, MEM_RESERVE, PAGE_EXECUTE_READ, PAGE_GUARD, PAGE_NOACCESS, PAGE_READONLY,
    PAGE_READWRITE,
};
use ntmm_user::memory::Block;
use ntmm_user::services::NtQueryVirtualMemory;
use ntmm_user::structures::{AccessKind, Handle};
use ntmm_user::{NtStatus, PAGE_SIZE};

use crate::handler::{self, INNER, Mend, never, once};

/// What the cases write.
const STAMP: u64 = 0x5354_414D_5053_5441;
/// The instruction `ret`, eight times.
const RETURNS: u64 = 0xC3C3_C3C3_C3C3_C3C3;

/// A guard page raises once and is an ordinary page then; its neighbours stay guarded.
pub fn guard_pages(findings: &mut Findings) -> Result<(), NtStatus> {
    let guarded = PAGE_READWRITE | PAGE_GUARD;
    let block = Block::allocate(3 * PAGE_SIZE, MEM_COMMIT, guarded)?;
    let expected = |kind, offset| (NtStatus::GUARD_PAGE_VIOLATION, kind, block.base() + offset);
    let offset = PAGE_SIZE + 8;
    let read = expected(AccessKind::Read, offset);
    let value = once(findings, "guard page read", Mend::Nothing, read, || block.load(offset));
    findings.word(block.base() + offset, 0, value);
    never(findings, "guard page read again", || block.load(offset));
    let now = [0, 1, 2].map(|page| block.query(page * PAGE_SIZE));
    for (page, (expected, found)) in [guarded, PAGE_READWRITE, guarded].iter().zip(now).enumerate()
    {
        findings.equal(format_args!("protection of page {page}"), *expected, found?.protect);
    }
    let write = expected(AccessKind::Write, 0x18);
    once(findings, "guard page write", Mend::Nothing, write, || block.store(0x18, STAMP));
    let value = never(findings, "guard page written", || block.load(0x18));
    findings.word(block.base() + 0x18, STAMP, value);

    // A guard put on a page keeps what is in it.
    block.protect(0, PAGE_SIZE, guarded)?;
    let read = expected(AccessKind::Read, 0x18);
    let value = once(findings, "guard put on", Mend::Nothing, read, || block.load(0x18));
    findings.word(block.base() + 0x18, STAMP, value);

    // Protecting takes a guard off without a sound.
    block.protect(2 * PAGE_SIZE, PAGE_SIZE, PAGE_READWRITE)?;
    never(findings, "guard taken off", || block.load(2 * PAGE_SIZE));

    // Fetching an instruction is an access too.
    block.store(0, RETURNS);
    block.protect(0, PAGE_SIZE, PAGE_EXECUTE_READ | PAGE_GUARD)?;
    let fetch = expected(AccessKind::Execute, 0);
    once(findings, "guard page fetch", Mend::Nothing, fetch, || call(&block));
    block.release()
}

/// Calls the `ret` at the start of `block`.
fn call(block: &Block) {
    // SAFETY: the block begins with instructions that return and do nothing else.
    unsafe {
        core::arch::asm!(
            "call {target}",
            target = in(reg) block.base(),
        );
    }
}

/// A service that touches a guard page returns the status and consumes the guard.
pub fn guard_page_in_a_service(findings: &mut Findings) -> Result<(), NtStatus> {
    let block = Block::allocate(PAGE_SIZE, MEM_COMMIT, PAGE_READWRITE | PAGE_GUARD)?;
    let query = || {
        let buffer = core::ptr::with_exposed_provenance_mut(block.base() as usize);
        // SAFETY: the buffer is a block of this function's, to which no reference exists.
        unsafe {
            NtQueryVirtualMemory(
                Handle::CURRENT_PROCESS,
                block.base(),
                0,
                buffer,
                48,
                core::ptr::null_mut(),
            )
        }
    };
    let first = never(findings, "service on a guard page", query);
    findings.equal("service on a guard page", NtStatus::GUARD_PAGE_VIOLATION, first);
    findings.equal("service after the guard", NtStatus::SUCCESS, query());
    findings.word(block.base(), block.base(), block.load(0));
    block.release()
}

/// PAGE_NOACCESS refuses everything and loses nothing.
pub fn no_access(findings: &mut Findings) -> Result<(), NtStatus> {
    let block = Block::commit_new(2)?;
    let offset = PAGE_SIZE + 0x40;
    block.store(offset, STAMP);
    let old = block.protect(PAGE_SIZE, PAGE_SIZE, PAGE_NOACCESS)?;
    findings.equal("old protection", PAGE_READWRITE, old);
    let violation = (NtStatus::ACCESS_VIOLATION, AccessKind::Read, block.base() + offset);
    let value =
        once(findings, "no access, read", Mend::MakeWritable, violation, || block.load(offset));
    findings.word(block.base() + offset, STAMP, value);
    block.protect(PAGE_SIZE, PAGE_SIZE, PAGE_NOACCESS)?;
    let violation = (NtStatus::ACCESS_VIOLATION, AccessKind::Write, block.base() + offset + 8);
    once(findings, "no access, write", Mend::MakeWritable, violation, || {
        block.store(offset + 8, STAMP ^ 1);
    });
    findings.word(block.base() + offset, STAMP, block.load(offset));
    findings.word(block.base() + offset + 8, STAMP ^ 1, block.load(offset + 8));
    never(findings, "neighbour of no access", || block.store(0, STAMP));
    block.release()
}

/// PAGE_READONLY lets one read, and refuses a write whether the page was written before or not.
pub fn read_only(findings: &mut Findings) -> Result<(), NtStatus> {
    let block = Block::commit_new(2)?;
    block.store(8, STAMP);
    block.protect(0, 2 * PAGE_SIZE, PAGE_READONLY)?;
    let value = never(findings, "read-only, read", || block.load(8));
    findings.word(block.base() + 8, STAMP, value);
    never(findings, "read-only, first read", || block.load(PAGE_SIZE));
    for offset in [8, PAGE_SIZE] {
        let violation = (NtStatus::ACCESS_VIOLATION, AccessKind::Write, block.base() + offset);
        once(findings, "read-only, write", Mend::MakeWritable, violation, || {
            block.store(offset, STAMP ^ offset);
        });
        findings.word(block.base() + offset, STAMP ^ offset, block.load(offset));
    }
    block.release()
}

/// Data cannot be executed until it is made executable.
pub fn no_execute(findings: &mut Findings) -> Result<(), NtStatus> {
    let block = Block::commit_new(1)?;
    block.store(0, RETURNS);
    let violation = (NtStatus::ACCESS_VIOLATION, AccessKind::Execute, block.base());
    once(findings, "jump into data", Mend::MakeExecutable, violation, || call(&block));
    never(findings, "jump into code", || call(&block));
    block.release()
}

/// Reserved and decommitted pages refuse; once committed they are zero.
pub fn not_committed(findings: &mut Findings) -> Result<(), NtStatus> {
    let block = Block::allocate(4 * PAGE_SIZE, MEM_RESERVE, PAGE_READWRITE)?;
    let violation = |kind, offset| (NtStatus::ACCESS_VIOLATION, kind, block.base() + offset);
    let read = violation(AccessKind::Read, 0x10);
    let value = once(findings, "reserved, read", Mend::Commit, read, || block.load(0x10));
    findings.word(block.base() + 0x10, 0, value);
    let offset = 2 * PAGE_SIZE;
    let write = violation(AccessKind::Write, offset);
    once(findings, "reserved, write", Mend::Commit, write, || block.store(offset, STAMP));
    findings.word(block.base() + offset, STAMP, block.load(offset));
    findings.equal("state between", MEM_RESERVE, block.query(PAGE_SIZE)?.state);

    block.decommit(offset, PAGE_SIZE)?;
    let read = violation(AccessKind::Read, offset);
    let value = once(findings, "decommitted, read", Mend::Commit, read, || block.load(offset));
    findings.word(block.base() + offset, 0, value);
    let base = block.base();
    block.release()?;
    raises(findings, "released, read", attempt::load(base), AccessKind::Read, base);
    Ok(())
}

/// A word that begins in a page one may touch and ends in one that one may not.
pub fn across_two_pages(findings: &mut Findings) -> Result<(), NtStatus> {
    let block = Block::commit_new(2)?;
    block.store(PAGE_SIZE - 8, STAMP);
    block.protect(PAGE_SIZE, PAGE_SIZE, PAGE_NOACCESS)?;
    let second = block.base() + PAGE_SIZE;
    let offset = PAGE_SIZE - 4;
    raises(findings, "across, read", block.try_load(offset), AccessKind::Read, second);
    let violation = (NtStatus::ACCESS_VIOLATION, AccessKind::Write, second);
    once(findings, "across, write", Mend::MakeWritable, violation, || block.store(offset, STAMP));
    findings.word(block.base() + offset, STAMP, block.load(offset));
    block.release()
}

/// Addresses that no allocation ever has.
pub fn nobodys_addresses(findings: &mut Findings) -> Result<(), NtStatus> {
    /// Null and its neighbourhood, free space, the last user addresses, the kernel's half.
    const ADDRESSES: [u64; 12] = [
        0,
        8,
        0x1000,
        0xFFF8,
        0x0000_0123_4567_8000,
        0x0000_07FF_FFFE_0000,
        0x0000_07FF_FFFF_0000,
        0x0000_7FFF_FFFF_EFF8,
        0xFFFF_8000_0000_0000,
        0xFFFF_F680_0000_0000,
        0xFFFF_FFFF_8000_0000,
        0xFFFF_FFFF_FFFF_FFF8,
    ];
    for address in ADDRESSES {
        raises(findings, "load", attempt::load(address), AccessKind::Read, address);
        // SAFETY: nothing of the program is at these addresses.
        let stored = unsafe { attempt::store(address, STAMP) };
        raises(findings, "store", stored, AccessKind::Write, address);
        // SAFETY: nor any code.
        let fetched = unsafe { attempt::fetch(address) };
        raises(findings, "fetch", fetched, AccessKind::Execute, address);
    }
    // An address with differing high bits is refused before any page is looked for.
    let found = attempt::load(0x0000_8000_0000_0000).map(|_| ());
    let expected = Exception { code: NtStatus::ACCESS_VIOLATION, kind: 0, address: u64::MAX };
    findings.equal("load from no address", Err(expected), found);
    Ok(())
}

/// Checks that `result` is an access violation of `kind` at `address`.
fn raises<T>(
    findings: &mut Findings,
    access: &str,
    result: Result<T, Exception>,
    kind: AccessKind,
    address: u64,
) {
    let expected = Exception { code: NtStatus::ACCESS_VIOLATION, kind: kind as u64, address };
    findings.equal(format_args!("{access} 0x{address:x}"), Err(expected), result.map(|_| ()));
}

/// An exception inside a handler is an exception like any other.
pub fn inside_a_handler(findings: &mut Findings) -> Result<(), NtStatus> {
    let guarded = PAGE_READWRITE | PAGE_GUARD;
    let block = Block::allocate(2 * PAGE_SIZE, MEM_COMMIT, guarded)?;
    INNER.store(block.base() + PAGE_SIZE, Ordering::SeqCst);
    let outer = (NtStatus::GUARD_PAGE_VIOLATION, AccessKind::Write, block.base());
    once(findings, "inside a handler", Mend::TouchAnother, outer, || block.store(0, STAMP));
    findings.equal("calls of the handler", 1, handler::count());
    findings.word(block.base(), STAMP, block.load(0));
    findings.equal("inner guard page", PAGE_READWRITE, block.query(PAGE_SIZE)?.protect);
    block.release()
}
