//! Breaking the kernel on purpose: `selftest=KIND` on the command line.
//!
//! Each kind does what no kernel may do and shows how the machine stops: with NT's bug-check code,
//! never silently. The tests of `ntmm boot` run them all.
//!
//! | Kind | What | Bug check |
//! |---|---|---|
//! | `code` | writes to the kernel's code | 0x50 PAGE_FAULT_IN_NONPAGED_AREA |
//! | `data` | executes the kernel's data | 0x50 PAGE_FAULT_IN_NONPAGED_AREA |
//! | `stack` | uses up a kernel stack | 0x7F UNEXPECTED_KERNEL_MODE_TRAP, parameter 1 is 8 |
//! | `dispatch` | touches pageable memory at DISPATCH_LEVEL | 0x0A IRQL_NOT_LESS_OR_EQUAL |
//! | `hang` | stays at DISPATCH_LEVEL | 0x133 DPC_WATCHDOG_VIOLATION |
//! | `deaf` | turns interrupts off, for another processor to notice | 0x101 CLOCK_WATCHDOG_TIMEOUT |
//! | `panic` | fails an assertion | 0xE3 RESOURCE_NOT_OWNED |

use core::hint::black_box;

use x86_64::instructions::interrupts;

use crate::scheduler::{self, Priority};
use crate::{apic, processor};

/// Whether there is such a kind.
pub fn is_known(kind: &str) -> bool {
    KINDS.iter().any(|(name, _)| *name == kind)
}

/// Breaks the kernel in a thread of its own.
pub fn start(kind: &str) {
    let number = KINDS.iter().position(|(name, _)| *name == kind).expect("the kind is known");
    scheduler::spawn(Priority::Normal, None, run, number as u64).expect("there are places");
}

const KINDS: [(&str, fn()); 7] = [
    ("code", write_code),
    ("data", execute_data),
    ("stack", use_stack),
    ("dispatch", touch_at_dispatch),
    ("hang", hang),
    ("deaf", be_deaf),
    ("panic", || panic!("asked for")),
];

extern "C" fn run(number: u64) -> ! {
    let (name, what) = KINDS[number as usize];
    crate::say!("selftest: {name}");
    what();
    unreachable!("the kernel has survived {name}")
}

fn write_code() {
    // SAFETY: none; the processor must refuse it.
    unsafe { (run as *const () as *mut u8).write_volatile(0xCC) };
}

fn execute_data() {
    static RETURN: [u8; 1] = [0xC3];
    // SAFETY: none; the processor must refuse it.
    let data: extern "C" fn() = unsafe { core::mem::transmute(&raw const RETURN) };
    data();
}

fn use_stack() {
    let room = black_box([0_u64; 64]);
    black_box(use_stack as fn())();
    black_box(room);
}

fn touch_at_dispatch() {
    const ADDRESS: u64 = 0x1_0000;
    processor::raise();
    // SAFETY: none; the kernel must stop.
    unsafe { black_box((ADDRESS as *const u8).read_volatile()) };
}

fn hang() {
    processor::raise();
    loop {
        processor::relax();
    }
}

fn be_deaf() {
    interrupts::disable();
    loop {
        apic::spin(1);
    }
}
