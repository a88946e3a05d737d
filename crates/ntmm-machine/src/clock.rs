//! Virtual time.
//!
//! Time passes because work is done: each memory reference, each step of an operation and of an
//! engine costs a configured time, and when nothing can run the clock jumps to the next event.
//! The host's time plays no part, so a run is the same on every host.
//!
//! There is one clock for the machine. References of processors that run at the same time
//! overlap, so while `n` processors have work each reference moves the clock by an `n`-th of
//! its cost.
//!
//! A [`Clock`] is a handle: an observer that is built before the machine can hold a clone and
//! date what it sees.

use std::cell::Cell;
use std::rc::Rc;

use ntmm::platform::SystemTime;

const PICOSECONDS: u64 = 1000;

/// A span of virtual time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanoseconds(pub u64);

impl Nanoseconds {
    /// One second.
    pub const SECOND: Self = Self(1_000_000_000);

    /// So many microseconds.
    #[must_use]
    pub const fn from_micros(count: u64) -> Self {
        Self(count * 1000)
    }
}

/// A handle on the machine's clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    picoseconds: Rc<Cell<u64>>,
}

impl Clock {
    /// A clock at boot time.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Nanoseconds since boot.
    #[must_use]
    pub fn nanoseconds(&self) -> Nanoseconds {
        Nanoseconds(self.picoseconds.get() / PICOSECONDS)
    }

    /// Time since boot in units of 100 ns.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        SystemTime(self.nanoseconds().0 / 100)
    }

    /// Lets time pass for `count` pieces of work of the given cost, done by one of `parallel`
    /// processors at work (at least one).
    pub(crate) fn charge(&self, count: u64, cost: Nanoseconds, parallel: u32) {
        let spent = count * cost.0 * PICOSECONDS / u64::from(parallel);
        self.picoseconds.set(self.picoseconds.get() + spent);
    }

    /// Jumps to a moment unless it has passed.
    pub(crate) fn advance_to(&self, moment: Nanoseconds) {
        self.picoseconds.set(self.picoseconds.get().max(moment.0 * PICOSECONDS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_passes_time_and_parallel_work_less() {
        let clock = Clock::new();
        clock.charge(100, Nanoseconds(10), 1);
        assert_eq!(clock.nanoseconds(), Nanoseconds(1000));
        clock.charge(100, Nanoseconds(10), 4);
        assert_eq!(clock.nanoseconds(), Nanoseconds(1250));
        assert_eq!(clock.now(), SystemTime(12));
    }

    #[test]
    fn jumps_never_go_back() {
        let clock = Clock::new();
        let handle = clock.clone();
        clock.advance_to(Nanoseconds::from_micros(5));
        clock.advance_to(Nanoseconds(3));
        assert_eq!(handle.nanoseconds(), Nanoseconds(5000));
    }
}
