//! The end of large pages: when they are freed, with their space, or because not all of them could
//! be had.
//!
//! First all of them are unmapped and everything of the space is flushed; then, and only then,
//! their frames are free; at last the entries go, with the tables that are empty then, and the
//! descriptor. All of this is done anew if it was begun before and given up: what was unmapped then
//! may never have been flushed.

use ntmm_pte::{Level, Pages, PagingMode, Pfn, PteWord, Va, Vpn};

use super::STRETCH;
use crate::fault::Blocked;
use crate::flush::FlushBatch;
use crate::frames::entry::FrameFlags;
use crate::frames::{FrameGuard, FrameUse};
use crate::manager::Manager;
use crate::platform::{FlushScope, Platform};
use crate::tables::EntryRef;
use crate::vad::Vad;
use crate::virtual_memory::range::Pending;
use crate::working_set::WorkingSetGuard;

/// Room in a flush batch that the tables above one large page may need.
const BATCH_ROOM: usize = 4;

/// Releases an allocation of large pages.
#[derive(Debug)]
pub(crate) struct ReleaseLargePages {
    vad: Vad,
    stage: Stage,
}

/// What is being done, from this page on.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Unmapping(Vpn),
    /// And of its large page from this frame on.
    Freeing(Vpn, u32),
    Clearing(Vpn),
    Done,
}

impl ReleaseLargePages {
    /// Releases the pages of `vad`.
    pub(crate) const fn new(vad: Vad) -> Self {
        Self { vad, stage: Stage::Unmapping(vad.start) }
    }

    /// Releases the pages of `vad`, none of which was ever mapped.
    pub(crate) const fn unreached(vad: Vad) -> Self {
        Self { vad, stage: Stage::Freeing(vad.start, 0) }
    }

    /// Goes on for a stretch; fine when that was the last. The caller owns address creation.
    pub(crate) fn advance<P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        pending: &mut Pending,
    ) -> Result<(), Blocked> {
        match self.stage {
            Stage::Unmapping(page) => self.unmap(set, pending, page),
            Stage::Freeing(page, number) => Err(self.free(set, page, number)),
            Stage::Clearing(page) => self.clear(set, pending, page),
            Stage::Done => Ok(()),
        }
    }

    /// Whether frames are being freed. That needs nothing to be waited for.
    pub(super) const fn is_freeing(&self) -> bool {
        matches!(self.stage, Stage::Freeing(..))
    }

    /// The first page of the large page after that of `page`; none behind the last.
    fn after<M: PagingMode>(&self, page: Vpn) -> Option<Vpn> {
        page.checked_add(M::LARGE_PAGE).filter(|&next| next <= self.vad.end)
    }

    fn unmap<P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        pending: &mut Pending,
        mut page: Vpn,
    ) -> Result<(), Blocked> {
        for _ in 0..STRETCH {
            set.unmap_large(P::Paging::va_of_vpn(page));
            match self.after::<P::Paging>(page) {
                Some(next) => page = next,
                None => {
                    self.stage = Stage::Freeing(self.vad.start, 0);
                    let manager = set.manager();
                    manager.counters.flushes.add(1);
                    let scope = FlushScope::Space { space: set.space() };
                    let ticket = manager.platform().flush(scope);
                    if manager.platform().acknowledged(ticket) {
                        return Err(Blocked::Restart);
                    }
                    return Err(pending.await_flush(ticket).into());
                }
            }
        }
        self.stage = Stage::Unmapping(page);
        Err(Blocked::Restart)
    }

    /// Frees some frames, and says how to go on: with each large page the call returns to its
    /// caller, who may give it up.
    fn free<P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        first: Vpn,
        mut number: u32,
    ) -> Blocked {
        let mut page = first;
        let length = P::Paging::ENTRIES as u32;
        let mut left = STRETCH;
        while left > 0 {
            let held = set.large_entry(P::Paging::va_of_vpn(page));
            let end = match held {
                Some((entry, word)) => {
                    let first = P::Paging::transition_pfn(word);
                    let end = length.min(number + left);
                    (number..end).for_each(|number| {
                        set.free_frame_of(entry, Pfn::new(first.get() + number));
                    });
                    end
                }
                None => length,
            };
            left = left.saturating_sub((end - number).clamp(1, left));
            number = end;
            if number >= length {
                number = 0;
                match self.after::<P::Paging>(page) {
                    Some(next) => page = next,
                    None => {
                        self.stage = Stage::Clearing(self.vad.start);
                        return Blocked::Restart;
                    }
                }
            }
        }
        self.stage = Stage::Freeing(page, number);
        if page > first { set.wait_for_nothing().into() } else { Blocked::Restart }
    }

    fn clear<P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        pending: &mut Pending,
        mut page: Vpn,
    ) -> Result<(), Blocked> {
        let mut batch = FlushBatch::new(set.manager(), set.space());
        let mut left = STRETCH;
        while left > 0 && batch.room() >= BATCH_ROOM {
            set.clear_large(&mut batch, P::Paging::va_of_vpn(page))?;
            left -= 1;
            self.stage = match self.after::<P::Paging>(page) {
                Some(next) => Stage::Clearing(next),
                None => {
                    set.release_descriptor(self.vad);
                    Stage::Done
                }
            };
            let Stage::Clearing(next) = self.stage else { break };
            page = next;
        }
        match batch.finish(set.token()) {
            Some(ticket) => Err(pending.await_flush(ticket).into()),
            None if matches!(self.stage, Stage::Done) => Ok(()),
            None => Err(Blocked::Restart),
        }
    }
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Unmaps the large page at `va`, if it is mapped. Its frames stay its own.
    fn unmap_large(&mut self, va: Va) {
        let manager = self.manager();
        let Some((entry, word)) = self.large_entry(va) else { return };
        if P::Paging::is_valid(word) {
            let first =
                P::Paging::frame_in_large_page(word, P::Paging::span_base(va, Level::Directory));
            manager.swap_entry(entry, P::Paging::unmapped_large(first));
            self.count_private(Pages::ZERO, P::Paging::LARGE_PAGE);
        }
    }

    /// Frees a frame of the run that an unmapped entry names, if it is kept for that entry.
    fn free_frame_of(&mut self, entry: EntryRef, pfn: Pfn) {
        let manager = self.manager();
        if !manager.frame_exists(pfn) {
            return;
        }
        // Under the lock, for a frame that was freed names its old container until it is taken
        // again: its use and its container belong together only here.
        let mut frame = manager.lock_frame(self.token(), pfn);
        let (table, slot) = frame.entry().container();
        if frame.state().usage() == FrameUse::LargePage && entry == (EntryRef { table, slot }) {
            manager.free_large(&mut frame);
        }
    }

    /// Frees a frame of a large page that no processor can reach.
    pub(super) fn free_large_frame(&mut self, pfn: Pfn) {
        let manager = self.manager();
        manager.free_large(&mut manager.lock_frame(self.token(), pfn));
    }

    /// Clears the unmapped entry of a large page without frames, and deletes the tables that are
    /// empty then. The batch gets a record before anything is changed, if there are any.
    fn clear_large(&mut self, batch: &mut FlushBatch<'_, P>, va: Va) -> Result<(), Blocked> {
        let manager = self.manager();
        let Some((entry, word)) = self.large_entry(va) else { return Ok(()) };
        let table = manager.entry(entry.table);
        if Level::Directory < P::Paging::SELF_MAP_LEVEL && table.used_entries() == 1 {
            batch.take_record()?;
        }
        manager.store_software(entry, word, 0);
        table.drop_share();
        self.delete_empty_tables(batch, va, (entry, Level::Directory))
    }
}

impl<P: Platform> Manager<P> {
    /// Frees a frame of a large page that no processor can reach.
    fn free_large(&self, frame: &mut FrameGuard<'_, '_, P>) {
        frame.entry().set_u1_and_share(0, 0);
        frame.entry().set_original(0);
        frame.insert(FrameFlags::DELETED);
        self.drop_reference(frame);
    }
}
