//! Time: the time-stamp counter, measured against the local timer at boot.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};

use ntmm::platform::SystemTime;

use crate::apic;

/// Local timer interrupts in a second.
pub const TICKS_PER_SECOND: u64 = 100;

/// Part of a second over which the counter is measured, and how often it is.
const MEASURED: u64 = 200;
const MEASUREMENTS: u32 = 4;

static START: AtomicU64 = AtomicU64::new(0);
/// 100 ns units for each count of the time-stamp counter, times 2^32.
static SCALE: AtomicU64 = AtomicU64::new(0);

/// The time-stamp counter; under exact counting, instructions.
#[inline]
pub fn cycles() -> u64 {
    // SAFETY: every x86-64 processor has the counter.
    unsafe { _rdtsc() }
}

/// Measures the counter. Called once.
///
/// An emulator that has to wait for its host between a look at the timer and one at the counter
/// makes the counter seem faster than it is, never slower: the smallest measure is the best.
pub fn initialize() {
    START.store(cycles(), Ordering::Relaxed);
    let frequency = (0..MEASUREMENTS).map(|_| measure()).min().unwrap_or(1).max(1);
    SCALE.store((10_000_000 << 32) / frequency, Ordering::Relaxed);
}

/// Counts in a second.
fn measure() -> u64 {
    let before = cycles();
    let ticks = apic::spin((apic::TIMER_FREQUENCY / MEASURED) as u32);
    let counted = u128::from(cycles() - before);
    (counted * u128::from(apic::TIMER_FREQUENCY) / u128::from(ticks)) as u64
}

/// Time since boot.
pub fn now() -> SystemTime {
    let passed = cycles().saturating_sub(START.load(Ordering::Relaxed));
    let scaled = u128::from(passed) * u128::from(SCALE.load(Ordering::Relaxed));
    SystemTime((scaled >> 32) as u64)
}

/// Whether the last second is over, once for each; asked at every tick of the first processor.
pub fn is_new_second() -> bool {
    static TICKS: AtomicU64 = AtomicU64::new(0);
    TICKS.fetch_add(1, Ordering::Relaxed) % TICKS_PER_SECOND == TICKS_PER_SECOND - 1
}

/// Starts this processor's ticks.
pub fn start_ticks() {
    apic::start_timer((apic::TIMER_FREQUENCY / TICKS_PER_SECOND) as u32);
}
