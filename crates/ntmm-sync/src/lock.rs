//! Spin locks in words.
//!
//! [`BitLock`] is one bit of a word that also carries data which only the holder changes:
//! the holder learns the word on acquiring and publishes its new value by releasing, so lock
//! and data travel in the same cache line and the same store.
//!
//! Neither lock knows about interrupt levels, tokens or owners; the guards of the manager add
//! those. While a lock is contended the caller's `relax` is run, where a kernel pauses the
//! processor and a simulator runs another one.

use crate::atomic::{AtomicU32, AtomicU64, Ordering};

/// A lock in one bit of a 64-bit word whose other bits belong to the holder.
#[derive(Clone, Copy, Debug)]
pub struct BitLock {
    bit: u64,
}

impl BitLock {
    /// The lock in bit number `bit` (0-63).
    #[must_use]
    pub const fn new(bit: u32) -> Self {
        Self { bit: 1 << bit }
    }

    /// The bit itself, as a mask.
    #[must_use]
    pub const fn mask(self) -> u64 {
        self.bit
    }

    /// Takes the lock if it is free and returns the other bits of the word.
    #[inline]
    #[must_use]
    pub fn try_acquire(self, word: &AtomicU64) -> Option<u64> {
        let seen = word.load(Ordering::Relaxed);
        if seen & self.bit != 0 {
            return None;
        }
        word.compare_exchange(seen, seen | self.bit, Ordering::Acquire, Ordering::Relaxed).ok()
    }

    /// Takes the lock if it is free and the other bits of the word are `value`; says whether it
    /// did.
    #[inline]
    #[must_use]
    pub fn try_acquire_from(self, word: &AtomicU64, value: u64) -> bool {
        let free = value & !self.bit;
        word.compare_exchange(free, free | self.bit, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes the lock, running `relax` each time it is found held, and returns the other bits
    /// of the word.
    #[inline]
    pub fn acquire(self, word: &AtomicU64, mut relax: impl FnMut()) -> u64 {
        loop {
            if let Some(value) = self.try_acquire(word) {
                return value;
            }
            relax();
        }
    }

    /// Releases the lock, leaving `value` (without the lock bit) in the word.
    #[inline]
    pub fn release(self, word: &AtomicU64, value: u64) {
        word.store(value & !self.bit, Ordering::Release);
    }

    /// Whether somebody holds the lock. Only a hint unless the caller is the holder.
    #[inline]
    #[must_use]
    pub fn is_held(self, word: &AtomicU64) -> bool {
        word.load(Ordering::Relaxed) & self.bit != 0
    }
}

/// A lock that is a word of its own.
#[derive(Debug, Default)]
pub struct WordLock {
    held: AtomicU32,
}

impl WordLock {
    /// A free lock.
    #[must_use]
    pub fn new() -> Self {
        Self { held: AtomicU32::new(0) }
    }

    /// Takes the lock if it is free; says whether it did.
    #[inline]
    #[must_use]
    pub fn try_acquire(&self) -> bool {
        self.held.load(Ordering::Relaxed) == 0
            && self.held.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes the lock, running `relax` each time it is found held.
    #[inline]
    pub fn acquire(&self, mut relax: impl FnMut()) {
        while !self.try_acquire() {
            relax();
        }
    }

    /// Releases the lock.
    #[inline]
    pub fn release(&self) {
        self.held.store(0, Ordering::Release);
    }

    /// Whether somebody holds the lock. Only a hint unless the caller is the holder.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_lock_carries_its_word() {
        let lock = BitLock::new(63);
        let word = AtomicU64::new(5);
        let value = lock.acquire(&word, || unreachable!("the lock is free"));
        assert_eq!(value, 5);
        assert!(lock.is_held(&word) && lock.try_acquire(&word).is_none());
        lock.release(&word, value + 1);
        assert_eq!(word.load(Ordering::Relaxed), 6);
        assert!(!lock.try_acquire_from(&word, 5), "the word has changed");
        assert!(lock.try_acquire_from(&word, 6) && !lock.try_acquire_from(&word, 6));
    }

    #[test]
    fn contended_lock_relaxes_until_released() {
        let lock = WordLock::new();
        assert!(lock.try_acquire());
        let mut turns = 0;
        lock.acquire(|| {
            turns += 1;
            if turns == 3 {
                lock.release();
            }
        });
        assert_eq!(turns, 3);
        assert!(lock.is_held());
    }
}
