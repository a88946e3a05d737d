//! Event counters (MmInfoCounters, spec 0.4). They only ever grow.

use ntmm_sync::atomic::{AtomicU64, Ordering};

/// A number that grows. Tag A.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}

/// The counters of a machine.
#[derive(Debug, Default)]
pub struct Counters {
    /// Faults of every kind (PageFaultCount).
    pub page_faults: Counter,
    /// Demand-zero faults (DemandZeroCount).
    pub demand_zero: Counter,
    /// Transition faults (TransitionCount).
    pub transition: Counter,
    /// Pages copied because they were written (CopyOnWriteCount).
    pub copy_on_write: Counter,
    /// Faults that waited for a page to be read, collided ones included.
    pub page_file: Counter,
    /// Faults that found another thread's read of their page in progress.
    pub collided: Counter,
    /// Read transfers (PageReadIoCount).
    pub page_read_ios: Counter,
    /// Pages read (PageReadCount).
    pub pages_read: Counter,
    /// Write transfers (DirtyWriteIoCount).
    pub page_write_ios: Counter,
    /// Pages written (DirtyPagesWriteCount).
    pub pages_written: Counter,
    /// Write transfers that failed.
    pub failed_writes: Counter,
    /// Read transfers that failed.
    pub failed_reads: Counter,
    /// Frames zeroed by the zeroing engine.
    pub zeroed: Counter,
    /// Pages taken out of working sets by trimming.
    pub trimmed: Counter,
    /// Pages taken out of working sets to make room for a faulting one.
    pub replaced: Counter,
    /// Guard pages hit.
    pub guard_pages: Counter,
    /// Translation flushes started.
    pub flushes: Counter,
}
