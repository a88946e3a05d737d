# Into the kernel and out of it.
#
# Every gate enters on IST stack 1, because code that the kernel interrupts may keep data in the
# 128 bytes below its stack pointer (precompiled libraries have a red zone). trap_common moves the
# frame to where it belongs, the thread's kernel stack when it comes from ring 3, otherwise below
# the red zone of what was interrupted, and leaves the IST stack at once: traps nest, and a thread
# can wait inside one. A stack that has overflowed is not moved to.
#
# Offsets into the processor's record (processor.rs), which GS points to in the kernel:

    .set KERNEL_STACK, {kernel_stack}
    .set USER_STACK, {user_stack}
    .set STACK_LIMIT, {stack_limit}
    .set PENDING, {pending}
    .set SERVICES, {services}

# Room the handler of a trap may need at least.
    .set HEADROOM, 2048

    .section .text
    .altmacro
    .macro  stub number
    .balign 16
    .if     (\number == 8) || ((\number >= 10) && (\number <= 14)) || (\number == 17) || (\number == 21)
    .else
    pushq   $0
    .endif
    pushq   $\number
    jmp     trap_common
    .endm

    .balign 16
    .globl trap_stubs
trap_stubs:
    .set    number, 0
    .rept   256
    stub    %number
    .set    number, number + 1
    .endr

# On the IST stack: vector, error code, rip, cs, rflags, rsp, ss.
trap_common:
    pushq   %rax
    pushq   %rbx
    testb   $3, 40(%rsp)
    jz      1f
    swapgs
    movq    %gs:KERNEL_STACK, %rax
    jmp     2f
1:  movq    56(%rsp), %rax
    subq    $128, %rax
    andq    $-16, %rax
    movq    %gs:STACK_LIMIT, %rbx
    addq    $HEADROOM, %rbx
    cmpq    %rbx, %rax
    jb      stack_overflow
2:  movq    64(%rsp), %rbx              # ss
    movq    %rbx, -8(%rax)
    movq    56(%rsp), %rbx              # rsp
    movq    %rbx, -16(%rax)
    movq    48(%rsp), %rbx              # rflags
    movq    %rbx, -24(%rax)
    movq    40(%rsp), %rbx              # cs
    movq    %rbx, -32(%rax)
    movq    32(%rsp), %rbx              # rip
    movq    %rbx, -40(%rax)
    movq    24(%rsp), %rbx              # error code
    movq    %rbx, -48(%rax)
    movq    16(%rsp), %rbx              # vector
    movq    %rbx, -56(%rax)
    movq    8(%rsp), %rbx               # rax
    movq    %rbx, -64(%rax)
    movq    (%rsp), %rbx
    leaq    -64(%rax), %rsp
    pushq   %rbx
    pushq   %rcx
    pushq   %rdx
    pushq   %rsi
    pushq   %rdi
    pushq   %rbp
    pushq   %r8
    pushq   %r9
    pushq   %r10
    pushq   %r11
    pushq   %r12
    pushq   %r13
    pushq   %r14
    pushq   %r15
    subq    $512, %rsp                  # 22 words above: still a multiple of 16
    fxsaveq (%rsp)
    cld
    movq    %rsp, %rdi
    movq    %rsp, %rbp
    call    trap_handler

# Leaves a trap: RSP points to a complete frame.
    .globl trap_return
trap_return:
    cli
    fxrstorq (%rsp)
    addq    $512, %rsp
    popq    %r15
    popq    %r14
    popq    %r13
    popq    %r12
    popq    %r11
    popq    %r10
    popq    %r9
    popq    %r8
    popq    %rbp
    popq    %rdi
    popq    %rsi
    popq    %rdx
    popq    %rcx
    popq    %rbx
    popq    %rax
    addq    $16, %rsp
    testb   $3, 8(%rsp)
    jz      1f
    swapgs
1:  iretq

stack_overflow:
    movq    %rsp, %rdi
    andq    $-16, %rsp
    call    kernel_stack_overflow
    ud2

# Leaves to the frame at RDI, wherever that is.
    .globl return_to_frame
return_to_frame:
    movq    %rdi, %rsp
    jmp     trap_return

# System calls. RAX the number, arguments in RDI RSI RDX R10 R8 R9; RCX and R11 are the return
# address and the flags. As a function call it keeps RBX, RBP, RSP and R12 to R15 only; what else
# the kernel leaves in registers is not the program's to see.
    .balign 16
    .globl system_call_entry
system_call_entry:
    swapgs
    movq    %rsp, %gs:USER_STACK
    movq    %gs:KERNEL_STACK, %rsp
    pushq   %gs:USER_STACK
    pushq   %r11
    pushq   %rcx
    pushq   %rbp
    sti
    cmpq    $SERVICES, %rax
    jae     1f
    movq    %r10, %rcx
    call    *service_table(, %rax, 8)
2:  cli
    cmpq    $0, %gs:PENDING             # and the attention beside it
    jnz     3f
    xorl    %edi, %edi
    xorl    %esi, %esi
    xorl    %edx, %edx
    xorl    %r8d, %r8d
    xorl    %r9d, %r9d
    xorl    %r10d, %r10d
    .irp    number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    xorps   %xmm\number, %xmm\number
    .endr
    popq    %rbp
    popq    %rcx
    popq    %r11
    popq    %rsp
    swapgs
    sysretq
1:  movl    $0xC000001C, %eax           # STATUS_INVALID_SYSTEM_SERVICE
    jmp     2b
3:  sti
    pushq   %rax
    subq    $8, %rsp
    call    before_user_mode
    addq    $8, %rsp
    popq    %rax
    jmp     2b

# Saves this thread's context at (RDI) and goes on with the one at RSI. Of the floating-point state
# a function keeps the two control words; the rest is not the other thread's to see.
    .globl switch_context
switch_context:
    pushq   %rbp
    pushq   %rbx
    pushq   %r12
    pushq   %r13
    pushq   %r14
    pushq   %r15
    subq    $8, %rsp
    stmxcsr (%rsp)
    fnstcw  4(%rsp)
    movq    %rsp, (%rdi)
    movq    %rsi, %rsp
    ldmxcsr (%rsp)
    fninit
    fldcw   4(%rsp)
    addq    $8, %rsp
    popq    %r15
    popq    %r14
    popq    %r13
    popq    %r12
    popq    %rbx
    popq    %rbp
    ret

# First steps of a kernel thread: R12 is where to go, R13 and R14 the arguments.
    .globl thread_start
thread_start:
    movq    %r13, %rdi
    movq    %r14, %rsi
    xorl    %ebp, %ebp
    call    *%r12
    ud2

# Copies RDX bytes from RSI to RDI, one side of which belongs to a program. Returns 0, or the
# status of the fault that could not be resolved: the trap handler goes on at user_copy_failed with
# it in EAX.
    .globl user_copy, user_copy_end, user_copy_failed
user_copy:
    movq    %rdx, %rcx
    cmpq    $8, %rcx
    jne     1f
    movq    (%rsi), %rcx
    movq    %rcx, (%rdi)
    xorl    %eax, %eax
    ret
1:  rep movsb
    xorl    %eax, %eax
user_copy_failed:
    ret
user_copy_end:
