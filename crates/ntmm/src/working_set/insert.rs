//! Free entries, growth of the list by a page, insertion and removal (spec 6.7, 6.9).

use ntmm_pte::{Dirtiness, Protection, PteWord, Va};
use ntmm_sync::atomic::{AtomicU64, Ordering};

use super::entry::WorkingSetEntry;
use super::guard::WorkingSetGuard;
use super::header::HEADER_WORDS;
use crate::frames::colors::Color;
use crate::frames::take::Want;
use crate::frames::{FrameUse, PageReservation};
use crate::platform::Platform;
use crate::tables::EntryRef;

/// Entries in the first page of a list, beside the header.
pub const FIRST_PAGE_ENTRIES: u32 = 512 - HEADER_WORDS;

/// Entries in every further page.
pub const PAGE_ENTRIES: u32 = 512;

/// An entry taken off the free list, to be filled or to be given back with
/// [`release_entry`](WorkingSetGuard::release_entry).
#[derive(Debug)]
#[must_use]
pub(crate) struct ReservedEntry<'m> {
    index: u32,
    word: &'m AtomicU64,
}

impl ReservedEntry<'_> {
    /// Its index.
    pub(crate) const fn index(&self) -> u32 {
        self.index
    }

    /// Fills it for a page of its space alone. The frame's u1 is set to the index by the caller,
    /// who holds its lock.
    #[inline]
    pub(crate) fn fill(self, va: Va) {
        self.word.store(WorkingSetEntry::direct(va.vpn()).to_word(), Ordering::Relaxed);
    }
}

impl<'m, P: Platform> WorkingSetGuard<'m, '_, P> {
    /// Links the entries from `first` up to but not including `end` into the free list, the
    /// lowest first.
    pub(crate) fn initialize_entries(&mut self, first: u32, end: u32) {
        let header = self.header();
        let mut next = header.first_free();
        for index in (first..end).rev() {
            self.set_entry(index, WorkingSetEntry::free(next));
            next = index;
        }
        header.set_first_free(next);
        header.set_initialized(end);
    }

    /// Makes the list one page longer with a frame out of `reservation`. Returns whether it
    /// did: the list has a largest size, and the page has to be charged.
    ///
    /// The new page is itself in the working set, permanently.
    pub(crate) fn grow_list(&mut self, reservation: &mut PageReservation<'_, P>) -> bool {
        let manager = self.manager();
        let header = self.header();
        let initialized = header.initialized();
        let page = ((HEADER_WORDS + initialized) / PAGE_ENTRIES) as usize;
        let hash_pages = (header.hash_size() / PAGE_ENTRIES) as usize;
        if page + hash_pages >= crate::Manager::<P>::list_pages_limit() {
            return false;
        }
        let Ok(charge) = manager.charge_commitment(ntmm_pte::Pages::new(1)) else {
            return false;
        };
        self.add_commit(charge.keep());
        self.map_list_page(manager.list_entry(header, page), reservation);
        self.initialize_entries(initialized, initialized + PAGE_ENTRIES);
        self.insert_permanent(crate::Manager::<P>::list_address(page));
        true
    }

    /// Maps a zeroed frame out of `reservation` at `entry`, an empty entry of the table that
    /// maps the list.
    pub(super) fn map_list_page(
        &mut self,
        entry: EntryRef,
        reservation: &mut PageReservation<'_, P>,
    ) {
        let manager = self.manager();
        let color = self.next_color();
        let usage = FrameUse::WorkingSetList;
        let pfn = {
            let mut frame =
                manager.take_frame(self.token(), reservation, color, Want::Zeroed, usage);
            frame.entry().set_original(P::Paging::demand_zero(Protection::READWRITE));
            frame.entry().set_container(entry.table, entry.slot);
            frame.add_mapping();
            frame.pfn()
        };
        let valid = P::Paging::valid_kernel_local(pfn, Protection::READWRITE, Dirtiness::Dirty);
        manager.store_software(entry, 0, valid);
        manager.entry(entry.table).add_share(1);
    }

    /// The colour for the next page of this space.
    pub(crate) fn next_color(&mut self) -> Color {
        let number = self.header().next_color();
        self.header().set_next_color(number.wrapping_add(1));
        self.manager().colors.wrapping(number)
    }

    /// Takes an entry off the free list. The caller has made sure there is one.
    #[inline(always)]
    pub(crate) fn reserve_entry(&mut self) -> ReservedEntry<'m> {
        let header = self.header();
        let index = header.first_free();
        // The mark of an empty list is above every index.
        if index >= header.initialized() {
            self.manager().corrupt_working_set(index);
        }
        let word = self.entry_word(index);
        header.set_first_free(WorkingSetEntry::from_word(word.load(Ordering::Relaxed)).link());
        if index > header.last_entry() {
            header.set_last_entry(index);
        }
        let size = header.size() + 1;
        header.set_size(size);
        if size > header.peak() {
            header.set_peak(size);
        }
        header.set_fault_count(header.fault_count() + 1);
        ReservedEntry { index, word }
    }

    /// Inserts a page of the manager's own that stays as long as the space exists, below
    /// FirstDynamic.
    pub(crate) fn insert_permanent(&mut self, va: Va) {
        let manager = self.manager();
        let reserved = self.reserve_entry();
        let index = reserved.index();
        let pfn = manager.resident_frame(self.root(), va);
        manager.lock_frame(self.token(), pfn).entry().set_u1(index);
        reserved.fill(va);
        self.lock_entry(index);
    }

    /// Gives the entry `index` back to the free list. It is not locked.
    pub(crate) fn release_entry(&mut self, index: u32) {
        let word = self.entry_word(index);
        let entry = WorkingSetEntry::from_word(word.load(Ordering::Relaxed));
        if entry.is_valid() && !entry.is_direct() {
            self.forget_indirect(index, entry);
        }
        self.link_free(index, word);
    }

    /// Links the entry `index`, which is `word`, into the free list.
    #[inline]
    fn link_free(&mut self, index: u32, word: &AtomicU64) {
        let header = self.header();
        let free = WorkingSetEntry::free(header.first_free());
        word.store(free.to_word(), Ordering::Relaxed);
        header.set_first_free(index);
        header.set_size(header.size().saturating_sub(1));
        if index == header.last_entry() {
            self.lower_last_entry();
        }
    }

    /// Takes an entry that is not direct out of the hash and out of the count.
    #[cold]
    fn forget_indirect(&mut self, index: u32, entry: WorkingSetEntry) {
        if entry.is_hashed() {
            self.hash_remove(index);
        }
        let header = self.header();
        header.set_non_direct(header.non_direct().saturating_sub(1));
    }

    /// Makes the entry `index`, whose page has got a frame of its own, direct.
    pub(crate) fn make_direct(&mut self, index: u32) {
        let entry = self.entry(index);
        if !entry.is_direct() {
            self.forget_indirect(index, entry);
        }
        let entry = self.entry(index).as_direct().with_protection(Protection::ZERO_ACCESS);
        self.set_entry(index, entry);
    }

    /// Finds the highest entry in use again when that has been given back.
    #[inline(never)]
    fn lower_last_entry(&mut self) {
        let header = self.header();
        let mut last = header.last_entry().saturating_sub(1);
        while last > 0 && !self.entry(last).is_valid() {
            last -= 1;
        }
        header.set_last_entry(last);
    }

    /// Takes the page at `va` out of the set because it is being deleted, or hidden from its
    /// program. `hint` is the u1 of its frame.
    #[inline]
    pub(crate) fn remove_entry(&mut self, va: Va, hint: u32) {
        if hint <= self.header().last_entry() {
            let word = self.entry_word(hint);
            let entry = WorkingSetEntry::from_word(word.load(Ordering::Relaxed));
            if entry.maps(va.vpn()) && entry.is_direct() && !entry.is_locked() {
                self.link_free(hint, word);
                return;
            }
        }
        self.remove_other(va, hint);
    }

    /// As [`remove_entry`](Self::remove_entry), when the entry has to be searched for or is locked.
    #[cold]
    fn remove_other(&mut self, va: Va, hint: u32) {
        let Some(index) = self.locate(va, hint) else { self.manager().corrupt_entry(va) };
        let index = if self.entry(index).is_locked() { self.unlock_entry(index) } else { index };
        self.release_entry(index);
    }
}
