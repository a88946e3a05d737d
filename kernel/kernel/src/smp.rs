//! Starting the other processors: INIT, SIPI, SIPI.
//!
//! They are started one after the other: each takes its root table and stack from `boot.s`, says that
//! it is online, and becomes its idle thread.

use core::arch::global_asm;
use core::sync::atomic::Ordering;

use x86_64::instructions::port::Port;

use crate::memory::direct;
use crate::{apic, descriptors, mapping, processor, scheduler, time};

global_asm!(include_str!("boot.s"), options(att_syntax));

/// Where the trampoline is copied to.
const TRAMPOLINE: u64 = 0x8000;
/// Ticks of the local timer to wait for a processor, in all: two seconds.
const STARTING: u32 = 2000;
const MILLISECOND: u32 = 1_000_000;

/// QEMU's firmware configuration: selector, data, and the number of processors.
const CONFIGURATION_SELECTOR: u16 = 0x510;
const CONFIGURATION_DATA: u16 = 0x511;
const PROCESSOR_COUNT: u16 = 5;

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_end: u8;
    static boot_stack: u8;
    static mut processor_root: u64;
    static mut processor_stack: u64;
}

/// Processors the machine has, as many as the kernel can use.
pub fn count() -> usize {
    // SAFETY: reading QEMU's configuration has no effect on memory.
    let count = unsafe {
        Port::<u16>::new(CONFIGURATION_SELECTOR).write(PROCESSOR_COUNT);
        let mut data = Port::<u8>::new(CONFIGURATION_DATA);
        u16::from_le_bytes([data.read(), data.read()])
    };
    usize::from(count).clamp(1, processor::LIMIT)
}

/// Lowest address of the stack of a processor's idle thread.
pub fn idle_stack_limit(number: usize) -> u64 {
    match number {
        0 => &raw const boot_stack as u64,
        number => mapping::stack(number as u64).0,
    }
}

/// Starts processors 1 to `count - 1`.
///
/// # Safety
/// Called once, by processor 0, when everything they use is there.
pub unsafe fn start(count: usize) {
    let code = &raw const trampoline_start;
    let bytes = &raw const trampoline_end as usize - code as usize;
    // SAFETY: low memory is nobody's.
    unsafe { direct(TRAMPOLINE).copy_from_nonoverlapping(direct(code as u64), bytes) };
    for number in 1..count {
        let (_, top) = mapping::stack(number as u64);
        // SAFETY: the processor that reads it is started afterwards, and nobody else is on the
        // way.
        unsafe {
            (&raw mut processor_root).write_volatile(mapping::kernel_root());
            (&raw mut processor_stack).write_volatile(top);
        }
        apic::start_processor(number, (TRAMPOLINE / 4096) as u8);
        let online = || processor::ALL[number].online.load(Ordering::Acquire);
        for _ in 0..STARTING {
            if online() {
                break;
            }
            apic::spin(MILLISECOND);
        }
        if !online() {
            crate::say!("processor {number} does not start");
            return;
        }
    }
}

/// First Rust code of another processor, on its stack.
#[unsafe(no_mangle)]
extern "C" fn processor_main() -> ! {
    apic::enable();
    let number = apic::number();
    // SAFETY: once on this processor, with interrupts off.
    unsafe { descriptors::initialize(number) };
    processor::become_idle(number, idle_stack_limit(number));
    time::start_ticks();
    scheduler::idle()
}
