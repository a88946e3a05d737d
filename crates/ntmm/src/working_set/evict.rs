//! Taking a page out of a working set (MiEliminateWorkingSetEntry, spec 6.10).
//!
//! The entry of the page goes from valid to transition; what the hardware recorded in it is
//! captured; the frame waits in Transition, held by the flush batch, until every processor has
//! forgotten the translation. A page-table page goes the same way, found through the self-map,
//! provided nothing in it is valid or in transition.

use ntmm_pte::{Level, PagingMode, Pfn, Protection, PteWord, UsedEntries, Va, Vpn};

use super::guard::WorkingSetGuard;
use crate::events::Event;
use crate::flush::FlushBatch;
use crate::frames::contents::Wanted;
use crate::frames::entry::FrameFlags;
use crate::frames::{FrameGuard, FrameUse, PageLocation};
use crate::manager::Manager;
use crate::platform::{FrameRange, Platform};
use crate::tables::{EntryRef, Walk};

/// Whether a page could be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eviction {
    Done,
    /// A page table with entries that are valid or in transition.
    InUse,
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// The protection in this space of a page of a section that is mapped here; `hint` is the u1
    /// of its frame.
    pub(crate) fn protection_of_shared(&self, page: Vpn, hint: u32) -> Protection {
        let va = P::Paging::va_of_vpn(page);
        match self.locate(va, hint) {
            Some(index) => self.entry(index).protection(),
            None => self.manager().corrupt_entry(va),
        }
    }

    /// Where the entry of the valid page at `va` lies.
    pub(crate) fn entry_of_valid(&self, va: Va) -> EntryRef {
        match self.manager().walk(self.root(), va, Level::Table) {
            Walk::Found(entry) => entry,
            Walk::Missing { .. } | Walk::Large(_) => self.manager().corrupt_entry(va),
        }
    }

    /// Takes the page of list entry `index` out of the set. The entry is in use and not locked;
    /// the batch is of this space and not full.
    pub(crate) fn evict(&mut self, index: u32, batch: &mut FlushBatch<'_, P>) -> Eviction {
        let manager = self.manager();
        let va = P::Paging::va_of_vpn(self.entry(index).page());
        let entry = self.entry_of_valid(va);
        let word = manager.load_entry(entry);
        if !P::Paging::is_valid(word) {
            manager.corrupt_entry(va);
        }
        let pfn = P::Paging::valid_pfn(word);
        let (held, wanted) = {
            let protection = self.entry(index).protection();
            let mut frame = manager.lock_frame(self.token(), pfn);
            match frame.state().usage() {
                FrameUse::PageTable | FrameUse::Prototypes if frame.entry().share() > 1 => {
                    return Eviction::InUse;
                }
                FrameUse::Section => {
                    let lookup = P::Paging::prototype_lookup(protection);
                    (manager.unmap_shared(&mut frame, entry, lookup), Wanted::Unchanged)
                }
                _ => manager.make_transition(&mut frame, entry),
            }
        };
        self.count_wanted(wanted);
        self.capture_write(va, held);
        batch.push_frame(va, pfn);
        self.release_entry(index);
        if P::ENABLED {
            manager.platform().event(&Event::Trimmed { space: self.space(), va, pfn });
        }
        Eviction::Done
    }
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Takes the pages out that lie in frames of `range`, of up to `entries` entries from
    /// `from` on. Pages that are locked and tables in use stay. Returns the entry to go on with,
    /// or none when the end of the list was reached.
    pub(crate) fn evict_range(
        &mut self,
        from: u32,
        entries: u32,
        range: FrameRange,
        batch: &mut FlushBatch<'_, P>,
    ) -> Option<u32> {
        let header = self.header();
        let first = from.max(header.first_dynamic());
        let mut index = first;
        while index <= header.last_entry() {
            if index - first >= entries || batch.is_full() {
                return Some(index);
            }
            let entry = self.entry(index);
            if entry.is_valid() && !entry.is_locked() {
                let at = self.entry_of_valid(P::Paging::va_of_vpn(entry.page()));
                let pfn = P::Paging::valid_pfn(self.manager().load_entry(at));
                if range.contains(pfn) && self.evict(index, batch) == Eviction::Done {
                    self.manager().counters.trimmed.add(1);
                }
            }
            index += 1;
        }
        None
    }
}

impl<P: Platform> Manager<P> {
    /// Turns the valid entry of a private page into its transition form and takes the mapping
    /// away from the frame; the mapping's reference passes to the caller's flush batch. Returns
    /// what the entry held, and what that means for the space's count of pages.
    pub(crate) fn make_transition(
        &self,
        frame: &mut FrameGuard<'_, '_, P>,
        entry: EntryRef,
    ) -> (u64, Wanted) {
        let protection = P::Paging::software_protection(frame.entry().original());
        let old = self.swap_entry(entry, P::Paging::transition(frame.pfn(), protection));
        let wanted = self.capture_dirty(frame, old);
        frame.entry().drop_share_and_u1();
        frame.set_location(PageLocation::Transition);
        (old, wanted)
    }

    /// Puts `new` in the place of a valid entry of a page of a section. The reference that the
    /// mapping had, or one more, is for the caller's flush batch. With the last mapping the
    /// prototype goes from valid to transition. Returns what the entry held.
    pub(crate) fn unmap_shared(
        &self,
        frame: &mut FrameGuard<'_, '_, P>,
        entry: EntryRef,
        new: u64,
    ) -> u64 {
        let held = self.swap_entry(entry, new);
        let table = self.entry(entry.table);
        table.drop_share();
        if new == 0 {
            table.set_used_entries(table.used_entries().saturating_sub(1));
        }
        self.capture_dirty_of_shared(frame, held);
        if frame.entry().share() > 1 {
            frame.entry().drop_share();
            frame.add_reference();
            return held;
        }
        let (table, slot) = frame.entry().container();
        let protection = P::Paging::software_protection(frame.entry().original());
        let prototype = EntryRef { table, slot };
        self.swap_entry(prototype, P::Paging::transition(frame.pfn(), protection));
        frame.entry().drop_share_and_u1();
        frame.set_location(PageLocation::Transition);
        held
    }

    /// Merges the dirty bit of an entry that maps a page of a section into its frame.
    pub(crate) fn capture_dirty_of_shared(&self, frame: &mut FrameGuard<'_, '_, P>, held: u64) {
        if P::Paging::is_dirty(held) {
            frame.insert(FrameFlags::MODIFIED);
            self.part_from_image(frame);
            self.release_copy(frame);
        }
    }

    /// The frame mapped at `va`, which is valid.
    pub(crate) fn resident_frame(&self, root: Pfn, va: Va) -> Pfn {
        match self.walk(root, va, Level::Table) {
            Walk::Found(entry) => {
                let word = self.load_entry(entry);
                if P::Paging::is_valid(word) {
                    return P::Paging::valid_pfn(word);
                }
                self.corrupt_entry(va)
            }
            Walk::Missing { .. } | Walk::Large(_) => self.corrupt_entry(va),
        }
    }

    /// The form a page table's original entry takes in a paging file: with the number of its
    /// used entries, where the format has room.
    pub(crate) fn with_table_count(&self, original: u64, frame: &FrameGuard<'_, '_, P>) -> u64 {
        if frame.state().usage() != FrameUse::PageTable {
            return original;
        }
        match UsedEntries::new(frame.entry().used_entries()) {
            Some(used) => P::Paging::with_used_entries(original, used),
            None => original,
        }
    }
}
