//! Never a silent hang: what stands still too long stops the machine.
//!
//! Every tick a processor looks
//!
//! * whether it has been at DISPATCH_LEVEL at each of many ticks: a lock that is not given back;
//! * whether the next processor still ticks at all;
//! * and the first one, whether threads wait for the manager and nobody runs who could wake them.
//!
//! A processor that waits for the kernel's own spin lock with interrupts off notices itself
//! ([`crate::sync`]). A single processor that does anything else with interrupts off is beyond
//! this; whoever watches the console notices.

use core::sync::atomic::{AtomicU64, Ordering};

use ntmm::platform::Irql;

use crate::processor::{self, LIMIT};
use crate::time::TICKS_PER_SECOND;
use crate::{bug_check, kernel, scheduler};

/// Seconds after which it is a hang, unless the command line says otherwise.
const PATIENCE: u64 = 20;

/// Patience in ticks.
static LIMIT_TICKS: AtomicU64 = AtomicU64::new(PATIENCE * TICKS_PER_SECOND);

/// What each processor counts.
#[derive(Debug)]
struct Counts {
    ticks: AtomicU64,
    /// Ticks at DISPATCH_LEVEL in a row.
    at_dispatch: AtomicU64,
    /// The next processor's ticks when they last grew, and own ticks since.
    seen: AtomicU64,
    silent: AtomicU64,
}

static COUNTS: [Counts; LIMIT] = [const {
    Counts {
        ticks: AtomicU64::new(0),
        at_dispatch: AtomicU64::new(0),
        seen: AtomicU64::new(0),
        silent: AtomicU64::new(0),
    }
}; LIMIT];

/// Signs of life of all programs when they last changed, and ticks since.
static SIGNS: AtomicU64 = AtomicU64::new(0);
static STUCK: AtomicU64 = AtomicU64::new(0);

/// Waits so many seconds before it is a hang.
pub fn be_patient(seconds: u64) {
    LIMIT_TICKS.store(seconds.max(1) * TICKS_PER_SECOND, Ordering::Relaxed);
}

/// Counts up while `stands`; true when patience is at its end.
fn count(counter: &AtomicU64, stands: bool) -> bool {
    let ticks = if stands { counter.load(Ordering::Relaxed) + 1 } else { 0 };
    counter.store(ticks, Ordering::Relaxed);
    ticks >= LIMIT_TICKS.load(Ordering::Relaxed)
}

/// One tick of this processor.
pub fn tick() {
    let number = processor::current().number.load(Ordering::Relaxed);
    let own = &COUNTS[number as usize];
    own.ticks.fetch_add(1, Ordering::Relaxed);
    let level = processor::irql();
    if count(&own.at_dispatch, level >= Irql::DISPATCH) {
        bug_check::stop_hanging(
            bug_check::DPC_WATCHDOG_VIOLATION,
            [1, u64::from(level.0), number.into(), 0],
        );
    }
    let next = (number as usize + 1) % processor::online().count();
    let ticks = COUNTS[next].ticks.load(Ordering::Relaxed);
    if count(&own.silent, own.seen.swap(ticks, Ordering::Relaxed) == ticks) {
        let patience = LIMIT_TICKS.load(Ordering::Relaxed);
        bug_check::stop_hanging(bug_check::CLOCK_WATCHDOG_TIMEOUT, [patience, 0, 0, next as u64]);
    }
    if number == 0 {
        let counters = kernel().manager.counters();
        let signs = scheduler::switches()
            .wrapping_add(counters.page_faults.get())
            .wrapping_add(counters.pages_read.get())
            .wrapping_add(counters.pages_written.get());
        let moved = SIGNS.swap(signs, Ordering::Relaxed) != signs;
        if count(&STUCK, !moved && scheduler::is_stuck()) {
            bug_check::stop_hanging(bug_check::DPC_WATCHDOG_VIOLATION, [0, signs, 0, 0]);
        }
    }
}
