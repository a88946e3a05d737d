//! Traps: exceptions, interrupts, and the old way of calling the system.
//!
//! `trap.s` has put the whole frame on the kernel stack of the thread; interrupts are off. A
//! page fault is the manager's: the thread steps the [`Fault`] until it is done, parked at every
//! wait, with interrupts on. A guard page of the thread's own stack lets the stack grow, be it the
//! program or the kernel that has touched it. What cannot be resolved is an exception of the program; in the
//! kernel it is a failed copy from or to a program, or the end.

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

use ntmm::platform::Irql;
use ntmm::{Fault, NtStatus, ProcessorMode, Step};
use ntmm_pte::{AccessKind, Va};
use x86_64::instructions::interrupts;
use x86_64::registers::control::Cr2;

use crate::descriptors::{DOUBLE_FAULT, SYSTEM_SERVICE, USER_CODE, USER_DATA};
use crate::exception::{self, Exception};
use crate::processor::{self, Processor, pending};
use crate::{
    apic, bug_check, dispatch, kernel, process, scheduler, services, shootdown, stack, watchdog,
};

global_asm!(
    include_str!("trap.s"),
    kernel_stack = const offset_of!(Processor, kernel_stack),
    user_stack = const offset_of!(Processor, user_stack),
    stack_limit = const offset_of!(Processor, stack_limit),
    pending = const offset_of!(Processor, pending),
    services = const services::COUNT,
    options(att_syntax)
);

unsafe extern "C" {
    static user_copy: u8;
    static user_copy_end: u8;
    static user_copy_failed: u8;
    fn return_to_frame(frame: &Frame) -> !;
}

/// Flags a program may choose: carry to overflow without the interrupt flag, and alignment check
/// and identification.
const USER_FLAGS: u64 = 0x0024_0CD5;
/// Flags a program always has: interrupts on, and the bit that is always set.
const FIXED_FLAGS: u64 = 0x202;
const INTERRUPTS_ON: u64 = 0x200;

const PAGE_FAULT: u64 = 14;

/// Everything a trap saves.
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub struct Frame {
    /// FXSAVE area.
    pub floating_point: [u8; 512],
    /// General registers.
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    /// Which trap.
    vector: u64,
    /// The processor's error code, or 0.
    error: u64,
    pub rip: u64,
    cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    ss: u64,
}

impl Frame {
    /// The frame with which a program begins.
    pub fn of_program(entry: u64, stack: u64, arguments: [u64; 2]) -> Self {
        const CONTROL: [u8; 2] = 0x037F_u16.to_le_bytes();
        const MXCSR: [u8; 4] = 0x1F80_u32.to_le_bytes();
        let mut floating_point = [0; 512];
        floating_point[..2].copy_from_slice(&CONTROL);
        floating_point[24..28].copy_from_slice(&MXCSR);
        Self {
            floating_point,
            r15: 0,
            r14: 0,
            r13: 0,
            r12: 0,
            r11: 0,
            r10: 0,
            r9: 0,
            r8: 0,
            rbp: 0,
            rdi: arguments[0],
            rsi: arguments[1],
            rdx: 0,
            rcx: 0,
            rbx: 0,
            rax: 0,
            vector: 0,
            error: 0,
            rip: entry,
            cs: USER_CODE.into(),
            rflags: FIXED_FLAGS,
            rsp: stack,
            ss: USER_DATA.into(),
        }
    }

    fn is_user(&self) -> bool {
        self.cs & 3 == 3
    }

    /// Makes the frame one that ring 3 may have, whatever a program has written into it.
    pub fn confine(&mut self) {
        self.cs = USER_CODE.into();
        self.ss = USER_DATA.into();
        self.rflags = self.rflags & USER_FLAGS | FIXED_FLAGS;
        // An address that is not canonical would fault in the kernel, on the way out.
        let canonical = |address: u64| (address as i64) << 16 >> 16 == address as i64;
        if !canonical(self.rip) {
            self.rip = 0;
        }
        // Bits of MXCSR that do not exist would fault too.
        let known = 0xFFBF_u32.to_le_bytes();
        for (byte, known) in self.floating_point[24..28].iter_mut().zip(known) {
            *byte &= known;
        }
    }

    /// Goes to ring 3.
    pub fn enter_program(&self) -> ! {
        // SAFETY: the frame is one of ring 3, whose stack and code are the program's own concern.
        unsafe { return_to_frame(self) }
    }
}

/// Every trap.
#[unsafe(no_mangle)]
extern "C" fn trap_handler(frame: &mut Frame) {
    let vector = frame.vector as u8;
    match vector {
        0..32 if frame.vector == PAGE_FAULT => page_fault(frame),
        0..32 => exception(frame),
        SYSTEM_SERVICE => {
            interrupts::enable();
            system_service(frame);
        }
        _ => interrupt(vector),
    }
    if frame.is_user() {
        before_user_mode();
    } else if frame.rflags & INTERRUPTS_ON != 0
        && processor::irql() < Irql::DISPATCH
        && processor::current().pending.load(Ordering::Relaxed) != 0
    {
        dispatch::run_pending();
    }
}

/// What a thread does before it goes on in its program: gives way, or ends.
#[unsafe(no_mangle)]
extern "C" fn before_user_mode() {
    if processor::current().pending.load(Ordering::Relaxed) != 0 {
        dispatch::run_pending();
    }
    if processor::current().attention.load(Ordering::Relaxed) != 0 && scheduler::is_killed() {
        interrupts::enable();
        process::end_thread();
    }
}

fn interrupt(vector: u8) {
    scheduler::note_wakeup();
    let own = processor::current();
    match vector {
        apic::TIMER_VECTOR => {
            apic::end_of_interrupt();
            scheduler::tick();
            watchdog::tick();
            return;
        }
        apic::FLUSH_VECTOR => shootdown::carry_out(),
        // The bit has been set by who sent it.
        apic::RESCHEDULE_VECTOR => {}
        apic::STOP_VECTOR => bug_check::halt(),
        apic::SPURIOUS_VECTOR => return,
        apic::DEVICE_VECTOR.. => {
            if let Some(disk) = &kernel().manager.platform().disk {
                disk.interrupt();
                own.pending.fetch_or(pending::COMPLETIONS, Ordering::SeqCst);
            }
        }
        _ => {}
    }
    apic::end_of_interrupt();
}

/// A system service through its gate: the same registers as `syscall`.
fn system_service(frame: &mut Frame) {
    let arguments = [frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9];
    frame.rax = services::call(frame.rax, arguments);
}

fn page_fault(frame: &mut Frame) {
    const WRITE: u64 = 1 << 1;
    const FETCH: u64 = 1 << 4;
    let address = Cr2::read_raw();
    let access = match frame.error {
        error if error & FETCH != 0 => AccessKind::Execute,
        error if error & WRITE != 0 => AccessKind::Write,
        _ => AccessKind::Read,
    };
    let is_user = frame.is_user();
    if !is_user && (processor::irql() >= Irql::DISPATCH || frame.rflags & INTERRUPTS_ON == 0) {
        let parameters = [address, processor::irql().0.into(), access as u64, frame.rip];
        bug_check::stop(bug_check::IRQL_NOT_LESS_OR_EQUAL, parameters);
    }
    let in_copy =
        (&raw const user_copy as u64..&raw const user_copy_end as u64).contains(&frame.rip);
    if !is_user && !in_copy {
        let parameters = [address, access as u64, frame.rip, 0];
        bug_check::stop(bug_check::PAGE_FAULT_IN_NONPAGED_AREA, parameters);
    }
    interrupts::enable();
    let mode = if is_user { ProcessorMode::User } else { ProcessorMode::Kernel };
    let outcome = match resolve(Va::new(address), access, mode) {
        Err(NtStatus::GUARD_PAGE_VIOLATION) => stack::grow(Va::new(address)),
        outcome => outcome,
    };
    let Err(status) = outcome else { return };
    if is_user && scheduler::is_killed() {
        return;
    }
    if is_user {
        exception::raise(frame, &Exception::of_memory(status, access, address));
    } else {
        frame.rip = &raw const user_copy_failed as u64;
        frame.rax = status.code().into();
    }
}

/// Steps a fault of the running thread to its end.
fn resolve(va: Va, access: AccessKind, mode: ProcessorMode) -> Result<(), NtStatus> {
    let home = scheduler::home().ok_or(NtStatus::ACCESS_VIOLATION)?;
    let manager = &kernel().manager;
    let mut fault = Fault::new(home.space, va, access, mode);
    loop {
        match manager.step(&mut fault) {
            Step::Done(_) => return Ok(()),
            Step::Raise(status) => return Err(status),
            Step::Wait(wait) => {
                if scheduler::wait(wait).is_err() {
                    manager.abandon(fault);
                    // The thread ends before it touches the page again.
                    return Err(NtStatus::PROCESS_IS_TERMINATING);
                }
            }
        }
    }
}

/// Everything else a processor raises.
fn exception(frame: &mut Frame) {
    if !frame.is_user() {
        let parameters = [frame.vector, frame.rip, frame.error, frame.rsp];
        bug_check::stop(bug_check::UNEXPECTED_KERNEL_MODE_TRAP, parameters);
    }
    interrupts::enable();
    let exception = Exception::of_vector(frame.vector as u8, frame.rip);
    exception::raise(frame, &exception);
}

/// A trap found no room on the kernel stack it belongs to.
#[unsafe(no_mangle)]
extern "C" fn kernel_stack_overflow(words: &[u64; 9]) -> ! {
    let [_, _, vector, _, rip, _, _, rsp, _] = *words;
    let parameters = [DOUBLE_FAULT.into(), rip, vector, rsp];
    bug_check::stop(bug_check::UNEXPECTED_KERNEL_MODE_TRAP, parameters)
}
