//! What is done when the interrupt level falls below DISPATCH_LEVEL (deferred procedure calls).

use core::sync::atomic::Ordering;

use ntmm::platform::Irql;
use x86_64::instructions::interrupts;

use crate::processor::{self, pending};
use crate::{kernel, scheduler};

/// Does what is noted in this processor's [`pending`] bits. Called below DISPATCH_LEVEL, returns
/// at PASSIVE_LEVEL with interrupts on; the thread may have changed processors.
pub fn run_pending() {
    loop {
        processor::raise();
        interrupts::enable();
        let bits = processor::current().pending.swap(0, Ordering::SeqCst);
        if bits & pending::COMPLETIONS != 0 {
            complete_transfers();
        }
        if bits & pending::RESCHEDULE != 0 {
            scheduler::yield_now();
        }
        processor::lower_quietly(Irql::PASSIVE);
        if processor::current().pending.load(Ordering::SeqCst) == 0 {
            return;
        }
    }
}

/// Tells the manager of the transfers the disk has completed.
fn complete_transfers() {
    let kernel = kernel();
    let Some(disk) = &kernel.manager.platform().disk else { return };
    while let Some((token, result)) = disk.take_completion() {
        kernel.manager.complete_io(token, result);
    }
}
