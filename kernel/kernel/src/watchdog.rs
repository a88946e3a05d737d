//! Never a silent hang: what stands still too long stops the machine.
//!
//! Every tick a processor looks whether it has been at DISPATCH_LEVEL since the last one without a
//! switch of threads (a lock that is never given back), and the first processor whether every
//! thread of every program has been waiting for something that does not come.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ntmm::platform::Irql;

use crate::processor::{self, LIMIT};
use crate::time::TICKS_PER_SECOND;
use crate::{bug_check, kernel, scheduler};

/// Ticks after which it is a hang.
const PATIENCE: u32 = 20 * TICKS_PER_SECOND as u32;

static AT_DISPATCH: [AtomicU32; LIMIT] = [const { AtomicU32::new(0) }; LIMIT];
static STUCK: AtomicU32 = AtomicU32::new(0);
static SEEN: AtomicU64 = AtomicU64::new(0);

/// Counts up while `stands`; true when patience is at its end.
fn count(counter: &AtomicU32, stands: bool) -> bool {
    let ticks = if stands { counter.load(Ordering::Relaxed) + 1 } else { 0 };
    counter.store(ticks, Ordering::Relaxed);
    ticks >= PATIENCE
}

/// One tick of this processor.
pub fn tick() {
    let processor = processor::current();
    let number = processor.number.load(Ordering::Relaxed);
    let level = processor::irql();
    if count(&AT_DISPATCH[number as usize], level >= Irql::DISPATCH) {
        bug_check::stop_hanging([1, u64::from(level.0), number.into(), 0]);
    }
    if number == 0 {
        let counters = kernel().manager.counters();
        let signs = scheduler::switches()
            .wrapping_add(counters.page_faults.get())
            .wrapping_add(counters.pages_written.get());
        let moved = SEEN.swap(signs, Ordering::Relaxed) != signs;
        if count(&STUCK, !moved && scheduler::is_stuck()) {
            bug_check::stop_hanging([0, signs, 0, 0]);
        }
    }
}
