# From the loader to Rust.
#
# QEMU's -kernel finds the PVH note and enters pvh_start in 32-bit protected mode without paging,
# EBX pointing to the start information. The code here lies where it is loaded, at 1 MiB; the rest
# of the kernel is linked at KERNEL_BASE plus where it is loaded. The boot page tables map the
# first GiB three times: one to one, at KERNEL_BASE, and at DIRECT_MAP; the kernel makes better
# ones (mapping.rs) and keeps these for starting processors and for the legacy-mode probe.
#
# The other processors begin in real mode in the trampoline, which is copied to 0x8000.

    .section .boot.note, "a", @note
    .balign 4
    .long 4                             # size of the name
    .long 8                             # size of the descriptor: QEMU reads 8 bytes of ELF64
    .long 18                            # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_start

    .set EFER, 0xC0000080
    .set EFER_SCE_LME_NXE, 0x901
    .set CR0_ON, 0x80010023             # PG, WP, NE, MP, PE
    .set CR4_PAE_SSE, 0x620             # PAE, OSFXSR, OSXMMEXCPT
    .set CODE, 0x08
    .set DATA, 0x10

    .section .boot.text, "ax"
    .code32
    .globl pvh_start
pvh_start:
    cld
    movl    %ebx, start_info
    movl    $(CR4_PAE_SSE), %eax
    movl    %eax, %cr4
    movl    $boot_pml4, %eax
    movl    %eax, %cr3
    movl    $EFER, %ecx
    movl    $EFER_SCE_LME_NXE, %eax
    xorl    %edx, %edx
    wrmsr
    movl    $CR0_ON, %eax
    movl    %eax, %cr0
    lgdt    boot_gdt_pointer
    ljmpl   $CODE, $long_start

    .code64
long_start:
    movw    $DATA, %ax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %ss
    xorl    %eax, %eax
    movw    %ax, %fs
    movw    %ax, %gs
    movabsq $boot_stack_top, %rsp
    xorl    %ebp, %ebp
    movl    start_info, %edi
    movabsq $kernel_main, %rax
    pushq   $0
    jmp     *%rax

# The trampoline of the other processors: position-dependent at TRAMPOLINE, entered in real mode
# with CS = TRAMPOLINE / 16.
    .set TRAMPOLINE, 0x8000
    .globl trampoline_start, trampoline_end
    .code16
trampoline_start:
    cli
    cld
    xorw    %ax, %ax
    movw    %ax, %ds
    lgdtl   TRAMPOLINE + trampoline_gdt_pointer - trampoline_start
    movl    %cr0, %eax
    orl     $1, %eax
    movl    %eax, %cr0
    ljmpl   $0x18, $(TRAMPOLINE + trampoline_protected - trampoline_start)

    .code32
trampoline_protected:
    movw    $DATA, %ax
    movw    %ax, %ds
    movl    $(CR4_PAE_SSE), %eax
    movl    %eax, %cr4
    movl    $boot_pml4, %eax
    movl    %eax, %cr3
    movl    $EFER, %ecx
    movl    $EFER_SCE_LME_NXE, %eax
    xorl    %edx, %edx
    wrmsr
    movl    $CR0_ON, %eax
    movl    %eax, %cr0
    ljmpl   $CODE, $processor_long_start

    .balign 8
trampoline_gdt_pointer:
    .word   4 * 8 - 1
    .long   boot_gdt
trampoline_end:

    .code64
processor_long_start:
    movw    $DATA, %ax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %ss
    xorl    %eax, %eax
    movw    %ax, %fs
    movw    %ax, %gs
    movabsq $processor_high_start, %rax
    jmp     *%rax

    .section .boot.data, "aw"
    .balign 4096
    .globl boot_pml4
boot_pml4:
    .quad   boot_pdpt + 3
    .fill   0x110 - 1, 8, 0
    .quad   boot_pdpt + 3               # DIRECT_MAP
    .fill   511 - 0x111, 8, 0
    .quad   boot_high_pdpt + 3          # KERNEL_BASE
boot_pdpt:
    .quad   boot_directory + 3
    .fill   511, 8, 0
boot_high_pdpt:
    .fill   510, 8, 0
    .quad   boot_directory + 3
    .quad   0
boot_directory:
    .set    page, 0
    .rept   512
    .quad   page + 0x83                 # 2 MiB, writable, present
    .set    page, page + 0x200000
    .endr

    .balign 8
    .globl boot_gdt
boot_gdt:
    .quad   0
    .quad   0x00AF9B000000FFFF          # CODE: 64 bits
    .quad   0x00CF93000000FFFF          # DATA
    .quad   0x00CF9B000000FFFF          # 32-bit code of the trampoline
boot_gdt_pointer:
    .word   4 * 8 - 1
    .long   boot_gdt
start_info:
    .long   0

    .section .bss
    .balign 4096
    .globl boot_stack
boot_stack:
    .fill   0x8000, 1, 0
boot_stack_top:
    .globl processor_root, processor_stack
processor_root:
    .quad   0
processor_stack:
    .quad   0

# A processor leaves the boot page tables, which do not map its stack.
    .section .text
processor_high_start:
    movq    processor_root, %rax        # both put there by the processor that starts this one
    movq    %rax, %cr3
    movq    processor_stack, %rsp
    xorl    %ebp, %ebp
    pushq   $0
    jmp     processor_main

# What precompiled core and alloc expect of a C library, and of an unwinder that is never called.
    .section .text
    .globl memcpy, memmove, memset, memcmp, bcmp, strlen, rust_eh_personality, _Unwind_Resume
memcpy:
    movq    %rdi, %rax
    movq    %rdx, %rcx
    shrq    $3, %rcx
    rep movsq
    movl    %edx, %ecx
    andl    $7, %ecx
    rep movsb
    ret
memmove:
    movq    %rdi, %rax
    movq    %rdi, %rcx
    subq    %rsi, %rcx
    cmpq    %rdx, %rcx
    jae     memcpy
    leaq    -1(%rdi, %rdx), %rdi
    leaq    -1(%rsi, %rdx), %rsi
    movq    %rdx, %rcx
    std
    rep movsb
    cld
    ret
memset:
    movq    %rdi, %r8
    movzbl  %sil, %eax
    movabsq $0x0101010101010101, %rcx
    imulq   %rcx, %rax
    movq    %rdx, %rcx
    shrq    $3, %rcx
    rep stosq
    movl    %edx, %ecx
    andl    $7, %ecx
    rep stosb
    movq    %r8, %rax
    ret
bcmp:
memcmp:
    xorl    %eax, %eax
    xorl    %ecx, %ecx
1:  cmpq    %rdx, %rcx
    je      2f
    movzbl  (%rdi, %rcx), %eax
    movzbl  (%rsi, %rcx), %r8d
    incq    %rcx
    subl    %r8d, %eax
    je      1b
2:  ret
strlen:
    xorl    %eax, %eax
1:  cmpb    $0, (%rdi, %rax)
    je      2f
    incq    %rax
    jmp     1b
2:  ret
rust_eh_personality:
_Unwind_Resume:
    ud2
