//! Deleting one page (MiDeletePte, MiDecommitPages, MiDeletePde, spec 14.1-14.4).

use ntmm_pte::{Level, Pages, PagingMode, Protection, PteWord, Slot, Va, Vpn};

use crate::fault::Blocked;
use crate::flush::FlushBatch;
use crate::frames::entry::FrameFlags;
use crate::frames::{FrameGuard, FrameUse, PageLocation};
use crate::manager::Manager;
use crate::platform::Platform;
use crate::section::system_space::PoolOffset;
use crate::tables::{EntryRef, Walk};
use crate::working_set::WorkingSetGuard;

/// What the entry of a deleted page becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remains {
    /// Zero: nothing is known of the page.
    Nothing,
    /// A page that has never been touched, committed with this protection.
    Untouched(Protection),
    /// The decommitted template, which says that the page is not committed even where the
    /// descriptor says so.
    Decommitted,
}

/// Whether an entry held a page that the space counts: one in memory or in a paging file whose
/// contents were wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Page,
    Nothing,
}

fn held_by<P: Platform>(frame: &FrameGuard<'_, '_, P>) -> Held {
    if frame.has(FrameFlags::RESET) { Held::Nothing } else { Held::Page }
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Deletes the page at `va`, whose entry holds this word. The batch has room for the page
    /// and for every table that becomes empty.
    #[inline]
    pub(crate) fn delete_page(
        &mut self,
        batch: &mut FlushBatch<'_, P>,
        (entry, word): (EntryRef, u64),
        va: Va,
        remains: Remains,
    ) -> Result<(), Blocked> {
        batch.take_record()?;
        let new = match remains {
            Remains::Nothing => 0,
            Remains::Untouched(protection) => P::Paging::demand_zero(protection),
            Remains::Decommitted => P::Paging::DECOMMITTED,
        };
        if self.clear_entry(batch, (entry, word), va, new)? == Held::Page {
            self.count_private(Pages::new(0), Pages::new(1));
        }
        if remains == Remains::Nothing {
            self.delete_empty_tables(batch, va, (entry, Level::Table))?;
        }
        Ok(())
    }

    /// Puts `new` in place of the word the entry holds, and gives back what that stands for.
    #[inline]
    fn clear_entry(
        &mut self,
        batch: &mut FlushBatch<'_, P>,
        (entry, word): (EntryRef, u64),
        va: Va,
        new: u64,
    ) -> Result<Held, Blocked> {
        if P::Paging::is_valid(word) {
            let usage = self.manager().entry(P::Paging::valid_pfn(word)).state().usage();
            if usage == FrameUse::UserPhysical {
                self.unmap_physical(entry, new);
                batch.push_page(va);
                return Ok(Held::Nothing);
            }
            return Ok(self.clear_valid(batch, entry, va, word, new));
        }
        self.clear_software(entry, word, new)
    }

    /// As [`clear_entry`](Self::clear_entry), for a word that is not valid.
    fn clear_software(&mut self, entry: EntryRef, word: u64, new: u64) -> Result<Held, Blocked> {
        let manager = self.manager();
        if P::Paging::is_transition(word) {
            let mut frame = manager.lock_frame(self.token(), P::Paging::transition_pfn(word));
            if manager.load_entry(entry) != word {
                return Err(Blocked::Restart);
            }
            manager.store_software(entry, word, new);
            manager.entry(entry.table).drop_share();
            let held = held_by(&frame);
            manager.end_page(&mut frame);
            return Ok(held);
        }
        manager.store_software(entry, word, new);
        if P::Paging::is_page_file(word) {
            manager.release_slot_of(self.token(), word);
            return Ok(Held::Page);
        }
        Ok(Held::Nothing)
    }

    /// Takes a valid page away: out of the working set, out of the entry; the flush batch gets
    /// the mapping's reference.
    fn clear_valid(
        &mut self,
        batch: &mut FlushBatch<'_, P>,
        entry: EntryRef,
        va: Va,
        word: u64,
        new: u64,
    ) -> Held {
        let manager = self.manager();
        let pfn = P::Paging::valid_pfn(word);
        let hint = manager.entry(pfn).u1();
        self.remove_entry(va, hint);
        if manager.entry(pfn).state().usage() == FrameUse::Section {
            let mut frame = manager.lock_frame(self.token(), pfn);
            manager.unmap_shared(&mut frame, entry, new);
            drop(frame);
            batch.push_frame(va, pfn);
            return Held::Nothing;
        }
        let held = {
            let mut frame = manager.lock_frame(self.token(), pfn);
            manager.swap_entry(entry, new);
            frame.entry().drop_share_and_u1();
            frame.set_location(PageLocation::Transition);
            frame.insert(FrameFlags::DELETED);
            held_by(&frame)
        };
        let table = manager.entry(entry.table);
        if new == 0 {
            table.set_used_entries(table.used_entries().saturating_sub(1));
        }
        table.drop_share();
        batch.push_frame(va, pfn);
        held
    }

    /// Deletes the pages of the section whose prototypes lie in the page of the system space that an
    /// entry with `word` maps: it is about to be deleted. Nothing in other spaces.
    pub(super) fn clear_prototypes(&mut self, word: u64, page: Vpn) -> Result<(), Blocked> {
        let manager = self.manager();
        if word == 0 || manager.system_space() != Some(self.space()) {
            return Ok(());
        }
        if !P::Paging::is_valid(word) {
            let untouched = !P::Paging::is_transition(word) && !P::Paging::is_page_file(word);
            let at = PoolOffset::of_va(P::Paging::va_of_vpn(page));
            return if untouched { Ok(()) } else { Err(Blocked::Prototypes(at)) };
        }
        let table = P::Paging::valid_pfn(word);
        for slot in 0..P::Paging::ENTRIES as u64 {
            self.clear_prototype(EntryRef { table, slot: Slot::from_low_bits(slot) })?;
        }
        Ok(())
    }

    /// Deletes the page of a section that one prototype stands for. Nobody maps it.
    fn clear_prototype(&mut self, entry: EntryRef) -> Result<(), Blocked> {
        let manager = self.manager();
        let word = manager.load_entry(entry);
        if P::Paging::is_transition(word) {
            let mut frame = manager.lock_frame(self.token(), P::Paging::transition_pfn(word));
            if manager.exchange_entry(entry, word, 0).is_err() {
                return Err(Blocked::Restart);
            }
            manager.entry(entry.table).drop_share();
            manager.discount_file_page(&frame);
            manager.end_page(&mut frame);
            return Ok(());
        }
        if P::Paging::is_valid(word) {
            manager.corrupt_table(entry);
        }
        if word != 0 && manager.exchange_entry(entry, word, 0).is_ok() {
            manager.release_slot_of(self.token(), word);
        }
        Ok(())
    }

    /// Deletes the table of `entry`, an entry of `level`, when nothing is left in it, then the one
    /// above, and so on. The batch has a record, and room for them.
    pub(super) fn delete_empty_tables(
        &mut self,
        batch: &mut FlushBatch<'_, P>,
        va: Va,
        (mut entry, mut level): (EntryRef, Level),
    ) -> Result<(), Blocked> {
        let manager = self.manager();
        while level < P::Paging::SELF_MAP_LEVEL && manager.entry(entry.table).used_entries() == 0 {
            let Some(above) = level.up() else { break };
            let Walk::Found(at) = manager.walk(self.root(), va, above) else { break };
            let word = manager.load_entry(at);
            self.clear_entry(batch, (at, word), P::Paging::table_address(va, level), 0)?;
            (level, entry) = (above, at);
        }
        Ok(())
    }
}

impl<P: Platform> Manager<P> {
    /// Gives up the frame of a page that nothing names any more and nobody maps.
    pub(crate) fn end_page(&self, frame: &mut FrameGuard<'_, '_, P>) {
        match frame.location() {
            PageLocation::Standby => self.free_standby(frame),
            PageLocation::Modified | PageLocation::ModifiedNoWrite => {
                self.unlink_modified(frame);
                frame.entry().set_u1_and_share(0, 0);
                self.release_original_slot(frame);
                self.free_frame(frame);
            }
            // A transfer or a flush still holds it; its last reference frees it.
            _ => frame.insert(FrameFlags::DELETED),
        }
    }
}
