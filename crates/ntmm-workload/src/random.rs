//! The stream of choices: splitmix64, which is small and the same everywhere.

/// A stream of choices that follows from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

/// Spreads every bit of `word` over all of the result, one to one.
pub(crate) const fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `limit`; 0 when that is 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// A number from 1 to `high` whose logarithm is spread evenly; `high` is not 0.
    pub(crate) fn skewed(&mut self, high: u64) -> u64 {
        let bits = self.below(u64::from(high.max(1).ilog2()) + 1) + 1;
        1 + self.below(high.min((1 << bits) - 1))
    }

    /// Once in `count` times.
    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<T: Copy, const N: usize>(&mut self, from: &[T; N]) -> T {
        from[self.below(N as u64) as usize]
    }
}
