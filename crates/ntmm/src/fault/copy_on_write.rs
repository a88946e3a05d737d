//! Writes to pages that are copied when they are written (MiCopyOnWrite, spec 5.1).
//!
//! The entry is valid and not writable: the page is shared. It gets a frame of its own with the
//! same contents. In between stands a wait for the processors: as long as one of them may still
//! reach the old page, none may write to the new one, or threads of one process would see
//! different memory. So the entry first becomes a transition entry that names the copy, which is
//! marked STALE and held by the same flush batch as the page it replaces; the fault goes on
//! from there as any soft fault does, at once when all processors have acknowledged at once. A page
//! that is locked must not be missing even for a moment: its entry goes straight to the copy.

use ntmm_pte::{Dirtiness, Pages, Pfn, Protection, PteWord, Va};
use ntmm_sync::atomic::Ordering;
use ntmm_sync::frame::{WORDS_PER_FRAME, WordIndex, word};

use super::{Blocked, Target};
use crate::events::FaultKind;
use crate::fault::Holds;
use crate::frames::entry::FrameFlags;
use crate::frames::take::Want;
use crate::frames::{FrameUse, PageLocation};
use crate::manager::Manager;
use crate::platform::Platform;
use crate::tables::EntryRef;
use crate::virtual_memory::range::flush_wait;
use crate::working_set::WorkingSetGuard;

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Gives the page at `va`, whose entry holds this valid word, a frame of its own.
    pub(super) fn copy_on_write(
        &mut self,
        (entry, held): (EntryRef, u64),
        va: Va,
        holds: &mut Holds,
    ) -> Result<FaultKind, Blocked> {
        let manager = self.manager();
        let old = P::Paging::valid_pfn(held);
        let index = self.locate(va, manager.entry(old).u1());
        let Some(index) = index else { manager.corrupt_entry(va) };
        let mut batch = manager.begin_flush(self.space())?;
        let mut reservation = manager.reserve_pages(1)?;
        let protection = self.entry(index).protection().without_write_copy();
        let locked = self.entry(index).is_locked();
        let color = self.next_color();
        manager.counters.copy_on_write.add(1);
        let copy = {
            let (want, usage) = (Want::Any, FrameUse::Private);
            let mut frame = manager.take_frame(self.token(), &mut reservation, color, want, usage);
            manager.copy_frame(old, frame.pfn());
            frame.insert(FrameFlags::MODIFIED);
            frame.entry().set_original(P::Paging::demand_zero(protection));
            frame.entry().set_container(entry.table, entry.slot);
            if locked {
                frame.map_first(index);
            } else {
                frame.insert(FrameFlags::STALE);
                frame.set_location(PageLocation::Transition);
                // The flush batch's.
                frame.add_reference();
            }
            frame.pfn()
        };
        let new = if locked {
            P::Paging::valid_user(copy, protection, Dirtiness::Dirty)
        } else {
            P::Paging::transition(copy, protection)
        };
        {
            let mut frame = manager.lock_frame(self.token(), old);
            manager.unmap_shared(&mut frame, entry, new);
        }
        // The table counts the new entry, be it valid or in transition.
        manager.entry(entry.table).add_share(1);
        self.count_private(Pages::ONE, Pages::ZERO);
        batch.push_frame(va, old);
        if locked {
            self.make_direct(index);
        } else {
            self.release_entry(index);
            batch.push_copy(copy);
        }
        if let Some(ticket) = batch.finish(self.token()) {
            return Err(flush_wait(ticket).into());
        }
        if locked {
            return Ok(FaultKind::CopyOnWrite);
        }
        self.finish_copy(entry, va, protection, holds)
    }

    /// Maps the copy, which no processor can mistake any more.
    fn finish_copy(
        &mut self,
        entry: EntryRef,
        va: Va,
        protection: Protection,
        holds: &mut Holds,
    ) -> Result<FaultKind, Blocked> {
        let mut reservation = self.prepare(va, 1)?;
        let word = self.manager().load_entry(entry);
        self.resolve(Target::page(entry, va), word, protection, &mut reservation, holds)?;
        Ok(FaultKind::CopyOnWrite)
    }
}

impl<P: Platform> Manager<P> {
    /// Copies the contents of a frame. Others may be writing to the first one.
    fn copy_frame(&self, from: Pfn, to: Pfn) {
        let (from, to) = (self.platform().frame(from), self.platform().frame(to));
        for number in (0..WORDS_PER_FRAME).map(WordIndex::wrapping) {
            let value = word(from, number).load(Ordering::Relaxed);
            word(to, number).store(value, Ordering::Relaxed);
        }
    }
}
