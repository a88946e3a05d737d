//! The handler of the program: notes what it is called for, and mends it as told.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ntmm_user::exceptions::{self, Disposition};
use ntmm_user::findings::Findings;
use ntmm_user::flags::{
    MEM_COMMIT, PAGE_EXECUTE_READ, PAGE_EXECUTE_READWRITE, PAGE_READWRITE, Protection,
};
use ntmm_user::services::{NtAllocateVirtualMemory, NtProtectVirtualMemory};
use ntmm_user::structures::{AccessKind, Context, ExceptionRecord, Handle};
use ntmm_user::{NtStatus, PAGE_SIZE};

/// What the handler does before the access is made again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Mend {
    /// Nothing: the access must be possible now.
    Nothing = 0,
    /// Gives the page PAGE_READWRITE.
    MakeWritable = 1,
    /// Gives the page PAGE_EXECUTE_READ.
    MakeExecutable = 2,
    /// Commits the page.
    Commit = 3,
    /// Loads a word from the guard page [`INNER`], which raises again.
    TouchAnother = 4,
}

/// The order to the handler, a [`Mend`].
static ORDER: AtomicU32 = AtomicU32::new(0);
/// An address in a guard page, for [`Mend::TouchAnother`].
pub static INNER: AtomicU64 = AtomicU64::new(0);
/// How often the handler was called.
static COUNT: AtomicU64 = AtomicU64::new(0);
/// What the last call was for.
static CODE: AtomicU32 = AtomicU32::new(0);
static KIND: AtomicU64 = AtomicU64::new(0);
static ADDRESS: AtomicU64 = AtomicU64::new(0);

/// Calls after which the handler gives up, since mending evidently does not help.
const TOO_MANY: u64 = 8;

/// Registers the handler.
pub fn install() -> Result<(), NtStatus> {
    // SAFETY: the handler leaves the context alone and repeats the access.
    unsafe { exceptions::set_handler(handle) }
}

/// Makes `access`, which must raise `code` for `kind` at `address` exactly once, and be possible
/// after `mend`.
pub fn once<T>(
    findings: &mut Findings,
    case: &str,
    mend: Mend,
    (code, kind, address): (NtStatus, AccessKind, u64),
    access: impl FnOnce() -> T,
) -> T {
    ORDER.store(mend as u32, Ordering::SeqCst);
    COUNT.store(0, Ordering::SeqCst);
    let result = access();
    findings.equal(format_args!("{case}: exceptions"), 1, COUNT.load(Ordering::SeqCst));
    let found = NtStatus::new(CODE.load(Ordering::SeqCst));
    findings.equal(format_args!("{case}: code"), code, found);
    findings.equal(format_args!("{case}: kind"), kind as u64, KIND.load(Ordering::SeqCst));
    findings.equal(format_args!("{case}: address"), address, ADDRESS.load(Ordering::SeqCst));
    result
}

/// Makes `access`, which must not raise.
pub fn never<T>(findings: &mut Findings, case: &str, access: impl FnOnce() -> T) -> T {
    ORDER.store(Mend::Nothing as u32, Ordering::SeqCst);
    COUNT.store(0, Ordering::SeqCst);
    let result = access();
    findings.equal(format_args!("{case}: exceptions"), 0, COUNT.load(Ordering::SeqCst));
    result
}

/// How often the handler has been called since [`once`] or [`never`] began.
pub fn count() -> u64 {
    COUNT.load(Ordering::SeqCst)
}

fn handle(record: &ExceptionRecord, _context: &mut Context) -> Disposition {
    if COUNT.fetch_add(1, Ordering::SeqCst) >= TOO_MANY {
        return Disposition::Terminate;
    }
    let [kind, address, ..] = record.parameters;
    let order = ORDER.load(Ordering::SeqCst);
    if order == Mend::TouchAnother as u32 {
        ORDER.store(Mend::Nothing as u32, Ordering::SeqCst);
        // The inner exception leaves its own notes, which those of the outer one replace.
        if ntmm_user::attempt::load(INNER.load(Ordering::SeqCst)).is_ok() {
            return Disposition::Terminate;
        }
    }
    CODE.store(record.code.code(), Ordering::SeqCst);
    KIND.store(kind, Ordering::SeqCst);
    ADDRESS.store(address, Ordering::SeqCst);
    let status = match order {
        _ if order == Mend::MakeWritable as u32 => protect(address, PAGE_READWRITE),
        _ if order == Mend::MakeExecutable as u32 => protect(address, PAGE_EXECUTE_READ),
        _ if order == Mend::Commit as u32 => commit(address),
        _ => NtStatus::SUCCESS,
    };
    if status.is_success() { Disposition::Continue } else { Disposition::Terminate }
}

fn protect(address: u64, protection: Protection) -> NtStatus {
    let (mut base, mut size, mut old) = (address, 1, 0);
    // SAFETY: the pointers are to locals. The page is one of a block of this program, whose words
    // no Rust reference borrows.
    unsafe {
        NtProtectVirtualMemory(
            Handle::CURRENT_PROCESS,
            &raw mut base,
            &raw mut size,
            protection.0,
            &raw mut old,
        )
    }
}

fn commit(address: u64) -> NtStatus {
    let (mut base, mut size) = (address, PAGE_SIZE - address % PAGE_SIZE);
    // SAFETY: as in `protect`.
    unsafe {
        NtAllocateVirtualMemory(
            Handle::CURRENT_PROCESS,
            &raw mut base,
            0,
            &raw mut size,
            MEM_COMMIT.0,
            PAGE_EXECUTE_READWRITE.0,
        )
    }
}
