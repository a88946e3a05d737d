//! Random numbers that depend on the seed alone.
//!
//! Each part of the machine draws from a stream of its own (translation buffers, disks,
//! scheduler, what the manager asks for, sabotage), so that one more draw in one part does not change
//! what the others do.

use std::cell::RefCell;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A probability, in parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chance(u32);

impl Chance {
    /// It does not happen.
    pub const NEVER: Self = Self(0);
    /// It always happens.
    pub const ALWAYS: Self = Self(1_000_000);

    /// So many times in a million, at most [`Chance::ALWAYS`].
    #[must_use]
    pub const fn per_million(parts: u32) -> Self {
        if parts < Self::ALWAYS.0 { Self(parts) } else { Self::ALWAYS }
    }

    /// Once in `count` times; always when `count` is 0 or 1.
    #[must_use]
    pub const fn one_in(count: u32) -> Self {
        if count < 2 { Self::ALWAYS } else { Self(Self::ALWAYS.0 / count) }
    }
}

/// The streams of a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Translation = 1,
    Disk = 2,
    Scheduler = 3,
    Executive = 4,
    Sabotage = 5,
}

/// A stream of random numbers.
#[derive(Debug)]
pub(crate) struct Random(RefCell<Xoshiro256PlusPlus>);

impl Random {
    /// The given stream of a seed.
    pub fn new(seed: u64, stream: Stream) -> Self {
        let seed = seed ^ (stream as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self(RefCell::new(Xoshiro256PlusPlus::seed_from_u64(seed)))
    }

    /// A number.
    pub fn next(&self) -> u64 {
        self.0.borrow_mut().next_u64()
    }

    /// A number below `limit`, which is not zero.
    pub fn below(&self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// An index of a collection that is not empty.
    pub fn index(&self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// Whether something with this chance happens.
    pub fn happens(&self, chance: Chance) -> bool {
        match chance {
            Chance::NEVER => false,
            Chance(parts) => self.below(u64::from(Chance::ALWAYS.0)) < u64::from(parts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_seed_repeat_and_differ() {
        let draw = |seed, stream| {
            let random = Random::new(seed, stream);
            (0..8).map(|_| random.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, Stream::Disk), draw(1, Stream::Disk));
        assert_ne!(draw(1, Stream::Disk), draw(2, Stream::Disk));
        assert_ne!(draw(1, Stream::Disk), draw(1, Stream::Scheduler));
    }

    #[test]
    fn chances_are_kept() {
        let random = Random::new(7, Stream::Executive);
        let hits = |chance| (0..100_000).filter(|_| random.happens(chance)).count();
        assert_eq!(hits(Chance::NEVER), 0);
        assert_eq!(hits(Chance::ALWAYS), 100_000);
        assert!((9_000..11_000).contains(&hits(Chance::one_in(10))));
    }
}
