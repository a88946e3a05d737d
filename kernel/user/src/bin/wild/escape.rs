//! Coming back from anywhere.
//!
//! [`survive`] calls a function; if an exception interrupts it, however deep and with whatever in
//! its registers, the handler goes on behind the call with the stack of the call. Only one call
//! can be under way.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ntmm_user::NtStatus;
use ntmm_user::attempt::Exception;
use ntmm_user::exceptions::{self, Disposition};
use ntmm_user::structures::{Context, ExceptionRecord};

/// Stack pointer of the call under way; 0 when there is none.
pub static STACK: AtomicU64 = AtomicU64::new(0);
/// The exception that ended the last call.
static CODE: AtomicU32 = AtomicU32::new(0);
static KIND: AtomicU64 = AtomicU64::new(0);
static ADDRESS: AtomicU64 = AtomicU64::new(0);

/// Flags every program has.
const FLAGS: u64 = 0x202;
/// x87 control word and MXCSR as a program begins with them.
const FLOATING_CONTROL: [u8; 2] = 0x037F_u16.to_le_bytes();
const MXCSR: [u8; 4] = 0x1F80_u32.to_le_bytes();

core::arch::global_asm!(
    // call_with_escape(function: rdi) -> 0, or 1 when it was left by the landing.
    ".pushsection .text.call_with_escape, \"ax\"",
    ".globl call_with_escape, escape_landing",
    "call_with_escape:",
    "    push rbx",
    "    push rbp",
    "    push r12",
    "    push r13",
    "    push r14",
    "    push r15",
    "    sub rsp, 8",
    "    mov [rip + {stack}], rsp",
    "    call rdi",
    "    xor eax, eax",
    "escape_landing:",
    "    add rsp, 8",
    "    pop r15",
    "    pop r14",
    "    pop r13",
    "    pop r12",
    "    pop rbp",
    "    pop rbx",
    "    ret",
    ".popsection",
    stack = sym STACK,
);

unsafe extern "C" {
    fn call_with_escape(function: extern "C" fn()) -> u64;
    /// Code, not to be called.
    static escape_landing: u8;
}

/// Registers the handler.
pub fn install() -> Result<(), NtStatus> {
    // SAFETY: the context the handler leaves is that of `call_with_escape` behind its call, with
    // the stack it had; the frames given up hold nothing that must be dropped.
    unsafe { exceptions::set_handler(handle) }
}

/// Calls `function`.
///
/// # Errors
/// The exception it raised.
pub fn survive(function: extern "C" fn()) -> Result<(), Exception> {
    // SAFETY: the function is called as its type says. If it is left early, all it borrowed were
    // statics.
    let left = unsafe { call_with_escape(function) };
    STACK.store(0, Ordering::SeqCst);
    if left == 0 {
        return Ok(());
    }
    Err(Exception {
        code: NtStatus::new(CODE.load(Ordering::SeqCst)),
        kind: KIND.load(Ordering::SeqCst),
        address: ADDRESS.load(Ordering::SeqCst),
    })
}

fn handle(record: &ExceptionRecord, context: &mut Context) -> Disposition {
    let stack = STACK.swap(0, Ordering::SeqCst);
    if stack == 0 {
        return Disposition::Terminate;
    }
    let [kind, address, ..] = record.parameters;
    CODE.store(record.code.code(), Ordering::SeqCst);
    KIND.store(kind, Ordering::SeqCst);
    ADDRESS.store(address, Ordering::SeqCst);
    context.rax = 1;
    context.rsp = stack;
    context.rip = (&raw const escape_landing).addr() as u64;
    context.rflags = FLAGS;
    // Tags and registers of the x87 unit are empty with the rest zero.
    context.fx = [0; 512];
    let (control, rest) = context.fx.split_at_mut(FLOATING_CONTROL.len());
    control.copy_from_slice(&FLOATING_CONTROL);
    if let Some(place) = rest.get_mut(22..26) {
        place.copy_from_slice(&MXCSR);
    }
    Disposition::Continue
}
