//! Contexts no program should go on with, given to NtContinue.

use core::sync::atomic::{AtomicU64, Ordering};

use ntmm_user::NtStatus;
use ntmm_user::findings::Findings;
use ntmm_user::services::NtContinue;
use ntmm_user::structures::Context;

use crate::escape::{STACK, survive};

/// Where the context goes on, its stack pointer, its flags, and what fills its vector state.
static RIP: AtomicU64 = AtomicU64::new(0);
static RSP: AtomicU64 = AtomicU64::new(0);
static FLAGS: AtomicU64 = AtomicU64::new(0);
static FILL: AtomicU64 = AtomicU64::new(0);
/// The flags with which the program really went on.
static SEEN: AtomicU64 = AtomicU64::new(0);

/// The privilege level for input and output, and virtual-8086 mode.
const FORBIDDEN: u64 = 0x2_3000;
/// Interrupts, which a program cannot switch off.
const INTERRUPTS: u64 = 0x200;
/// All flags but the trap flag, which would raise on its own.
const ALMOST_ALL: u64 = !0x100;

core::arch::global_asm!(
    // Notes the flags and raises, on the stack of the call that is under way.
    ".pushsection .text.arrive, \"ax\"",
    ".globl arrive",
    "arrive:",
    "    mov rsp, [rip + {stack}]",
    "    sub rsp, 512",
    "    pushfq",
    "    pop [rip + {seen}]",
    "    ud2",
    ".popsection",
    stack = sym STACK,
    seen = sym SEEN,
);

unsafe extern "C" {
    /// Code, not to be called.
    static arrive: u8;
}

/// Everything.
pub fn check(findings: &mut Findings) {
    let arrival = (&raw const arrive).addr() as u64;
    let own_stack = 0;
    let violation = NtStatus::ACCESS_VIOLATION;
    for rip in [0, 0xFFFF_FFFF_8010_0000, 0x0000_8000_0000_0000, 0x0000_07FF_FFFF_0000] {
        let found = go_on(rip, own_stack, INTERRUPTS, 0);
        findings.equal(format_args!("continue at 0x{rip:x}"), violation, found);
    }
    // Arriving raises.
    let arrived = NtStatus::ILLEGAL_INSTRUCTION;
    for stack in [8, 0xFFFF_FFFF_8010_0000, 0x0000_8000_0000_0000, u64::MAX] {
        let found = go_on(arrival, stack, INTERRUPTS, 0);
        findings.equal(format_args!("continue on stack 0x{stack:x}"), arrived, found);
    }
    for flags in [0, ALMOST_ALL, FORBIDDEN, 0x4000] {
        SEEN.store(0, Ordering::SeqCst);
        let found = go_on(arrival, own_stack, flags, 0);
        findings.equal(format_args!("continue with flags 0x{flags:x}"), arrived, found);
        let seen = SEEN.load(Ordering::SeqCst);
        findings.equal("flags a program may not have", INTERRUPTS, seen & (FORBIDDEN | INTERRUPTS));
    }
    for fill in [0, 0x7F, 0x80, 0xFF] {
        let found = go_on(arrival, own_stack, INTERRUPTS, fill);
        findings.equal(format_args!("continue with vectors of 0x{fill:x}"), arrived, found);
    }
}

/// Goes on with such a context; yields what it raised. A stack of 0 stands for the present one.
fn go_on(rip: u64, rsp: u64, flags: u64, fill: u64) -> NtStatus {
    RIP.store(rip, Ordering::SeqCst);
    RSP.store(rsp, Ordering::SeqCst);
    FLAGS.store(flags, Ordering::SeqCst);
    FILL.store(fill, Ordering::SeqCst);
    survive(continue_there).err().map_or(NtStatus::SUCCESS, |raised| raised.code)
}

extern "C" fn continue_there() {
    let rsp = match RSP.load(Ordering::SeqCst) {
        0 => STACK.load(Ordering::SeqCst) - 0x1000,
        other => other,
    };
    let context = Context {
        rax: 0,
        rbx: 0,
        rcx: 0,
        rdx: 0,
        rsi: 0,
        rdi: 0,
        rbp: 0,
        rsp,
        r8: 0,
        r9: 0,
        r10: 0,
        r11: 0,
        r12: 0,
        r13: 0,
        r14: 0,
        r15: 0,
        rip: RIP.load(Ordering::SeqCst),
        rflags: FLAGS.load(Ordering::SeqCst),
        fx: [FILL.load(Ordering::SeqCst) as u8; 512],
    };
    // SAFETY: wherever it goes on, it raises, and then goes on behind `survive`, where nothing
    // relies on this frame.
    let _ = unsafe { NtContinue(&raw const context) };
}
