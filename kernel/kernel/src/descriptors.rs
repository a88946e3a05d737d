//! Segments, task states and interrupt gates of the processors.
//!
//! The segments are laid out for `syscall` and `sysret`: kernel code and data, then the program's
//! data and code. Every gate uses an interrupt stack of the processor's task state: number 1, and
//! numbers of their own for those that can come at any moment.

use core::cell::UnsafeCell;

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::{lgdt, lidt, load_tss};
use x86_64::registers::model_specific::{Efer, EferFlags, LStar, SFMask, Star};
use x86_64::registers::rflags::RFlags;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::SegmentSelector;
use x86_64::structures::tss::TaskStateSegment;

use crate::processor;

/// Selectors.
pub const KERNEL_CODE: u16 = 0x08;
/// Stack and data of the kernel.
pub const KERNEL_DATA: u16 = 0x10;
/// Stack and data of programs.
pub const USER_DATA: u16 = 0x18 | 3;
/// Code of programs.
pub const USER_CODE: u16 = 0x20 | 3;
const TASK: u16 = 0x28;

const KERNEL_CODE_SEGMENT: u64 = 0x00AF_9B00_0000_FFFF;
const KERNEL_DATA_SEGMENT: u64 = 0x00CF_9300_0000_FFFF;
const USER_DATA_SEGMENT: u64 = 0x00CF_F300_0000_FFFF;
const USER_CODE_SEGMENT: u64 = 0x00AF_FB00_0000_FFFF;

/// Non-maskable interrupt, double fault, machine check: each on a stack of its own.
const NMI: u8 = 2;
/// A fault in the delivery of a fault.
pub const DOUBLE_FAULT: u8 = 8;
const MACHINE_CHECK: u8 = 18;
/// Breakpoints and overflows may be raised by programs.
const BREAKPOINT: u8 = 3;
const OVERFLOW: u8 = 4;
/// NT's old way into the kernel.
pub const SYSTEM_SERVICE: u8 = 0x2E;

/// Bytes of an interrupt stack.
const INTERRUPT_STACK: usize = 4096;
const INTERRUPT_STACKS: usize = 4;

#[repr(C, align(16))]
struct Stack([u8; INTERRUPT_STACK]);

/// The tables of one processor.
#[repr(C)]
struct Tables {
    segments: [u64; 7],
    task: TaskStateSegment,
    stacks: [Stack; INTERRUPT_STACKS],
}

struct TablesCell(UnsafeCell<Tables>);

// SAFETY: each processor uses its own element only, once, when it starts; afterwards the tables
// are the hardware's.
unsafe impl Sync for TablesCell {}

static TABLES: [TablesCell; processor::LIMIT] = [const {
    TablesCell(UnsafeCell::new(Tables {
        segments: [0; 7],
        task: TaskStateSegment::new(),
        stacks: [const { Stack([0; INTERRUPT_STACK]) }; INTERRUPT_STACKS],
    }))
}; processor::LIMIT];

/// A gate.
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate([u64; 2]);

const GATES: usize = 256;

struct GatesCell(UnsafeCell<[Gate; GATES]>);

// SAFETY: written once, by the first processor before any interrupt can come.
unsafe impl Sync for GatesCell {}

static INTERRUPTS: GatesCell = GatesCell(UnsafeCell::new([Gate([0; 2]); GATES]));

unsafe extern "C" {
    static trap_stubs: u8;
    fn system_call_entry();
}

/// Distance of the entry points of two vectors.
const STUB_BYTES: u64 = 16;

impl Gate {
    fn new(vector: u8) -> Self {
        let entry = &raw const trap_stubs as u64 + u64::from(vector) * STUB_BYTES;
        let stack: u64 = match vector {
            NMI => 2,
            DOUBLE_FAULT => 3,
            MACHINE_CHECK => 4,
            _ => 1,
        };
        let privilege: u64 = match vector {
            BREAKPOINT | OVERFLOW | SYSTEM_SERVICE => 3,
            _ => 0,
        };
        let low = (entry & 0xFFFF)
            | u64::from(KERNEL_CODE) << 16
            | stack << 32
            | 0x8E << 40 // present, interrupt gate
            | privilege << 45
            | (entry >> 16 & 0xFFFF) << 48;
        Self([low, entry >> 32])
    }
}

/// Fills the interrupt gates, which all processors share.
///
/// # Safety
/// Called once, before [`initialize`].
pub unsafe fn fill_gates() {
    // SAFETY: nobody else has a reference yet.
    let gates = unsafe { &mut *INTERRUPTS.0.get() };
    for (vector, gate) in (0..=u8::MAX).zip(gates) {
        *gate = Gate::new(vector);
    }
}

/// Gives processor `number`, the one that calls this, its tables.
///
/// # Safety
/// Called once on each processor, with interrupts off, before its [`processor::become_idle`]:
/// loading segments clears GS.
pub unsafe fn initialize(number: usize) {
    // SAFETY: the element belongs to this processor.
    let tables = unsafe { &mut *TABLES[number].0.get() };
    for (number, stack) in tables.stacks.iter().enumerate() {
        let top = VirtAddr::from_ptr(stack) + INTERRUPT_STACK as u64;
        tables.task.interrupt_stack_table[number] = top;
    }
    let task = &raw const tables.task as u64;
    let limit = size_of::<TaskStateSegment>() as u64 - 1;
    tables.segments = [
        0,
        KERNEL_CODE_SEGMENT,
        KERNEL_DATA_SEGMENT,
        USER_DATA_SEGMENT,
        USER_CODE_SEGMENT,
        limit | (task & 0xFF_FFFF) << 16 | 0x89 << 40 | (task >> 24 & 0xFF) << 56,
        task >> 32,
    ];
    let pointer =
        |base: VirtAddr, bytes: usize| DescriptorTablePointer { limit: bytes as u16 - 1, base };
    let selector = |raw: u16| SegmentSelector(raw);
    // SAFETY: the tables live for ever and describe the segments the kernel runs in.
    unsafe {
        lgdt(&pointer(VirtAddr::from_ptr(&tables.segments), size_of_val(&tables.segments)));
        CS::set_reg(selector(KERNEL_CODE));
        SS::set_reg(selector(KERNEL_DATA));
        DS::set_reg(selector(KERNEL_DATA));
        ES::set_reg(selector(KERNEL_DATA));
        load_tss(selector(TASK));
        lidt(&pointer(VirtAddr::from_ptr(INTERRUPTS.0.get()), size_of::<[Gate; GATES]>()));
        Efer::update(|flags| flags.insert(EferFlags::SYSTEM_CALL_EXTENSIONS));
    }
    LStar::write(VirtAddr::new(system_call_entry as *const () as u64));
    // SAFETY: sysret adds 8 and 16 to the first selector; the second and the next are the kernel's.
    unsafe { Star::write_raw(KERNEL_DATA | 3, KERNEL_CODE) };
    SFMask::write(
        RFlags::INTERRUPT_FLAG
            | RFlags::TRAP_FLAG
            | RFlags::DIRECTION_FLAG
            | RFlags::ALIGNMENT_CHECK
            | RFlags::NESTED_TASK
            | RFlags::IOPL_HIGH
            | RFlags::IOPL_LOW,
    );
}
