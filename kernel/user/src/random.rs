//! Reproducible pseudo-random numbers.
//!
//! [`mix`] (the finalizer of splitmix64) turns any number into one that shares no pattern with
//! its neighbours: good for stamps, that can be computed again from where they are. [`Random`] is
//! the sequence made with it.

/// Scatters `value` over 64 bits.
#[must_use]
pub const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// A sequence of numbers that its seed determines (splitmix64).
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The sequence of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.state)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }
}

/// An order of `0..length` that visits every number once without a table: a full-period linear
/// congruential sequence over the next power of two, of which numbers beyond the end are skipped.
#[derive(Clone, Debug)]
pub struct Permutation {
    length: u64,
    mask: u64,
    multiplier: u64,
    increment: u64,
    current: u64,
    left: u64,
}

impl Permutation {
    /// The order of `0..length` that `seed` picks.
    #[must_use]
    pub const fn new(length: u64, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mask = length.next_power_of_two() - 1;
        Self {
            length,
            mask,
            // 1 modulo 4 and odd increment: the period is the whole power of two.
            multiplier: (random.next() & mask & !3) | 1 | (4 & mask),
            increment: random.next() | 1,
            current: random.next() & mask,
            left: length,
        }
    }
}

impl Iterator for Permutation {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        loop {
            self.current =
                self.current.wrapping_mul(self.multiplier).wrapping_add(self.increment) & self.mask;
            if self.current < self.length {
                return Some(self.current);
            }
        }
    }
}
