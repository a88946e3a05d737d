//! Stopping the machine (KeBugCheckEx): nothing can be trusted any more.

use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::instructions::interrupts;

use crate::console::{self, Exit};
use crate::{apic, processor, scheduler};

/// Pageable memory touched at DISPATCH_LEVEL or above.
pub const IRQL_NOT_LESS_OR_EQUAL: u32 = 0x0A;
/// The kernel raised an exception nobody handles.
pub const KMODE_EXCEPTION_NOT_HANDLED: u32 = 0x1E;
/// The kernel touched an address that is nobody's.
pub const PAGE_FAULT_IN_NONPAGED_AREA: u32 = 0x50;
/// Too little memory.
pub const INSTALL_MORE_MEMORY: u32 = 0x7D;
/// A trap the kernel must not cause, a stack overflow among them.
pub const UNEXPECTED_KERNEL_MODE_TRAP: u32 = 0x7F;
/// A Rust panic; NT's code for a driver's own assertion.
pub const FATAL_ASSERTION: u32 = 0xE3;
/// A processor does not take its timer interrupts.
pub const CLOCK_WATCHDOG_TIMEOUT: u32 = 0x101;
/// Nothing has moved for too long.
pub const DPC_WATCHDOG_VIOLATION: u32 = 0x133;

static STOPPING: AtomicBool = AtomicBool::new(false);

const fn name(code: u32) -> &'static str {
    match code {
        IRQL_NOT_LESS_OR_EQUAL => "IRQL_NOT_LESS_OR_EQUAL",
        0x1A => "MEMORY_MANAGEMENT",
        KMODE_EXCEPTION_NOT_HANDLED => "KMODE_EXCEPTION_NOT_HANDLED",
        0x4D => "NO_PAGES_AVAILABLE",
        0x4E => "PFN_LIST_CORRUPT",
        PAGE_FAULT_IN_NONPAGED_AREA => "PAGE_FAULT_IN_NONPAGED_AREA",
        INSTALL_MORE_MEMORY => "INSTALL_MORE_MEMORY",
        UNEXPECTED_KERNEL_MODE_TRAP => "UNEXPECTED_KERNEL_MODE_TRAP",
        FATAL_ASSERTION => "RESOURCE_NOT_OWNED",
        CLOCK_WATCHDOG_TIMEOUT => "CLOCK_WATCHDOG_TIMEOUT",
        DPC_WATCHDOG_VIOLATION => "DPC_WATCHDOG_VIOLATION",
        _ => "UNKNOWN",
    }
}

/// Prints the code and its parameters and ends the machine.
pub fn stop(code: u32, parameters: [u64; 4]) -> ! {
    interrupts::disable();
    if STOPPING.swap(true, Ordering::SeqCst) {
        halt();
    }
    let own = processor::current().number.load(Ordering::Relaxed) as usize;
    for other in processor::online() {
        let number = other.number.load(Ordering::Relaxed) as usize;
        if number != own {
            apic::interrupt(number, apic::STOP_VECTOR);
        }
    }
    let [a, b, c, d] = parameters;
    let name = name(code);
    console::write_at_the_end(format_args!(
        "\n*** STOP: 0x{code:08X} {name} (0x{a:016X}, 0x{b:016X}, 0x{c:016X}, 0x{d:016X}) \
         on processor {own}, thread {}\n\
         @bugcheck {{\"code\":{code},\"name\":\"{name}\",\"parameters\":[{a},{b},{c},{d}]}}\n",
        processor::current_thread(),
    ));
    console::exit(Exit::BugCheck)
}

/// Stops after saying where every thread is.
pub fn stop_hanging(code: u32, parameters: [u64; 4]) -> ! {
    scheduler::describe();
    stop(code, parameters)
}

/// Another processor has stopped the machine.
pub fn halt() -> ! {
    loop {
        interrupts::disable();
        x86_64::instructions::hlt();
    }
}
