//! Locked entries and FirstDynamic (spec 6.12).
//!
//! Entries below FirstDynamic stay in the set: the manager's own pages, and pages a program has
//! locked. Locking moves an entry to FirstDynamic, by swapping, and steps FirstDynamic over it.
//! Where entries move, the u1 of direct frames and the hash follow.

use ntmm_pte::PagingMode;

use super::entry::{PageLock, WorkingSetEntry};
use super::guard::WorkingSetGuard;
use crate::platform::Platform;

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Locks the page with entry `index` in the set; returns its new index.
    pub(crate) fn lock_entry(&mut self, index: u32) -> u32 {
        self.set_entry(index, self.entry(index).locked());
        self.move_to_locked(index)
    }

    /// Moves an entry that has been locked below FirstDynamic; returns its new index.
    fn move_to_locked(&mut self, index: u32) -> u32 {
        let header = self.header();
        let first = header.first_dynamic();
        if index < first {
            return index;
        }
        self.swap_entries(index, first);
        header.set_first_dynamic(first + 1);
        header.set_next_slot(header.next_slot().max(first + 1));
        first
    }

    /// Locks the page with entry `index` in one way, beside others; returns its new index.
    pub(crate) fn add_lock(&mut self, index: u32, lock: PageLock) -> u32 {
        let was_locked = self.entry(index).is_locked();
        self.set_entry(index, self.entry(index).with_lock(lock));
        if was_locked { index } else { self.move_to_locked(index) }
    }

    /// Undoes [`add_lock`](Self::add_lock).
    pub(crate) fn drop_lock(&mut self, index: u32, lock: PageLock) {
        let entry = self.entry(index).without_lock(lock);
        if entry.is_locked() {
            self.set_entry(index, entry);
        } else {
            self.unlock_entry(index);
        }
    }

    /// Undoes [`lock_entry`](Self::lock_entry); returns the entry's new index.
    pub(crate) fn unlock_entry(&mut self, index: u32) -> u32 {
        let header = self.header();
        self.set_entry(index, self.entry(index).unlocked());
        let first = header.first_dynamic();
        if index >= first {
            return index;
        }
        header.set_first_dynamic(first - 1);
        self.swap_entries(index, first - 1);
        first - 1
    }

    /// Exchanges two entries (MiSwapWslEntries). Either may be free.
    pub(crate) fn swap_entries(&mut self, a: u32, b: u32) {
        let (entry_a, entry_b) = (self.entry(a), self.entry(b));
        if a == b || !(entry_a.is_valid() || entry_b.is_valid()) {
            return;
        }
        self.unlink_if_free(a, entry_a);
        self.unlink_if_free(b, entry_b);
        self.place(b, entry_a, a);
        self.place(a, entry_b, b);
        let header = self.header();
        header.set_last_entry(header.last_entry().max(if entry_a.is_valid() { b } else { 0 }));
        header.set_last_entry(header.last_entry().max(if entry_b.is_valid() { a } else { 0 }));
        while header.last_entry() > 0 && !self.entry(header.last_entry()).is_valid() {
            header.set_last_entry(header.last_entry() - 1);
        }
    }

    /// A free entry is a link of the free list: it is taken out before the swap.
    fn unlink_if_free(&mut self, index: u32, entry: WorkingSetEntry) {
        if entry.is_valid() {
            return;
        }
        let header = self.header();
        let next = entry.next_free().unwrap_or(super::header::NO_ENTRY);
        if header.first_free() == index {
            header.set_first_free(next);
            return;
        }
        let mut at = header.first_free();
        for _ in 0..header.initialized() {
            let link = self.entry(at);
            match link.next_free() {
                Some(linked) if linked == index => {
                    self.set_entry(at, WorkingSetEntry::free(next));
                    return;
                }
                Some(linked) => at = linked,
                None => break,
            }
        }
        self.manager().corrupt_working_set(index);
    }

    fn place(&mut self, index: u32, entry: WorkingSetEntry, from: u32) {
        if !entry.is_valid() {
            let header = self.header();
            self.set_entry(index, WorkingSetEntry::free(header.first_free()));
            header.set_first_free(index);
            return;
        }
        self.set_entry(index, entry);
        if entry.is_hashed() {
            self.hash_move(entry.page(), from, index);
        }
        if entry.is_direct() {
            let manager = self.manager();
            let va = P::Paging::va_of_vpn(entry.page());
            let pfn = manager.resident_frame(self.root(), va);
            manager.lock_frame(self.token(), pfn).entry().set_u1(index);
        }
    }
}
