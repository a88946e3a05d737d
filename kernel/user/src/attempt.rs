//! Accesses and instructions that may fault, with the exception as a value.
//!
//! An attempt is a stretch of assembler listed in the section `.attempts` with its first address
//! and the address behind it. When an exception comes from inside the stretch, the dispatcher
//! writes what it was into three registers and goes on behind it. So nothing is kept anywhere
//! but in registers, and threads can attempt side by side. [`crate::exceptions::install`] must
//! have been called; without it a fault ends the process.

use core::fmt;

use crate::NtStatus;
use crate::structures::{Context, ExceptionRecord};

/// Trap flag of `rflags`: an exception after every instruction.
pub const TRAP_FLAG: u64 = 1 << 8;

/// Alignment-check flag of `rflags`.
pub const ALIGNMENT_FLAG: u64 = 1 << 18;

/// An exception that an attempt ended with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exception {
    /// What it was.
    pub code: NtStatus,
    /// Its first parameter: for violations the kind of access.
    pub kind: u64,
    /// Its second parameter: for violations the address.
    pub address: u64,
}

impl Exception {
    /// From the registers the dispatcher left; `code` is 0 when there was no exception.
    ///
    /// # Errors
    /// The exception, if there was one.
    #[doc(hidden)]
    pub const fn from_registers(code: u64, kind: u64, address: u64) -> Result<(), Self> {
        match code {
            0 => Ok(()),
            code => Err(Self { code: NtStatus::new(code as u32), kind, address }),
        }
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, 0x{:x})", self.code, self.kind, self.address)
    }
}

/// Executes instructions that may fault; yields `Result<(), Exception>`. Operands follow as in
/// `asm!`, without `rax`, `rcx` and `rdx`. To be used inside `unsafe`.
#[macro_export]
macro_rules! attempt {
    ([$($instruction:literal),+ $(,)?] $(, $($operands:tt)*)?) => {{
        let code: u64;
        let kind: u64;
        let address: u64;
        core::arch::asm!(
            "2:",
            $($instruction,)+
            "3:",
            ".pushsection .attempts, \"a\"",
            ".balign 8",
            ".quad 2b, 3b",
            ".popsection",
            $($($operands)*,)?
            inlateout("rax") 0_u64 => code,
            lateout("rcx") address,
            lateout("rdx") kind,
        );
        $crate::attempt::Exception::from_registers(code, kind, address)
    }};
}

/// Loads the word at `address`.
///
/// # Errors
/// The exception it raised.
pub fn load(address: u64) -> Result<u64, Exception> {
    let value: u64;
    // SAFETY: a load changes nothing, wherever it goes.
    unsafe {
        attempt!(
            ["mov {value}, [{address}]"],
            address = in(reg) address,
            value = inout(reg) 0_u64 => value
        )?;
    }
    Ok(value)
}

/// Stores `value` at `address`.
///
/// # Safety
/// Nothing in the program may rely on the eight bytes there.
///
/// # Errors
/// The exception it raised.
pub unsafe fn store(address: u64, value: u64) -> Result<(), Exception> {
    // SAFETY: the caller's.
    unsafe {
        attempt!(
            ["mov [{address}], {value}"],
            address = in(reg) address,
            value = in(reg) value
        )
    }
}

/// Loads the byte at `address`.
///
/// # Errors
/// The exception it raised.
pub fn load_byte(address: u64) -> Result<u8, Exception> {
    let value: u32;
    // SAFETY: as in `load`.
    unsafe {
        attempt!(
            ["movzx {value:e}, byte ptr [{address}]"],
            address = in(reg) address,
            value = inout(reg) 0_u32 => value
        )?;
    }
    Ok(value as u8)
}

/// Stores `value` at `address`.
///
/// # Safety
/// Nothing in the program may rely on the byte there.
///
/// # Errors
/// The exception it raised.
pub unsafe fn store_byte(address: u64, value: u8) -> Result<(), Exception> {
    // SAFETY: the caller's.
    unsafe {
        attempt!(
            ["mov [{address}], {value}"],
            address = in(reg) address,
            value = in(reg_byte) value
        )
    }
}

/// Calls the code at `address`.
///
/// # Safety
/// If there is code, it must return and behave as a function of the C calling convention.
///
/// # Errors
/// The exception that fetching its first instruction raised.
pub unsafe fn fetch(address: u64) -> Result<(), Exception> {
    // SAFETY: the caller's. The dispatcher knows such a call by r10 and r11 and drops the return
    // address.
    unsafe {
        attempt!(
            ["lea r11, [rip + 3f]", "call r10"],
            inout("r10") address => _,
            out("r11") _,
            lateout("rsi") _,
            lateout("rdi") _,
            lateout("r8") _,
            lateout("r9") _
        )
    }
}

/// First and last address of an attempt; execution goes on at the last.
#[repr(C)]
struct Attempt {
    start: u64,
    end: u64,
}

unsafe extern "C" {
    /// First attempt; the linker script puts it in front of the section.
    static attempts_start: Attempt;
    /// End of the last one.
    static attempts_end: Attempt;
}

/// Ends the attempt that `record` interrupted, if it did interrupt one.
pub(crate) fn finish(record: &ExceptionRecord, context: &mut Context) -> bool {
    let Some(end) = find(|attempt| (attempt.start..=attempt.end).contains(&context.rip))
        .or_else(|| drop_failed_call(context))
    else {
        return false;
    };
    context.rax = u64::from(record.code.code());
    let [kind, address, ..] = record.parameters;
    context.rdx = kind;
    context.rcx = address;
    context.rip = end;
    context.rflags &= !(TRAP_FLAG | ALIGNMENT_FLAG);
    true
}

/// The call of [`fetch`] has happened when its target cannot be fetched.
fn drop_failed_call(context: &mut Context) -> Option<u64> {
    let end = find(|attempt| attempt.end == context.r11)?;
    if context.rip != context.r10 {
        return None;
    }
    context.rsp = context.rsp.wrapping_add(8);
    Some(end)
}

/// The end of the first attempt that `is_it` accepts.
fn find(is_it: impl Fn(&Attempt) -> bool) -> Option<u64> {
    let mut attempt = &raw const attempts_start;
    let end = &raw const attempts_end;
    while attempt < end {
        // SAFETY: between the two symbols lie attempts, and nothing else, in constant memory.
        let this = unsafe { &*attempt };
        if is_it(this) {
            return Some(this.end);
        }
        attempt = attempt.wrapping_add(1);
    }
    None
}
