# Out of long mode, one access through somebody else's page tables, and back.
#
# probe_make leaves the kernel's page tables for the boot tables, in which this code lies one to
# one, turns paging off, takes up the paging mode of the probe (probe_request), and enters the
# stub of the access in ring 0 or 3. The stub makes it and raises a breakpoint; or the
# processor raises a page fault. Either way the exception is written down (probe_answer) and the
# same road leads back. The tables under test map the first 2 MiB one to one. Ring 3 needs the page
# of the stubs. FS and GS are not touched; the
# task register is lost.

    .set    EFER, 0xC0000080
    .set    EFER_LME, 0x100
    .set    CR0_PG, 0x80000000
    .set    KERNEL_CODE_64, 0x08
    .set    KERNEL_CODE, 0x10
    .set    KERNEL_DATA, 0x18
    .set    USER_CODE, 0x23
    .set    USER_DATA, 0x2B
    .set    TASK, 0x30

    .section .text
    .code64
    .globl  probe_make
probe_make:
    pushq   %rbx
    pushq   %rbp
    pushq   %r12
    pushq   %r13
    pushq   %r14
    pushq   %r15
    movq    %cr3, %rax
    movl    $boot_pml4, %ecx
    movq    %rcx, %cr3
    movl    $probe_leave, %ecx
    jmp     *%rcx
probe_back:
    movq    %rcx, %cr3
    movq    %rdx, %rsp
    popq    %r15
    popq    %r14
    popq    %r13
    popq    %r12
    popq    %rbp
    popq    %rbx
    ret

    .section .boot.text, "ax"
    .code64
probe_leave:
    movq    %rsp, probe_saved_rsp
    movq    %rax, probe_saved_cr3
    movq    %cr0, %rax
    movq    %rax, probe_saved_cr0
    movq    %cr4, %rax
    movq    %rax, probe_saved_cr4
    movl    $EFER, %ecx
    rdmsr
    movl    %eax, probe_saved_efer
    sgdt    probe_saved_gdt
    sidt    probe_saved_idt
    movw    %cs, probe_saved_cs
    movw    %ss, probe_saved_ss
    movw    %ds, probe_saved_ds
    movw    %es, probe_saved_es
    lgdt    probe_gdt_pointer
    lidt    probe_idt_pointer
    movl    $KERNEL_DATA, %eax
    movw    %ax, %ss
    movw    %ax, %ds
    movw    %ax, %es
    movl    $probe_stack_top, %esp
    pushq   $KERNEL_CODE
    pushq   $probe_paging_off
    lretq

    .code32
probe_paging_off:
    movl    %cr0, %eax
    andl    $~CR0_PG, %eax
    movl    %eax, %cr0
    movl    $EFER, %ecx
    xorl    %edx, %edx
    movl    probe_efer, %eax
    wrmsr
    movl    probe_cr4, %eax
    movl    %eax, %cr4
    movl    probe_cr3, %eax
    movl    %eax, %cr3
    movl    probe_cr0, %eax
    movl    %eax, %cr0
    jmp     1f
1:  movl    probe_address, %ebx
    movl    probe_value, %eax
    movl    probe_stub, %edx
    cmpl    $0, probe_ring
    jne     2f
    pushl   $2                          # flags
    pushl   $KERNEL_CODE
    pushl   %edx
    iretl
2:  andb    $0xFD, probe_gdt + TASK + 5 # not busy
    movl    $TASK, %ecx
    ltr     %cx
    movl    $USER_DATA, %ecx
    movw    %cx, %ds
    movw    %cx, %es
    pushl   $USER_DATA
    pushl   $0                          # no stack: the stubs need none
    pushl   $2                          # flags
    pushl   $USER_CODE
    pushl   %edx
    iretl

# The accesses: address in EBX, the value of a write in EAX.
    .balign 4096
    .globl  probe_stubs, probe_read, probe_write, probe_execute
probe_stubs:
probe_read:
    movl    (%ebx), %eax
    int3
probe_write:
    movl    %eax, (%ebx)
    int3
probe_execute:
    jmp     *%ebx
    .balign 4096

# A gate for each exception: 16 bytes apart.
    .altmacro
    .macro  probe_gate vector
    .balign 16
    .if     (\vector == 8) || ((\vector >= 10) && (\vector <= 14)) || (\vector == 17)
    .else
    pushl   $0
    .endif
    pushl   $\vector
    jmp     probe_exception
    .endm
    .balign 16
    .globl  probe_gates
probe_gates:
    .set    vector, 0
    .rept   32
    probe_gate %vector
    .set    vector, vector + 1
    .endr

probe_exception:
    popl    probe_vector
    popl    probe_error
    popl    probe_eip
    movl    %eax, probe_value
    movl    %cr2, %eax
    movl    %eax, probe_cr2
    movl    $KERNEL_DATA, %eax
    movw    %ax, %ss
    movw    %ax, %ds
    movw    %ax, %es
    movl    $probe_stack_top, %esp
    movl    %cr0, %eax
    andl    $~CR0_PG, %eax
    movl    %eax, %cr0
    movl    probe_saved_cr4, %eax
    movl    %eax, %cr4
    movl    $boot_pml4, %eax
    movl    %eax, %cr3
    movl    $EFER, %ecx
    xorl    %edx, %edx
    movl    probe_saved_efer, %eax
    andl    $~0x400, %eax               # LMA is the processor's
    wrmsr
    movl    probe_saved_cr0, %eax
    movl    %eax, %cr0
    ljmpl   $KERNEL_CODE_64, $probe_long

    .code64
probe_long:
    lgdt    probe_saved_gdt
    lidt    probe_saved_idt
    movw    probe_saved_ss, %ss
    movw    probe_saved_ds, %ds
    movw    probe_saved_es, %es
    movl    $probe_stack_top, %esp
    movzwl  probe_saved_cs, %eax
    pushq   %rax
    movabsq $probe_back, %rax
    pushq   %rax
    movq    probe_saved_cr3, %rcx
    movq    probe_saved_rsp, %rdx
    lretq

    .section .boot.data, "aw"
    .balign 16
    .globl  probe_gdt, probe_idt, probe_task
probe_gdt:
    .quad   0
    .quad   0x00AF9B000000FFFF          # KERNEL_CODE_64
    .quad   0x00CF9B000000FFFF          # KERNEL_CODE
    .quad   0x00CF93000000FFFF          # KERNEL_DATA
    .quad   0x00CFFB000000FFFF          # USER_CODE
    .quad   0x00CFF3000000FFFF          # USER_DATA
    .quad   0                           # TASK
probe_gdt_pointer:
    .word   7 * 8 - 1
    .quad   probe_gdt
    .balign 16
probe_idt:
    .fill   32, 8, 0
probe_idt_pointer:
    .word   32 * 8 - 1
    .quad   probe_idt
    .balign 16
probe_task:
    .long   0
    .long   probe_stack_top             # ESP0
    .long   KERNEL_DATA                 # SS0
    .fill   22, 4, 0
    .long   104 << 16                   # no I/O permissions

    .balign 16
    .globl  probe_request, probe_answer
probe_request:
probe_cr0:      .long 0
probe_cr3:      .long 0
probe_cr4:      .long 0
probe_efer:     .long 0
probe_stub:     .long 0
probe_ring:     .long 0
probe_address:  .long 0
probe_answer:
probe_value:    .long 0
probe_vector:   .long 0
probe_error:    .long 0
probe_cr2:      .long 0
probe_eip:      .long 0

    .balign 16
probe_saved_rsp:    .quad 0
probe_saved_cr3:    .quad 0
probe_saved_cr0:    .quad 0
probe_saved_cr4:    .quad 0
probe_saved_efer:   .quad 0
probe_saved_gdt:    .fill 16, 1, 0
probe_saved_idt:    .fill 16, 1, 0
probe_saved_cs:     .word 0
probe_saved_ss:     .word 0
probe_saved_ds:     .word 0
probe_saved_es:     .word 0
    .balign 16
    .fill   1024, 1, 0
probe_stack_top:

    .section .text
    .code64
