//! NtReadVirtualMemory and NtWriteVirtualMemory, of the process itself.

use ntmm_user::findings::Findings;
use ntmm_user::flags::{MEM_COMMIT, MEM_WRITE_WATCH, PAGE_NOACCESS, PAGE_READONLY, PAGE_READWRITE};
use ntmm_user::memory::Block;
use ntmm_user::services::{NtReadVirtualMemory, NtWriteVirtualMemory};
use ntmm_user::structures::Handle;
use ntmm_user::{NtStatus, PAGE_SIZE};

use crate::Profile;
use crate::watch::written;

/// What the count holds that a call leaves alone.
const UNTOUCHED: u64 = 0x7777;

/// Reads from `base` into `buffer`: status and count.
fn read(process: Handle, base: u64, buffer: u64, size: u64) -> (NtStatus, u64) {
    let mut done = UNTOUCHED;
    let buffer = core::ptr::with_exposed_provenance_mut(buffer as usize);
    // SAFETY: the buffer is a block of the caller's, the count a local.
    let status = unsafe { NtReadVirtualMemory(process, base, buffer, size, &raw mut done) };
    (status, done)
}

/// Writes from `buffer` to `base`: status and count.
fn write(process: Handle, base: u64, buffer: u64, size: u64) -> (NtStatus, u64) {
    let mut done = UNTOUCHED;
    let buffer = core::ptr::with_exposed_provenance(buffer as usize);
    // SAFETY: the target is a block of the caller's, the count a local.
    let status = unsafe { NtWriteVirtualMemory(process, base, buffer, size, &raw mut done) };
    (status, done)
}

/// Everything.
pub fn check(findings: &mut Findings, profile: Profile) -> Result<(), NtStatus> {
    let own = Handle::CURRENT_PROCESS;
    let nobody = Handle(0x1234);
    let (from, to) = (Block::commit_new(3)?, Block::commit_new(3)?);
    for word in 0..from.size() / 8 {
        from.store(word * 8, word + 1);
    }
    // Neither end on a page boundary.
    let size = PAGE_SIZE + 16;
    let copied = (NtStatus::SUCCESS, size);
    let found = read(own, from.base() + 8, to.base() + PAGE_SIZE - 8, size);
    findings.equal("read", copied, found);
    for offset in (0..size).step_by(8) {
        let at = PAGE_SIZE - 8 + offset;
        findings.word(to.base() + at, offset / 8 + 2, to.load(at));
    }
    findings.word(to.base() + PAGE_SIZE - 16, 0, to.load(PAGE_SIZE - 16));
    let after = PAGE_SIZE - 8 + size;
    findings.word(to.base() + after, 0, to.load(after));
    findings.equal("write", copied, write(own, to.base() + 24, from.base(), size));
    findings.word(to.base() + 24, 1, to.load(24));

    let (source, target) = (from.base(), to.base());
    let success = (NtStatus::SUCCESS, 0);
    let violation = (NtStatus::ACCESS_VIOLATION, UNTOUCHED);
    let partial = (NtStatus::PARTIAL_COPY, 0);
    let invalid = (NtStatus::INVALID_HANDLE, 0);
    for (what, process, base, buffer, size, expected) in [
        ("nothing, of nobody", nobody, source, target, 0, success),
        ("nobody", nobody, source, target, 8, invalid),
        ("kernel", own, 0xFFFF_8000_0000_0000, target, 8, violation),
        ("wrapping", own, source, target, u64::MAX - 8, violation),
        ("the last pages", own, 0x7FF_FFFE_FFF0, target, 0x20, violation),
        ("nobody's memory", own, 0x1000, target, 8, partial),
    ] {
        let found = read(process, base, buffer, size);
        findings.equal(format_args!("read, {what}"), expected, found);
        if expected == partial {
            continue;
        }
        let found = write(process, base, buffer, size);
        findings.equal(format_args!("write, {what}"), expected, found);
    }
    // A source with a hole gives nothing; a target with one takes what comes before it.
    from.protect(PAGE_SIZE, PAGE_SIZE, PAGE_NOACCESS)?;
    to.protect(2 * PAGE_SIZE, PAGE_SIZE, PAGE_READONLY)?;
    findings.equal("a broken source", partial, read(own, source, target, 2 * PAGE_SIZE));
    let broken = profile.choose((NtStatus::ACCESS_VIOLATION, 0), (NtStatus::PARTIAL_COPY, 24));
    let edge = target + 2 * PAGE_SIZE - 24;
    findings.equal("a broken target", broken, write(own, edge, source, 64));
    findings.equal("a broken buffer", broken, read(own, source, edge, 64));
    findings.equal("a read-only target", partial, write(own, edge + 24, source, 8));
    let bad = (profile.choose(NtStatus::ACCESS_VIOLATION, NtStatus::PARTIAL_COPY), 0);
    findings.equal("a read-only buffer", bad, read(own, source, edge + 24, 8));

    // The kernel's stores count as stores.
    let watched = Block::allocate(2 * PAGE_SIZE, MEM_COMMIT | MEM_WRITE_WATCH, PAGE_READWRITE)?;
    let found = read(own, source, watched.base() + PAGE_SIZE, 8);
    findings.equal("read into watched memory", (NtStatus::SUCCESS, 8), found);
    let mut pages = [0; 2];
    let found = written(watched.base(), watched.size(), 0, &mut pages);
    findings.equal("watched pages", (NtStatus::SUCCESS, 1), found);
    findings.equal("watched page", watched.base() + PAGE_SIZE, pages[0]);
    watched.release()?;
    from.release()?;
    to.release()
}
