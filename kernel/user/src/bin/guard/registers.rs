//! Registers survive an exception that is handled.

use ntmm_user::findings::Findings;
use ntmm_user::flags::{MEM_COMMIT, PAGE_GUARD, PAGE_READWRITE};
use ntmm_user::memory::Block;
use ntmm_user::random::mix;
use ntmm_user::structures::AccessKind;
use ntmm_user::{NtStatus, PAGE_SIZE};

use crate::handler::{Mend, once};

/// General registers loaded before the access and stored after it, `rsp` and `rax` aside.
const GENERAL: usize = 14;
/// Words of the sixteen vector registers.
const VECTOR: usize = 32;
/// The arithmetic flags, and the direction flag.
const FLAGS: u64 = 0x0CD5;

/// What the registers hold.
#[repr(C, align(16))]
struct Registers {
    vector: [u64; VECTOR],
    general: [u64; GENERAL],
    flags: u64,
    control: u32,
}

core::arch::global_asm!(
    // touch_with_registers(address: rdi, before: rsi, after: rdx): loads all registers from
    // `before`, loads a word from `address`, stores all registers to `after`.
    ".pushsection .text.touch_with_registers, \"ax\"",
    ".globl touch_with_registers",
    "touch_with_registers:",
    "    push rbx",
    "    push rbp",
    "    push r12",
    "    push r13",
    "    push r14",
    "    push r15",
    "    push rdx",
    "    mov rax, rdi",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "    movaps xmm\\n, [rsi + \\n * 16]",
    ".endr",
    "    ldmxcsr [rsi + 376]",
    "    push qword ptr [rsi + 368]",
    "    mov rbx, [rsi + 256]",
    "    mov rcx, [rsi + 264]",
    "    mov rdx, [rsi + 272]",
    "    mov rdi, [rsi + 280]",
    "    mov rbp, [rsi + 288]",
    "    mov r8, [rsi + 296]",
    "    mov r9, [rsi + 304]",
    "    mov r10, [rsi + 312]",
    "    mov r11, [rsi + 320]",
    "    mov r12, [rsi + 328]",
    "    mov r13, [rsi + 336]",
    "    mov r14, [rsi + 344]",
    "    mov r15, [rsi + 352]",
    "    mov rsi, [rsi + 360]",
    "    popfq",
    "    mov rax, [rax]",
    "    pushfq",
    // The word loaded goes into the place of the pointer that is needed now.
    "    xchg rax, [rsp + 8]",
    "    mov [rax + 256], rbx",
    "    mov [rax + 264], rcx",
    "    mov [rax + 272], rdx",
    "    mov [rax + 280], rdi",
    "    mov [rax + 288], rbp",
    "    mov [rax + 296], r8",
    "    mov [rax + 304], r9",
    "    mov [rax + 312], r10",
    "    mov [rax + 320], r11",
    "    mov [rax + 328], r12",
    "    mov [rax + 336], r13",
    "    mov [rax + 344], r14",
    "    mov [rax + 352], r15",
    "    mov [rax + 360], rsi",
    "    pop qword ptr [rax + 368]",
    "    cld",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "    movaps [rax + \\n * 16], xmm\\n",
    ".endr",
    "    stmxcsr [rax + 376]",
    "    push 0x1F80",
    "    ldmxcsr [rsp]",
    "    pop rcx",
    "    pop rax",
    "    pop r15",
    "    pop r14",
    "    pop r13",
    "    pop r12",
    "    pop rbp",
    "    pop rbx",
    "    ret",
    ".popsection",
);

unsafe extern "C" {
    fn touch_with_registers(address: u64, before: *const Registers, after: *mut Registers) -> u64;
}

/// All registers and flags are the same after a guard page was touched.
pub fn survive(findings: &mut Findings) -> Result<(), NtStatus> {
    let block = Block::commit_new(1)?;
    let value = mix(0x7261_7820);
    block.store(0, value);
    block.protect(0, PAGE_SIZE, PAGE_READWRITE | PAGE_GUARD)?;
    let before = Registers {
        vector: core::array::from_fn(|word| mix(word as u64 + 1)),
        general: core::array::from_fn(|register| mix(register as u64 + 100)),
        // Interrupts are on and bit 1 is one in every program.
        flags: FLAGS | 0x202,
        // Rounding towards zero, all exceptions masked.
        control: 0x7F80,
    };
    let mut after = Registers { vector: [0; VECTOR], general: [0; GENERAL], flags: 0, control: 0 };
    let raised = (NtStatus::GUARD_PAGE_VIOLATION, AccessKind::Read, block.base());
    let loaded = once(findings, "registers", Mend::Nothing, raised, || {
        // SAFETY: the function keeps the C calling convention and writes only to `after`.
        unsafe { touch_with_registers(block.base(), &raw const before, &raw mut after) }
    });
    findings.word(block.base(), value, loaded);
    findings.equal("vector registers", before.vector, after.vector);
    findings.equal("general registers", before.general, after.general);
    findings.equal("flags", FLAGS, after.flags & FLAGS);
    findings.equal("floating-point control", before.control, after.control & 0xFFC0);
    block.release()
}

/// A string instruction that meets a guard page half-way goes on where it was.
pub fn string_copy_goes_on(findings: &mut Findings) -> Result<(), NtStatus> {
    let source = Block::commit_new(3)?;
    let target = Block::allocate(3 * PAGE_SIZE, MEM_COMMIT, PAGE_READWRITE)?;
    let words = source.size() / 8;
    for word in 0..words {
        source.store(word * 8, mix(word + 1));
    }
    target.protect(PAGE_SIZE, PAGE_SIZE, PAGE_READWRITE | PAGE_GUARD)?;
    let raised = (NtStatus::GUARD_PAGE_VIOLATION, AccessKind::Write, target.base() + PAGE_SIZE);
    once(findings, "string copy", Mend::Nothing, raised, || {
        // SAFETY: both blocks have `words` words, and no Rust reference to them exists.
        unsafe {
            core::arch::asm!(
                "rep movsq",
                inout("rcx") words => _,
                inout("rsi") source.base() => _,
                inout("rdi") target.base() => _,
                options(nostack, preserves_flags),
            );
        }
    });
    for word in 0..words {
        findings.word(target.base() + word * 8, mix(word + 1), target.load(word * 8));
    }
    source.release()?;
    target.release()
}
