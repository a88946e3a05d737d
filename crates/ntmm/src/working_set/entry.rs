//! One entry of a working-set list (MMWSLE, spec 6.4).
//!
//! | Bits | Field |
//! |---|---|
//! | 0 | valid |
//! | 1 | locked in the working set |
//! | 2 | locked in memory |
//! | 3-7 | protection of a page that is shared |
//! | 8 | hashed |
//! | 9 | direct: this index is the frame's u1 |
//! | 10-11 | age |
//! | 12-47 | virtual page number |
//!
//! A free entry is not valid and holds the index of the next free one in bits 12-43.

use ntmm_pte::{Protection, Vpn};

use super::header::NO_ENTRY;

/// An entry as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkingSetEntry(u64);

/// How long a page has not been accessed, in ageing passes: 0 to 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(u8);

impl Age {
    /// Accessed since the last pass.
    pub const YOUNG: Self = Self(0);
    /// Not accessed for three passes or more.
    pub const OLD: Self = Self(3);

    /// One pass older.
    #[must_use]
    pub const fn older(self) -> Self {
        if self.0 < 3 { Self(self.0 + 1) } else { self }
    }

    /// The age `passes`, at most [`Age::OLD`].
    #[must_use]
    pub const fn of_passes(passes: u8) -> Self {
        if passes < 3 { Self(passes) } else { Self::OLD }
    }

    /// In passes.
    #[must_use]
    pub const fn passes(self) -> u8 {
        self.0
    }
}

/// A way to lock a page (spec 6.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageLock {
    /// It stays in the working set (LockedInWs, MAP_PROCESS).
    WorkingSet,
    /// It stays in memory (LockedInMemory, MAP_SYSTEM).
    Memory,
}

impl PageLock {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::WorkingSet, Self::Memory];

    const fn bit(self) -> u64 {
        match self {
            Self::WorkingSet => LOCKED_IN_WORKING_SET,
            Self::Memory => LOCKED_IN_MEMORY,
        }
    }
}

const VALID: u64 = 1;
const LOCKED_IN_WORKING_SET: u64 = 1 << 1;
const LOCKED_IN_MEMORY: u64 = 1 << 2;
const HASHED: u64 = 1 << 8;
const DIRECT: u64 = 1 << 9;
const PROTECTION_SHIFT: u32 = 3;
const AGE_SHIFT: u32 = 10;
const NUMBER_SHIFT: u32 = 12;

impl WorkingSetEntry {
    /// An entry for a page that belongs to this space alone: direct, young.
    #[must_use]
    pub const fn direct(page: Vpn) -> Self {
        Self(VALID | DIRECT | (page.get() << NUMBER_SHIFT))
    }

    /// An entry for a page whose frame's index belongs to another space.
    #[must_use]
    pub const fn indirect(page: Vpn) -> Self {
        Self(VALID | (page.get() << NUMBER_SHIFT))
    }

    /// The same, for a page that belongs to this space alone now.
    #[must_use]
    pub const fn as_direct(self) -> Self {
        Self(self.0 | DIRECT)
    }

    /// The same, for a page that is shared and is used with `protection` here.
    #[must_use]
    pub const fn with_protection(self, protection: Protection) -> Self {
        let rest = self.0 & !(0x1F << PROTECTION_SHIFT);
        Self(rest | ((protection.bits() as u64) << PROTECTION_SHIFT))
    }

    /// The protection of a shared page; nothing for a private one.
    #[must_use]
    pub const fn protection(self) -> Protection {
        Protection::from_low_bits(self.0 >> PROTECTION_SHIFT)
    }

    /// A free entry that links to `next`.
    #[must_use]
    pub const fn free(next: u32) -> Self {
        Self((next as u64) << NUMBER_SHIFT)
    }

    /// From its word.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// Its word.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.0
    }

    /// Whether it is in use.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 & VALID != 0
    }

    /// The page.
    #[must_use]
    pub const fn page(self) -> Vpn {
        Vpn::new(self.0 >> NUMBER_SHIFT)
    }

    /// Whether it is in use for `page`.
    pub(crate) const fn maps(self, page: Vpn) -> bool {
        self.is_valid() && self.0 >> NUMBER_SHIFT == page.get()
    }

    /// What a free entry links to: the index of the next one, or [`NO_ENTRY`].
    pub(crate) const fn link(self) -> u32 {
        (self.0 >> NUMBER_SHIFT) as u32
    }

    /// The next free entry, when this one is free.
    #[must_use]
    pub const fn next_free(self) -> Option<u32> {
        let next = self.link();
        if next == NO_ENTRY { None } else { Some(next) }
    }

    /// Whether the page stays in the set: permanent, or locked by a program.
    #[must_use]
    pub const fn is_locked(self) -> bool {
        self.0 & (LOCKED_IN_WORKING_SET | LOCKED_IN_MEMORY) != 0
    }

    /// Whether its index is the frame's u1.
    #[must_use]
    pub const fn is_direct(self) -> bool {
        self.0 & DIRECT != 0
    }

    /// Whether it is in the hash.
    #[must_use]
    pub const fn is_hashed(self) -> bool {
        self.0 & HASHED != 0
    }

    /// Its age.
    #[must_use]
    pub const fn age(self) -> Age {
        Age(((self.0 >> AGE_SHIFT) & 3) as u8)
    }

    /// With another age.
    #[must_use]
    pub const fn with_age(self, age: Age) -> Self {
        Self((self.0 & !(3 << AGE_SHIFT)) | ((age.0 as u64) << AGE_SHIFT))
    }

    /// Locked in the working set.
    #[must_use]
    pub const fn locked(self) -> Self {
        Self(self.0 | LOCKED_IN_WORKING_SET)
    }

    /// Locked in this way too.
    #[must_use]
    pub const fn with_lock(self, lock: PageLock) -> Self {
        Self(self.0 | lock.bit())
    }

    /// Not locked in this way any more.
    #[must_use]
    pub const fn without_lock(self, lock: PageLock) -> Self {
        Self(self.0 & !lock.bit())
    }

    /// Whether it is locked in this way.
    #[must_use]
    pub const fn has_lock(self, lock: PageLock) -> bool {
        self.0 & lock.bit() != 0
    }

    /// Not locked in any way.
    #[must_use]
    pub const fn unlocked(self) -> Self {
        Self(self.0 & !(LOCKED_IN_WORKING_SET | LOCKED_IN_MEMORY))
    }

    /// In the hash.
    #[must_use]
    pub const fn hashed(self) -> Self {
        Self(self.0 | HASHED)
    }

    /// Not in the hash.
    #[must_use]
    pub const fn unhashed(self) -> Self {
        Self(self.0 & !HASHED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_entries_decode() {
        // Spec 6.4, Server 2003: the page directory, and a page table that can be trimmed.
        let directory = WorkingSetEntry::from_word(0xC030_0203);
        assert!(directory.is_valid() && directory.is_locked() && directory.is_direct());
        assert_eq!(directory.page(), Vpn::new(0xC0300));
        let table = WorkingSetEntry::from_word(0xC01F_F201);
        assert!(table.is_direct() && !table.is_locked());
        let library = WorkingSetEntry::from_word(0x77F7_4D19);
        assert_eq!(
            (library.age(), library.is_hashed(), library.is_direct()),
            (Age::OLD, true, false)
        );
        assert_eq!(WorkingSetEntry::from_word(0x7FFD_FA01).age(), Age::of_passes(2));
    }

    #[test]
    fn free_entries_link() {
        assert_eq!(WorkingSetEntry::free(7).next_free(), Some(7));
        assert!(!WorkingSetEntry::free(7).is_valid());
        assert_eq!(WorkingSetEntry::free(NO_ENTRY).next_free(), None);
    }
}
