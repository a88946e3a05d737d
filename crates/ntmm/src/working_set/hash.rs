//! The hash of entries that are not direct (spec 6.5, 6.6).
//!
//! An entry is direct when its index is its frame's u1, and found through the frame. A page
//! shared by several spaces can be direct in one of them only; the others look their entry up
//! here, or, while a list is short, by going through it. Private pages are always direct.
//!
//! The table lies at the far end of the list's hyperspace table, growing downwards by a page. A
//! slot is a word: page number and index plus one. Collisions go to the next slot.

use ntmm_pte::{PagingMode, Pfn, PteWord, Slot, Va, Vpn};
use ntmm_sync::atomic::{AtomicU64, Ordering};
use ntmm_sync::frame::{WordIndex, word};

use super::guard::WorkingSetGuard;
use crate::frames::PageReservation;
use crate::platform::Platform;
use crate::tables::EntryRef;

/// Lists with no more entries than this are searched instead.
pub const SHORT_LIST: u32 = 0x180;

const SLOTS_PER_PAGE: u32 = 512;
const INDEX_BITS: u32 = 28;

const fn slot_word(page: Vpn, index: u32) -> u64 {
    (page.get() << INDEX_BITS) | (index as u64 + 1)
}

const fn slot_page(word: u64) -> u64 {
    word >> INDEX_BITS
}

const fn slot_index(word: u64) -> Option<u32> {
    ((word & ((1 << INDEX_BITS) - 1)) as u32).checked_sub(1)
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// The entry of the page at `va` (MiLocateWsle): the frame's hint, then the hash, then the
    /// list.
    #[inline]
    pub(crate) fn locate(&self, va: Va, hint: u32) -> Option<u32> {
        if hint <= self.header().last_entry() && self.entry(hint).maps(va.vpn()) {
            return Some(hint);
        }
        self.search(va.vpn())
    }

    #[cold]
    fn search(&self, page: Vpn) -> Option<u32> {
        let header = self.header();
        if let Some(index) = self.hash_lookup(page) {
            return Some(index);
        }
        let first = header.first_dynamic();
        (first..=header.last_entry()).chain(0..first).find(|&index| self.entry(index).maps(page))
    }

    /// Makes the hash a page longer with a frame out of `reservation` and inserts every entry
    /// that belongs in it again. Says whether there was address space and commitment for it.
    pub(crate) fn grow_hash(&mut self, reservation: &mut PageReservation<'_, P>) -> bool {
        let header = self.header();
        let pages = header.hash_size() / SLOTS_PER_PAGE;
        let list_pages = (super::header::HEADER_WORDS + header.initialized()) / SLOTS_PER_PAGE;
        if (pages + list_pages + 1) as usize > crate::Manager::<P>::list_pages_limit() {
            return false;
        }
        let Ok(charge) = self.manager().charge_commitment(ntmm_pte::Pages::new(1)) else {
            return false;
        };
        self.add_commit(charge.keep());
        self.map_list_page(self.hash_page_entry(pages), reservation);
        for slot in 0..header.hash_size() {
            self.hash_slot(slot).store(0, Ordering::Relaxed);
        }
        header.set_hash_size(header.hash_size() + SLOTS_PER_PAGE);
        self.insert_permanent(self.hash_page_address(pages));
        for index in 0..=header.last_entry() {
            let entry = self.entry(index);
            if entry.is_valid() && !entry.is_direct() {
                self.hash_insert(index);
            }
        }
        true
    }

    /// Puts an entry that is not direct into the hash, if there is one with room.
    pub(crate) fn hash_insert(&mut self, index: u32) {
        let size = self.header().hash_size();
        let entry = self.entry(index);
        let free = self
            .probe(entry.page())
            .find(|&slot| self.hash_slot(slot).load(Ordering::Relaxed) == 0);
        if let Some(slot) = free.filter(|_| size > 0) {
            self.hash_slot(slot).store(slot_word(entry.page(), index), Ordering::Relaxed);
            self.set_entry(index, entry.hashed());
        }
    }

    /// Takes an entry out of the hash. What probed past it is inserted again.
    pub(crate) fn hash_remove(&mut self, index: u32) {
        let entry = self.entry(index);
        let size = self.header().hash_size();
        let held = slot_word(entry.page(), index);
        let Some(mut slot) = self
            .probe(entry.page())
            .find(|&slot| self.hash_slot(slot).load(Ordering::Relaxed) == held)
        else {
            self.manager().corrupt_working_set(index);
        };
        self.hash_slot(slot).store(0, Ordering::Relaxed);
        self.set_entry(index, entry.unhashed());
        for _ in 0..size {
            slot = (slot + 1) % size;
            let follower = self.hash_slot(slot).swap(0, Ordering::Relaxed);
            let Some(moved) = slot_index(follower) else { break };
            self.hash_insert(moved);
        }
    }

    /// Records that the entry of `page` moved to index `to`.
    pub(crate) fn hash_move(&mut self, page: Vpn, from: u32, to: u32) {
        let held = slot_word(page, from);
        if let Some(slot) =
            self.probe(page).find(|&slot| self.hash_slot(slot).load(Ordering::Relaxed) == held)
        {
            self.hash_slot(slot).store(slot_word(page, to), Ordering::Relaxed);
        }
    }

    /// The entry the hash has for `page`.
    pub(crate) fn hash_lookup(&self, page: Vpn) -> Option<u32> {
        self.probe(page)
            .map(|slot| self.hash_slot(slot).load(Ordering::Relaxed))
            .take_while(|&word| word != 0)
            .find(|&word| slot_page(word) == page.get())
            .and_then(slot_index)
    }

    /// The slots a page may be in, in order: NT's hash of the address shifted by ten, then one
    /// after the other.
    fn probe(&self, page: Vpn) -> impl Iterator<Item = u32> + use<P> {
        let size = self.header().hash_size();
        let start = if size > 1 { ((page.get() * 4) % u64::from(size - 1)) as u32 } else { 0 };
        (0..size).map(move |step| (start + step) % size)
    }

    fn hash_page_entry(&self, page: u32) -> EntryRef {
        EntryRef {
            table: Pfn::new(self.header().list_table()),
            slot: Slot::from_low_bits(P::Paging::ENTRIES as u64 - 1 - u64::from(page)),
        }
    }

    fn hash_page_address(&self, page: u32) -> Va {
        let last = crate::Manager::<P>::list_pages_limit() - 1;
        crate::Manager::<P>::list_address(last - page as usize)
    }

    fn hash_slot(&self, slot: u32) -> &AtomicU64 {
        let manager = self.manager();
        let entry = self.hash_page_entry(slot / SLOTS_PER_PAGE);
        let pfn = P::Paging::valid_pfn(manager.load_entry(entry));
        word(manager.platform().frame(pfn), WordIndex::wrapping(slot as usize))
    }
}
