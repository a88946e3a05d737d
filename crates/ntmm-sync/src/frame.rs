//! A page frame as the manager sees it: 512 atomic 64-bit words.
//!
//! A frame is seen in one width only, so a page table with 32-bit entries is read as
//! halves of words ([`Half`]). Every access is atomic: other processors, their page
//! walkers and devices may touch the same frame at any time, and no access is a data race.

use crate::atomic::{AtomicU64, Ordering};

/// Words in a frame of 4096 bytes.
pub const WORDS_PER_FRAME: usize = 512;

/// A page frame.
pub type FrameWords = [AtomicU64; WORDS_PER_FRAME];

/// Index of a word in a frame, always below [`WORDS_PER_FRAME`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WordIndex(u16);

impl WordIndex {
    /// The word with this number, taken modulo [`WORDS_PER_FRAME`].
    ///
    /// Callers derive the number from an address or a record number, whose low bits are
    /// exactly the position inside the frame; the higher bits have chosen the frame.
    #[inline]
    #[must_use]
    pub const fn wrapping(number: usize) -> Self {
        Self((number % WORDS_PER_FRAME) as u16)
    }

    /// The number of the word, below [`WORDS_PER_FRAME`].
    #[inline]
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

/// The word of `frame` at `index`.
#[inline]
#[must_use]
// The index is below the length by construction and the remainder lets the compiler see it.
#[allow(clippy::indexing_slicing)]
pub fn word(frame: &FrameWords, index: WordIndex) -> &AtomicU64 {
    &frame[index.get() % WORDS_PER_FRAME]
}

/// Which half of a word holds a 32-bit entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Bits 0-31: entries with an even number.
    Low,
    /// Bits 32-63: entries with an odd number.
    High,
}

impl Half {
    const fn shift(self) -> u32 {
        match self {
            Self::Low => 0,
            Self::High => 32,
        }
    }

    /// This half of `word`.
    #[inline]
    #[must_use]
    pub const fn of(self, word: u64) -> u32 {
        (word >> self.shift()) as u32
    }

    /// `word` with this half replaced by `value`.
    #[inline]
    #[must_use]
    pub const fn replace(self, word: u64, value: u32) -> u64 {
        (word & !(0xFFFF_FFFF << self.shift())) | ((value as u64) << self.shift())
    }

    /// Replaces this half of `word` by `new` when it still holds `current`; otherwise gives
    /// what it holds. The other half may change at any time and is kept.
    ///
    /// # Errors
    /// The value found, when it is not `current`.
    pub fn compare_exchange(self, word: &AtomicU64, current: u32, new: u32) -> Result<u32, u32> {
        let mut seen = word.load(Ordering::Acquire);
        while self.of(seen) == current {
            match word.compare_exchange_weak(
                seen,
                self.replace(seen, new),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(current),
                Err(actual) => seen = actual,
            }
        }
        Err(self.of(seen))
    }

    /// Replaces this half of `word` by `new` and returns what it held.
    pub fn swap(self, word: &AtomicU64, new: u32) -> u32 {
        let mut seen = word.load(Ordering::Acquire);
        loop {
            match word.compare_exchange_weak(
                seen,
                self.replace(seen, new),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(old) => return self.of(old),
                Err(actual) => seen = actual,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_change_without_touching_each_other() {
        let word = AtomicU64::new(0x1111_2222_3333_4444);
        assert_eq!(Half::High.compare_exchange(&word, 0x1111_2222, 7), Ok(0x1111_2222));
        assert_eq!(Half::Low.compare_exchange(&word, 9, 8), Err(0x3333_4444));
        assert_eq!(Half::Low.swap(&word, 8), 0x3333_4444);
        assert_eq!(word.load(Ordering::Relaxed), 0x0000_0007_0000_0008);
    }

    #[test]
    fn word_index_wraps_at_the_frame() {
        assert_eq!(WordIndex::wrapping(511).get(), 511);
        assert_eq!(WordIndex::wrapping(512 * 3 + 5).get(), 5);
    }
}
