//! Instructions that raise, or must not.

use core::sync::atomic::AtomicU64;

use ntmm_user::NtStatus;
use ntmm_user::findings::Findings;
use ntmm_user::structures::AccessKind;

use crate::Case;
use crate::escape::survive;

/// An instruction sequence with the statuses it may raise.
macro_rules! cases {
    ($($name:literal: [$($instruction:literal),+ $(,)?] => $($status:ident)|+;)*) => {
        &[$(
            Case {
                name: $name,
                run: {
                    extern "C" fn run() {
                        // SAFETY: what is executed either raises, or leaves stack and registers
                        // as the calling convention wants them and memory as it was.
                        unsafe {
                            core::arch::asm!(
                                $($instruction,)+
                                out("r12") _,
                                clobber_abi("C"),
                            );
                        }
                    }
                    run
                },
                ends: &[$(NtStatus::$status),+],
            },
        )*]
    };
}

/// All of them. What the general-protection fault stands for is told by the instruction, as in
/// NT: privileged ones are named so, everything else is an access violation.
pub const CASES: &[Case] = cases! {
    // Addresses.
    "null-read": ["xor eax, eax", "mov rax, [rax]"] => ACCESS_VIOLATION;
    "null-write": ["xor eax, eax", "mov [rax], rax"] => ACCESS_VIOLATION;
    "null-jump": ["xor eax, eax", "jmp rax"] => ACCESS_VIOLATION;
    "kernel-read": ["mov rax, 0xFFFFFFFF80100000", "mov rax, [rax]"] => ACCESS_VIOLATION;
    "kernel-write": ["mov rax, 0xFFFFFFFF80100000", "mov [rax], rax"] => ACCESS_VIOLATION;
    "kernel-jump": ["mov rax, 0xFFFFFFFF80100000", "jmp rax"] => ACCESS_VIOLATION;
    "page-table-write": ["mov rax, 0xFFFFF68000000000", "mov [rax], rax"] => ACCESS_VIOLATION;
    "strange-read": ["mov rax, 0x800000000000", "mov rax, [rax]"] => ACCESS_VIOLATION;
    "strange-write": ["mov rax, 0x800000000000", "mov [rax], rax"] => ACCESS_VIOLATION;
    "strange-jump": ["mov rax, 0x800000000000", "jmp rax"] => ACCESS_VIOLATION;
    "strange-return": ["mov rax, 0xF00F800000000000", "push rax", "ret"] => ACCESS_VIOLATION;
    "code-write": ["lea rax, [rip]", "mov [rax], rax"] => ACCESS_VIOLATION;
    "stack-jump": ["push 0xC3", "jmp rsp"] => ACCESS_VIOLATION;
    "string-overrun": ["lea rdi, [rsp - 8]", "mov rcx, -1", "std", "rep stosb"] => STACK_OVERFLOW;
    // Instructions of the kernel's.
    "cli": ["cli"] => PRIVILEGED_INSTRUCTION;
    "sti": ["sti"] => PRIVILEGED_INSTRUCTION;
    "hlt": ["hlt"] => PRIVILEGED_INSTRUCTION;
    "read-cr0": ["mov rax, cr0"] => PRIVILEGED_INSTRUCTION;
    "write-cr0": ["xor eax, eax", "mov cr0, rax"] => PRIVILEGED_INSTRUCTION;
    "read-cr3": ["mov rax, cr3"] => PRIVILEGED_INSTRUCTION;
    "write-cr3": ["xor eax, eax", "mov cr3, rax"] => PRIVILEGED_INSTRUCTION;
    "write-cr4": ["xor eax, eax", "mov cr4, rax"] => PRIVILEGED_INSTRUCTION;
    "write-cr8": ["xor eax, eax", "mov cr8, rax"] => PRIVILEGED_INSTRUCTION;
    "read-dr7": ["mov rax, dr7"] => PRIVILEGED_INSTRUCTION;
    "write-dr7": ["xor eax, eax", "mov dr7, rax"] => PRIVILEGED_INSTRUCTION;
    "rdmsr": ["mov ecx, 0xC0000080", "rdmsr"] => PRIVILEGED_INSTRUCTION;
    "wrmsr": ["mov ecx, 0xC0000080", "xor eax, eax", "xor edx, edx", "wrmsr"]
        => PRIVILEGED_INSTRUCTION;
    "lgdt": ["lgdt [rsp]"] => PRIVILEGED_INSTRUCTION;
    "lidt": ["lidt [rsp]"] => PRIVILEGED_INSTRUCTION;
    "lldt": ["xor eax, eax", "lldt ax"] => PRIVILEGED_INSTRUCTION;
    "ltr": ["mov eax, 0x28", "ltr ax"] => PRIVILEGED_INSTRUCTION;
    "invlpg": ["invlpg [rsp]"] => PRIVILEGED_INSTRUCTION;
    "clts": ["clts"] => PRIVILEGED_INSTRUCTION;
    "invd": ["invd"] => PRIVILEGED_INSTRUCTION;
    "wbinvd": ["wbinvd"] => PRIVILEGED_INSTRUCTION;
    "swapgs": ["swapgs"] => PRIVILEGED_INSTRUCTION;
    "sysret": ["lea rcx, [rip]", "mov r11d, 0x202", "sysretq"]
        => PRIVILEGED_INSTRUCTION | ACCESS_VIOLATION;
    "in": ["in al, 0x60"] => PRIVILEGED_INSTRUCTION;
    "in-dx": ["mov edx, 0x3F8", "in al, dx"] => PRIVILEGED_INSTRUCTION;
    "out": ["mov eax, 0x10", "out 0xF4, al"] => PRIVILEGED_INSTRUCTION;
    "out-string": ["mov edx, 0xF4", "mov rsi, rsp", "outsd"] => PRIVILEGED_INSTRUCTION;
    "popf-cli": ["push 0x3202", "popfq", "cli"] => PRIVILEGED_INSTRUCTION;
    "sysenter": ["sysenter"] => ILLEGAL_INSTRUCTION | ACCESS_VIOLATION | PRIVILEGED_INSTRUCTION;
    // Selectors and gates of the kernel's.
    "kernel-ss": ["mov eax, 0x10", "mov ss, eax"] => ACCESS_VIOLATION;
    "kernel-ds": ["mov eax, 8", "mov ds, eax"] => ACCESS_VIOLATION;
    "no-selector": ["mov eax, 0xFFF8", "mov fs, eax"] => ACCESS_VIOLATION;
    "null-gs": ["xor eax, eax", "mov gs, eax", "syscall"] => SUCCESS;
    "own-gs": ["mov eax, ss", "mov gs, eax", "mov ds, eax", "mov es, eax", "xor eax, eax", "syscall"]
        => SUCCESS;
    "far-return": ["push 8", "lea rax, [rip]", "push rax", "retfq"] => ACCESS_VIOLATION;
    "interrupt-return": [
        "mov rax, rsp", "push 0x10", "push rax", "push 0x202", "push 8", "lea rax, [rip]",
        "push rax", "iretq",
    ] => ACCESS_VIOLATION;
    "int-8": ["int 8"] => ACCESS_VIOLATION;
    "int-14": ["int 14"] => ACCESS_VIOLATION;
    "int-20": ["int 0x20"] => ACCESS_VIOLATION;
    "int-80": ["int 0x80"] => ACCESS_VIOLATION;
    "int-ff": ["int 0xFF"] => ACCESS_VIOLATION;
    // Exceptions of the processor's.
    "ud2": ["ud2"] => ILLEGAL_INSTRUCTION;
    "into": [".byte 0xCE"] => ILLEGAL_INSTRUCTION;
    "lock-nop": [".byte 0xF0, 0x90"] => ILLEGAL_INSTRUCTION;
    "too-long": [".fill 16, 1, 0x66", "nop"] => ACCESS_VIOLATION | ILLEGAL_INSTRUCTION;
    "int3": ["int3"] => BREAKPOINT;
    "int-3": [".byte 0xCD, 3"] => BREAKPOINT;
    // Emulators do not agree what this one is.
    "int1": [".byte 0xF1"] => SINGLE_STEP | ILLEGAL_INSTRUCTION;
    "divide-by-zero": ["xor ecx, ecx", "xor edx, edx", "mov eax, 1", "div ecx"]
        => INTEGER_DIVIDE_BY_ZERO;
    "divide-overflow": ["mov eax, 0x80000000", "mov edx, -1", "mov ecx, -1", "idiv ecx"]
        => INTEGER_OVERFLOW | INTEGER_DIVIDE_BY_ZERO;
    "x87-divide": [
        "fninit", "push 0x37B", "fldcw [rsp]", "fld1", "fldz", "fdivp", "fwait", "fninit",
        "pop rax",
    ] => FLOAT_DIVIDE_BY_ZERO | FLOAT_INVALID_OPERATION;
    "single-step": ["pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop"] => SINGLE_STEP;
    "single-step-syscall": [
        "xor eax, eax", "pushfq", "or qword ptr [rsp], 0x100", "popfq", "syscall", "nop",
    ] => SINGLE_STEP;
    "misaligned": [
        "pushfq", "or qword ptr [rsp], 0x40000", "popfq", "mov rax, [rsp + 1]", "pushfq",
        "and qword ptr [rsp], -0x40001", "popfq",
    ] => DATATYPE_MISALIGNMENT | SUCCESS;
    "bad-mxcsr": ["push -1", "ldmxcsr [rsp]", "push 0x1F80", "ldmxcsr [rsp]", "pop rax", "pop rax"]
        => ACCESS_VIOLATION | SUCCESS;
    // Services with whatever in the registers the kernel must not trust.
    "yield-backwards": ["std", "xor eax, eax", "syscall", "xor eax, eax", "int 0x2e", "cld"]
        => SUCCESS;
    "yield-nested-task": [
        "push 0x4202", "popfq", "xor eax, eax", "syscall", "xor eax, eax", "int 0x2e",
        "push 0x202", "popfq",
    ] => SUCCESS;
    "yield-aligned": [
        "push 0x40202", "popfq", "xor eax, eax", "syscall", "xor eax, eax", "int 0x2e",
        "push 0x202", "popfq",
    ] => SUCCESS;
    "yield-no-stack": [
        "mov r12, rsp", "xor esp, esp", "xor eax, eax", "syscall", "xor eax, eax", "int 0x2e",
        "mov rsp, r12",
    ] => SUCCESS;
    "yield-kernel-stack": [
        "mov r12, rsp", "mov rsp, 0xFFFFFFFF80100000", "xor eax, eax", "syscall",
        "xor eax, eax", "int 0x2e", "mov rsp, r12",
    ] => SUCCESS;
    "yield-strange-stack": [
        "mov r12, rsp", "mov rsp, 0x800000000000", "xor eax, eax", "syscall",
        "xor eax, eax", "int 0x2e", "mov rsp, r12",
    ] => SUCCESS;
    // Long enough for several clock interrupts.
    "spin-no-stack": [
        "mov r12, rsp", "xor esp, esp", "mov ecx, 20000000", "2:", "dec ecx", "jnz 2b",
        "mov rsp, r12",
    ] => SUCCESS;
    "spin-kernel-stack": [
        "mov r12, rsp", "mov rsp, 0xFFFFFFFF80100000", "mov ecx, 20000000", "2:", "dec ecx",
        "jnz 2b", "mov rsp, r12",
    ] => SUCCESS;
    "x87-pending-yield": [
        "fninit", "push 0x37B", "fldcw [rsp]", "fld1", "fldz", "fdivp", "xor eax, eax", "syscall",
        "xor eax, eax", "int 0x2e", "fninit", "pop rax",
    ] => SUCCESS;
    "huge-service": ["mov eax, 0xFFFFFFFF", "syscall", "mov rax, -1", "int 0x2e"] => SUCCESS;
    "high-service": ["mov rax, 0x8000000000000001", "syscall"] => SUCCESS;
};

/// Every one, each survived.
pub fn check(findings: &mut Findings) {
    for case in CASES {
        let found = survive(case.run).err();
        let code = found.map_or(NtStatus::SUCCESS, |raised| raised.code);
        findings.any_of(case.name, case.ends, code);
    }
    let found =
        survive(jump_into_data).map_err(|raised| (raised.code, raised.kind, raised.address));
    let fetch = (NtStatus::ACCESS_VIOLATION, AccessKind::Execute as u64, data());
    findings.equal("data-jump", Err(fetch), found);
}

/// Code among the data: `ret`.
static DATA: AtomicU64 = AtomicU64::new(0xC3);

fn data() -> u64 {
    DATA.as_ptr().addr() as u64
}

extern "C" fn jump_into_data() {
    // SAFETY: the bytes are an instruction that returns, should it be executed.
    unsafe { core::arch::asm!("call {data}", data = in(reg) data(), clobber_abi("C")) }
}
