//! Page tables: the entries, the way down to them, and the pages that hold them.
//!
//! A page-table page is an ordinary page of the address space: it is made on demand, has a
//! PFN entry whose container is the entry one level up, a working-set entry under its self-map
//! address, and can be trimmed when nothing in it is valid or in transition (its share count is
//! then 1). Its number of nonzero entries (UsedPageTableEntries) is kept in its PFN entry; when
//! it falls to zero the page is deleted.
//!
//! Who may change an entry:
//!
//! * a valid entry: the holder of the working-set lock, by compare-and-swap or swap, because
//!   the hardware sets accessed and dirty bits at any time;
//! * a transition entry: whoever holds the lock of *the frame it names*;
//! * any other entry: the holder of the working-set lock.

use ntmm_pte::{Level, PagingMode, Pfn, Protection, PteFormat, PteWord, Slot, Va};
use ntmm_sync::atomic::Ordering;
use ntmm_sync::frame::{Half, WordIndex, word};

use crate::manager::Manager;
use crate::platform::Platform;
use crate::working_set::WorkingSetGuard;

/// Where a page-table entry lies: NT's PTE address, in the form of frame and slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryRef {
    /// Frame of the table.
    pub table: Pfn,
    /// Number of the entry in it.
    pub slot: Slot,
}

/// Outcome of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// All tables on the way are valid; here is the entry asked for.
    Found(EntryRef),
    /// The entry of this level is not valid, so the tables below it cannot be reached.
    Missing {
        /// Level of the entry.
        level: Level,
        /// The entry.
        entry: EntryRef,
    },
    /// On the way down lies the directory entry of a large page, mapped or not; there is no
    /// table below it.
    Large(EntryRef),
}

/// What the entry of a page maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// One page.
    Small,
    /// A large page.
    Large,
}

impl<P: Platform> Manager<P> {
    /// The contents of an entry.
    #[inline]
    pub(crate) fn load_entry(&self, entry: EntryRef) -> u64 {
        self.platform().interleave();
        let frame = self.platform().frame(entry.table);
        let slot = usize::from(entry.slot.get());
        if P::Paging::ENTRY_BYTES == 8 {
            word(frame, WordIndex::wrapping(slot)).load(Ordering::Acquire)
        } else {
            let value = word(frame, WordIndex::wrapping(slot / 2)).load(Ordering::Acquire);
            u64::from(half(slot).of(value))
        }
    }

    /// Changes an entry from `current` to `new` (KeInterlockedCompareExchange on a PTE).
    ///
    /// # Errors
    /// What the entry holds, when it is not `current`.
    #[inline]
    pub(crate) fn exchange_entry(
        &self,
        entry: EntryRef,
        current: u64,
        new: u64,
    ) -> Result<(), u64> {
        self.platform().interleave();
        let frame = self.platform().frame(entry.table);
        let slot = usize::from(entry.slot.get());
        if P::Paging::ENTRY_BYTES == 8 {
            word(frame, WordIndex::wrapping(slot))
                .compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire)
                .map(|_| ())
        } else {
            half(slot)
                .compare_exchange(
                    word(frame, WordIndex::wrapping(slot / 2)),
                    current as u32,
                    new as u32,
                )
                .map(|_| ())
                .map_err(u64::from)
        }
    }

    /// Replaces an entry and returns what it held, with the accessed and dirty bits the
    /// hardware had set by then.
    #[inline]
    pub(crate) fn swap_entry(&self, entry: EntryRef, new: u64) -> u64 {
        self.platform().interleave();
        let frame = self.platform().frame(entry.table);
        let slot = usize::from(entry.slot.get());
        if P::Paging::ENTRY_BYTES == 8 {
            word(frame, WordIndex::wrapping(slot)).swap(new, Ordering::AcqRel)
        } else {
            u64::from(half(slot).swap(word(frame, WordIndex::wrapping(slot / 2)), new as u32))
        }
    }

    /// Changes a software entry that only the holder of the working-set lock may change, or
    /// a transition entry whose frame is locked. When it becomes nonzero the table's count of
    /// used entries follows.
    pub(crate) fn store_software(&self, entry: EntryRef, old: u64, new: u64) {
        if self.exchange_entry(entry, old, new).is_err() {
            self.corrupt_table(entry);
        }
        let table = self.entry(entry.table);
        if old == 0 && new != 0 {
            table.set_used_entries(table.used_entries() + 1);
        } else if old != 0 && new == 0 {
            table.set_used_entries(table.used_entries().saturating_sub(1));
        }
    }

    /// Goes from `root` down to the entry of `va` at `level`. The working-set lock is held, so
    /// a valid table stays valid.
    pub(crate) fn walk(&self, root: Pfn, va: Va, level: Level) -> Walk {
        let mut at = P::Paging::TOP;
        let mut table = root;
        loop {
            let entry = EntryRef { table, slot: P::Paging::slot(va, at) };
            if at == level {
                return Walk::Found(entry);
            }
            let value = self.load_entry(entry);
            if at == Level::Directory && P::Paging::is_of_large_page(value) {
                return Walk::Large(entry);
            }
            match at.down() {
                Some(below) if P::Paging::is_valid(value) => {
                    table = P::Paging::valid_pfn(value);
                    at = below;
                }
                _ => return Walk::Missing { level: at, entry },
            }
        }
    }

    /// Nonzero entries of a table, counted. Used when a table comes back from a paging file in
    /// a format whose entries have no room for the count.
    pub(crate) fn count_used_entries(&self, table: Pfn) -> u16 {
        let frame = self.platform().frame(table);
        let mut used = 0;
        for number in 0..512 {
            let value = word(frame, WordIndex::wrapping(number)).load(Ordering::Relaxed);
            used += if P::Paging::ENTRY_BYTES == 8 {
                u16::from(value != 0)
            } else {
                u16::from(Half::Low.of(value) != 0) + u16::from(Half::High.of(value) != 0)
            };
        }
        used
    }
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Gives a nonzero software entry another protection. False when a transition entry changed
    /// before its frame was locked: look again.
    pub(crate) fn change_software_protection(
        &mut self,
        entry: EntryRef,
        protection: Protection,
    ) -> bool {
        let manager = self.manager();
        let word = manager.load_entry(entry);
        let new = P::Paging::with_protection(word, protection);
        if !P::Paging::is_transition(word) {
            manager.store_software(entry, word, new);
            return true;
        }
        let frame = manager.lock_frame(self.token(), P::Paging::transition_pfn(word));
        if manager.load_entry(entry) != word {
            return false;
        }
        frame
            .entry()
            .set_original(P::Paging::with_protection(frame.entry().original(), protection));
        manager.store_software(entry, word, new);
        true
    }
}

const fn half(slot: usize) -> Half {
    if slot.is_multiple_of(2) { Half::Low } else { Half::High }
}
