//! Exceptions of programs (KiDispatchException).
//!
//! The state of the thread and a description are put on its stack and the thread goes on in the
//! dispatcher its process has named. A process without one, or whose stack cannot take the record,
//! ends with the exception's code as its status.

use ntmm::NtStatus;
use ntmm_pte::AccessKind;

use crate::trap::Frame;
use crate::{process, user};

/// Distance a program's functions may use below their stack pointer.
const RED_ZONE: u64 = 128;

/// What happened.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    status: NtStatus,
    parameters: [u64; 4],
    count: u32,
}

impl Exception {
    /// An access the manager refused.
    pub fn of_memory(status: NtStatus, access: AccessKind, address: u64) -> Self {
        let access = match access {
            AccessKind::Read => 0,
            AccessKind::Write => 1,
            AccessKind::Execute => 8,
        };
        let (cause, count) = match status {
            NtStatus::IN_PAGE_ERROR => (NtStatus::IO_DEVICE_ERROR.code().into(), 3),
            _ => (0, 2),
        };
        Self { status, parameters: [access, address, cause, 0], count }
    }

    /// What a processor raised at an instruction.
    pub fn of_vector(vector: u8, address: u64) -> Self {
        let status = match vector {
            0 => NtStatus::INTEGER_DIVIDE_BY_ZERO,
            1 => NtStatus::SINGLE_STEP,
            3 => NtStatus::BREAKPOINT,
            4 => NtStatus::INTEGER_OVERFLOW,
            5 => NtStatus::ARRAY_BOUNDS_EXCEEDED,
            6 => NtStatus::ILLEGAL_INSTRUCTION,
            13 if is_privileged(address) => NtStatus::PRIVILEGED_INSTRUCTION,
            16 | 19 => NtStatus::FLOAT_INVALID_OPERATION,
            17 => NtStatus::DATATYPE_MISALIGNMENT,
            // An address that is not canonical, and others the processor does not tell.
            _ => return Self::of_memory(NtStatus::ACCESS_VIOLATION, AccessKind::Read, u64::MAX),
        };
        Self { status, parameters: [0; 4], count: 0 }
    }
}

impl Exception {
    /// As a program sees it that was at `address`.
    const fn record(&self, address: u64) -> Record {
        Record {
            code: self.status.code(),
            flags: 0,
            address,
            parameter_count: self.count,
            padding: 0,
            parameters: self.parameters,
        }
    }
}

/// Whether the instruction is one that ring 3 may not use, as far as its first bytes tell.
fn is_privileged(address: u64) -> bool {
    const LONGEST: usize = 15;
    let mut bytes = [0; LONGEST];
    // The instruction may end where its page does.
    let count =
        (1..=LONGEST).rev().find(|&count| user::read_bytes(address, &mut bytes[..count]).is_ok());
    let is_prefix = |byte: &u8| matches!(byte, 0x66 | 0x67 | 0xF0 | 0xF2 | 0xF3 | 0x40..=0x4F);
    let mut opcode = bytes[..count.unwrap_or(0)].iter().copied().skip_while(is_prefix);
    match (opcode.next(), opcode.next()) {
        // ins, outs, in, out, hlt, cli, sti
        (Some(0x6C..=0x6F | 0xE4..=0xE7 | 0xEC..=0xEF | 0xF4 | 0xFA | 0xFB), _) => true,
        // lldt and its like, lgdt and its like, clts, invd, wbinvd, moves to control and debug
        // registers, wrmsr, rdmsr
        (Some(0x0F), Some(0x00 | 0x01 | 0x06 | 0x08 | 0x09 | 0x20..=0x23 | 0x30 | 0x32)) => true,
        _ => false,
    }
}

/// EXCEPTION_RECORD, as the user library has it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Record {
    code: u32,
    flags: u32,
    address: u64,
    parameter_count: u32,
    padding: u32,
    parameters: [u64; 4],
}

/// CONTEXT, as the user library has it.
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub struct Context {
    rax: u64,
    rbx: u64,
    rcx: u64,
    rdx: u64,
    rsi: u64,
    rdi: u64,
    rbp: u64,
    rsp: u64,
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rip: u64,
    rflags: u64,
    floating_point: [u8; 512],
}

impl Context {
    fn of(frame: &Frame) -> Self {
        /// What the processor does not write of the area.
        const UNUSED: usize = 416;
        let mut floating_point = frame.floating_point;
        floating_point[UNUSED..].fill(0);
        Self {
            rax: frame.rax,
            rbx: frame.rbx,
            rcx: frame.rcx,
            rdx: frame.rdx,
            rsi: frame.rsi,
            rdi: frame.rdi,
            rbp: frame.rbp,
            rsp: frame.rsp,
            r8: frame.r8,
            r9: frame.r9,
            r10: frame.r10,
            r11: frame.r11,
            r12: frame.r12,
            r13: frame.r13,
            r14: frame.r14,
            r15: frame.r15,
            rip: frame.rip,
            rflags: frame.rflags,
            floating_point,
        }
    }

    /// Goes on where the context says.
    pub fn resume(&self) -> ! {
        let mut frame = Frame::of_program(self.rip, self.rsp, [self.rdi, self.rsi]);
        frame.rax = self.rax;
        frame.rbx = self.rbx;
        frame.rcx = self.rcx;
        frame.rdx = self.rdx;
        frame.rbp = self.rbp;
        frame.r8 = self.r8;
        frame.r9 = self.r9;
        frame.r10 = self.r10;
        frame.r11 = self.r11;
        frame.r12 = self.r12;
        frame.r13 = self.r13;
        frame.r14 = self.r14;
        frame.r15 = self.r15;
        frame.rflags = self.rflags;
        frame.floating_point = self.floating_point;
        frame.confine();
        frame.enter_program()
    }
}

/// Lets the running thread, whose state is `frame`, see the exception when it goes on.
pub fn raise(frame: &mut Frame, exception: &Exception) {
    let dispatcher = process::current_dispatcher();
    let context = Context::of(frame);
    let context_at = (frame.rsp.wrapping_sub(RED_ZONE + size_of::<Context>() as u64)) & !15;
    let record_at = context_at.wrapping_sub(size_of::<Record>() as u64) & !15;
    let write = |exception: &Exception| {
        let record = exception.record(frame.rip);
        user::write(context_at, &context).and_then(|()| user::write(record_at, &record))
    };
    let mut exception = *exception;
    let mut written = write(&exception);
    if written == Err(NtStatus::STACK_OVERFLOW) {
        // What does not fit on the stack is told instead, on the pages that are kept for it.
        let access = AccessKind::Write;
        exception = Exception::of_memory(NtStatus::STACK_OVERFLOW, access, context_at);
        written = write(&exception);
    }
    if dispatcher == 0 || written.is_err() {
        let [first, second, ..] = exception.parameters;
        crate::say!(
            "{}: {} at {:#x} ({first:#x}, {second:#x}), and nobody to handle it",
            process::current_name(),
            exception.status,
            frame.rip,
        );
        process::terminate_current(exception.status);
        return;
    }
    frame.rip = dispatcher;
    frame.rdi = record_at;
    frame.rsi = context_at;
    // As after a call.
    frame.rsp = record_at - 8;
    // As a function expects them.
    frame.rflags = 0;
    frame.confine();
}
