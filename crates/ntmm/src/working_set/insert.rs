//! Free entries, growth of the list by a page, insertion and removal (spec 6.7, 6.9).

use ntmm_pte::{Dirtiness, Protection, PteWord, Va};

use super::entry::{Age, WorkingSetEntry};
use super::guard::WorkingSetGuard;
use super::header::{HEADER_WORDS, NO_ENTRY};
use crate::frames::colors::Color;
use crate::frames::take::Want;
use crate::frames::{FrameUse, PageReservation};
use crate::platform::Platform;
use crate::tables::EntryRef;

/// Entries in the first page of a list, beside the header.
pub const FIRST_PAGE_ENTRIES: u32 = 512 - HEADER_WORDS;

/// Entries in every further page.
pub const PAGE_ENTRIES: u32 = 512;

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
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
    pub(crate) fn reserve_entry(&mut self) -> u32 {
        let header = self.header();
        let index = header.first_free();
        if index == NO_ENTRY || index >= header.initialized() {
            self.manager().corrupt_working_set(index);
        }
        header.set_first_free(self.entry(index).next_free().unwrap_or(NO_ENTRY));
        header.set_last_entry(header.last_entry().max(index));
        header.set_size(header.size() + 1);
        header.set_peak(header.peak().max(header.size()));
        header.set_fault_count(header.fault_count() + 1);
        index
    }

    /// Fills a reserved entry for a page of this space alone. The frame's u1 is set to `index`
    /// by the caller, who holds its lock.
    pub(crate) fn fill_direct(&mut self, index: u32, va: Va) {
        self.set_entry(index, WorkingSetEntry::direct(va.vpn()));
    }

    /// Inserts a page of the manager's own that stays as long as the space exists, below
    /// FirstDynamic.
    pub(crate) fn insert_permanent(&mut self, va: Va) {
        let manager = self.manager();
        let index = self.reserve_entry();
        let pfn = manager.resident_frame(self.root(), va);
        manager.lock_frame(self.token(), pfn).entry().set_u1(index);
        self.fill_direct(index, va);
        self.lock_entry(index);
    }

    /// Gives the entry `index` back to the free list. It is not locked.
    pub(crate) fn release_entry(&mut self, index: u32) {
        let header = self.header();
        if self.entry(index).is_hashed() {
            self.hash_remove(index);
        }
        let entry = self.entry(index);
        if entry.is_valid() && !entry.is_direct() {
            header.set_non_direct(header.non_direct().saturating_sub(1));
        }
        self.set_entry(index, WorkingSetEntry::free(header.first_free()).with_age(Age::YOUNG));
        header.set_first_free(index);
        header.set_size(header.size().saturating_sub(1));
        if index == header.last_entry() {
            let mut last = index;
            while last > 0 && !self.entry(last).is_valid() {
                last -= 1;
            }
            header.set_last_entry(last);
        }
    }

    /// Takes the page with entry `index` out of the set because it is being deleted; a locked
    /// entry is unlocked first.
    pub(crate) fn remove_entry(&mut self, index: u32) {
        let index = if self.entry(index).is_locked() { self.unlock_entry(index) } else { index };
        self.release_entry(index);
    }
}
