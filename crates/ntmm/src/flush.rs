//! Flush batches: frames that wait until every processor has forgotten their translation
//! (MiFlushPteList, the valid list of decommit, spec 10.6-10.7, 14.2).
//!
//! Taking a page away goes in this order: the entry is changed, the translation is flushed,
//! and only when all processors have acknowledged is the frame reused, written out or shared.
//! Between the first and the last step the frame is held by its batch: the reference that its
//! mapping had is the batch's now, so it stays in Transition however it is used meanwhile.
//!
//! The frames of a batch are in a record on the manager's fixed frames. Its life: free -> filling
//! (one owner) -> flushing (the ticket is out) -> retiring -> free; a flush that every processor
//! acknowledges at once frees the record straight away. The state word changes by
//! compare-and-swap, the rest belongs to whoever moved the state. A batch of pages that only lose
//! rights holds no frame and needs no record.

use arrayvec::ArrayVec;
use ntmm_pte::{PagingMode, Pfn, Va};
use ntmm_sync::atomic::{AtomicBool, AtomicU64, Ordering};
use ntmm_sync::level::{self, Level, Outside, Token};
use ntmm_sync::record::View;

use crate::address_space::AddressSpaceId;
use crate::manager::Manager;
use crate::operation::{Epoch, Wait, WaitKey};
use crate::platform::{Engine, EngineStep, FlushScope, FlushTicket, Platform};
use crate::virtual_memory::range::flush_wait;

/// Frames a batch can hold.
pub(crate) const BATCH_FRAMES: usize = 60;

/// Addresses a batch names; with more, everything of the space is flushed
/// (MM_MAXIMUM_FLUSH_COUNT).
pub(crate) const NAMED_PAGES: usize = 15;

const RECORD_WORDS: usize = 32;
const RECORDS_PER_FRAME: u32 = 512 / RECORD_WORDS as u32;

const FREE: u64 = 0;
const FILLING: u64 = 1;
const FLUSHING: u64 = 2;
const RETIRING: u64 = 3;

/// The batch records of a machine.
#[derive(Debug)]
pub(crate) struct FlushTable {
    first: Pfn,
    frames: u32,
    /// Wake-ups of [`WaitKey::Records`]. Tag A.
    epoch: AtomicU64,
    waiting: AtomicBool,
}

impl FlushTable {
    pub(crate) fn new(first: Pfn, frames: u32) -> Self {
        Self { first, frames, epoch: AtomicU64::new(0), waiting: AtomicBool::new(false) }
    }

    const fn records(&self) -> u32 {
        self.frames * RECORDS_PER_FRAME
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }
}

/// A batch being filled.
#[derive(Debug)]
#[must_use]
pub(crate) struct FlushBatch<'m, P: Platform> {
    manager: &'m Manager<P>,
    record: Option<u32>,
    space: AddressSpaceId,
    frames: usize,
    pages: ArrayVec<Va, NAMED_PAGES>,
    overflown: Overflow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overflow {
    No,
    Yes,
}

impl<'m, P: Platform> FlushBatch<'m, P> {
    /// A batch for pages of `space`, without a record.
    #[inline]
    pub(crate) const fn new(manager: &'m Manager<P>, space: AddressSpaceId) -> Self {
        let pages = ArrayVec::new_const();
        Self { manager, record: None, space, frames: 0, pages, overflown: Overflow::No }
    }

    /// Sees to it that there is a record for frames, before anything is changed that would need
    /// one, or says what to wait for.
    #[inline]
    pub(crate) fn take_record(&mut self) -> Result<(), Wait> {
        if self.record.is_some() || self.try_take_record() {
            return Ok(());
        }
        let wait = self.manager.record_wait();
        if self.try_take_record() { Ok(()) } else { Err(wait) }
    }

    /// Takes a record if one is free; says whether there is one.
    fn try_take_record(&mut self) -> bool {
        self.record = (0..self.manager.flush.records()).find(|&record| {
            let state = self.manager.flush_record(record).word(0);
            state.load(Ordering::Relaxed) == FREE
                && state
                    .compare_exchange(FREE, FILLING, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
        });
        self.record.is_some()
    }

    /// Whether no further frame fits.
    pub(crate) const fn is_full(&self) -> bool {
        self.frames >= BATCH_FRAMES
    }

    /// Frames that still fit.
    pub(crate) const fn room(&self) -> usize {
        BATCH_FRAMES - self.frames
    }

    /// Adds a page whose entry has just lost rights but whose frame stays mapped.
    pub(crate) fn push_page(&mut self, va: Va) {
        if self.pages.try_push(va).is_err() {
            self.overflown = Overflow::Yes;
        }
    }

    /// Adds all pages of the space.
    pub(crate) const fn push_space(&mut self) {
        self.overflown = Overflow::Yes;
    }

    /// Adds a page whose entry is no longer valid, with the reference its mapping had. The
    /// batch has a record and is not full.
    #[inline]
    pub(crate) fn push_frame(&mut self, va: Va, pfn: Pfn) {
        self.push_page(va);
        // A page table may be cached as a step on the way to the addresses below it.
        let mut at = va;
        for _ in 1..P::Paging::LEVELS {
            if !P::Paging::is_page_table_address(at) {
                break;
            }
            at = P::Paging::va_of_entry(at, ntmm_pte::Level::Table);
            self.push_page(at);
        }
        self.hold_frame(pfn);
    }

    /// Adds the copy of a page that the batch has too, with a reference made for the batch. The
    /// batch has a record and is not full.
    pub(crate) fn push_copy(&mut self, pfn: Pfn) {
        self.hold_frame(pfn);
    }

    /// Adds a frame that may still be reached by translations nobody remembers, with the
    /// reference its owner had: everything of the space is flushed. The batch has a record and is
    /// not full.
    pub(crate) fn push_unmapped_frame(&mut self, pfn: Pfn) {
        self.push_space();
        self.hold_frame(pfn);
    }

    #[inline]
    fn hold_frame(&mut self, pfn: Pfn) {
        let Some(record) = self.record else {
            self.manager.corrupt_frame(crate::frames::lists::WRONG_STATE, pfn);
        };
        let record = self.manager.flush_record(record);
        let word = record.word(2 + (self.frames / 2) as u16);
        let shift = (self.frames % 2) * 32;
        let rest = word.load(Ordering::Relaxed) & !(0xFFFF_FFFF << shift);
        word.store(rest | (u64::from(pfn.get()) << shift), Ordering::Relaxed);
        self.frames += 1;
    }

    /// Starts the flush. The frames are dropped as soon as all processors have acknowledged: here
    /// when they already have, or when there was nothing to flush; otherwise by
    /// [`Manager::step_retire`], and the ticket tells when.
    pub(crate) fn finish<L: Level + Outside<level::Frame>>(
        mut self,
        token: &mut Token<'_, L>,
    ) -> Option<FlushTicket> {
        if self.frames == 0 && self.pages.is_empty() && self.overflown == Overflow::No {
            return None;
        }
        let manager = self.manager;
        let scope = match self.overflown {
            Overflow::Yes => FlushScope::Space { space: self.space },
            Overflow::No => FlushScope::Pages { space: self.space, pages: &self.pages },
        };
        manager.counters.flushes.add(1);
        let ticket = manager.platform().flush(scope);
        let acknowledged = manager.platform().acknowledged(ticket);
        if self.frames > 0
            && let Some(index) = self.record
        {
            let record = manager.flush_record(index);
            if acknowledged {
                manager.drop_frames(token, record, self.frames);
            } else {
                record.word(1).store(ticket.get(), Ordering::Relaxed);
                record.word(0).store(FLUSHING | ((self.frames as u64) << 8), Ordering::Release);
                // The record is no longer this value's to free.
                self.record = None;
                manager.platform().request(Engine::Retire);
            }
        }
        (!acknowledged).then_some(ticket)
    }
}

impl<P: Platform> Drop for FlushBatch<'_, P> {
    /// A batch that holds nothing only has its record to give back. One that holds frames is
    /// always finished; if it were not, its frames would stay in Transition, which the auditors
    /// report.
    #[inline]
    fn drop(&mut self) {
        if let Some(record) = self.record {
            self.manager.flush_record(record).word(0).store(FREE, Ordering::Release);
            self.manager.wake_record_waiters();
        }
    }
}

impl<P: Platform> Manager<P> {
    fn flush_record(&self, index: u32) -> View<'_, RECORD_WORDS> {
        let frame = Pfn::new(self.flush.first.get() + index / RECORDS_PER_FRAME);
        View::new(self.platform().frame(frame), index as usize)
    }

    /// Opens a batch with a record for pages of `space`; none when all records are in use.
    pub(crate) fn try_begin_flush(&self, space: AddressSpaceId) -> Option<FlushBatch<'_, P>> {
        let mut batch = FlushBatch::new(self, space);
        batch.try_take_record().then_some(batch)
    }

    /// Opens a batch with a record or says what to wait for.
    pub(crate) fn begin_flush(&self, space: AddressSpaceId) -> Result<FlushBatch<'_, P>, Wait> {
        let mut batch = FlushBatch::new(self, space);
        batch.take_record()?;
        Ok(batch)
    }

    /// Announces that somebody waits for a record; look once more before waiting.
    pub(crate) fn record_wait(&self) -> Wait {
        let epoch = self.flush.epoch();
        self.flush.waiting.store(true, Ordering::SeqCst);
        self.platform().request(Engine::Retire);
        Wait { key: WaitKey::Records, epoch }
    }

    pub(crate) fn wake_record_waiters(&self) {
        if self.flush.waiting.load(Ordering::SeqCst)
            && self.flush.waiting.swap(false, Ordering::SeqCst)
        {
            self.flush.epoch.fetch_add(1, Ordering::AcqRel);
            self.platform().wake(WaitKey::Records);
        }
    }

    /// Drops the frames of a batch whose flush is acknowledged; says whether it was one.
    fn retire_record<L: Level + Outside<level::Frame>>(
        &self,
        token: &mut Token<'_, L>,
        index: u32,
    ) -> Option<()> {
        let record = self.flush_record(index);
        let state = record.word(0).load(Ordering::Acquire);
        let ticket = FlushTicket::new(record.word(1).load(Ordering::Relaxed));
        if state & 0xFF != FLUSHING || !self.platform().acknowledged(ticket) {
            return None;
        }
        record
            .word(0)
            .compare_exchange(state, RETIRING, Ordering::AcqRel, Ordering::Relaxed)
            .ok()?;
        self.drop_frames(token, record, (state >> 8) as usize);
        record.word(0).store(FREE, Ordering::Release);
        self.wake_record_waiters();
        Some(())
    }

    /// Drops the references that a record has on its first `count` frames.
    #[inline]
    fn drop_frames<L: Level + Outside<level::Frame>>(
        &self,
        token: &mut Token<'_, L>,
        record: View<'_, RECORD_WORDS>,
        count: usize,
    ) {
        for number in 0..count {
            let word = record.word(2 + (number / 2) as u16).load(Ordering::Relaxed);
            let pfn = Pfn::new((word >> ((number % 2) * 32)) as u32);
            let mut frame = self.lock_frame(token, pfn);
            self.drop_reference(&mut frame);
        }
    }

    /// The retire engine: drops the frames of every batch that all processors have
    /// acknowledged. The host requests it again whenever a flush becomes acknowledged.
    pub(crate) fn step_retire<L: Level + Outside<level::Frame>>(
        &self,
        token: &mut Token<'_, L>,
    ) -> EngineStep {
        let mut outcome = EngineStep::Idle;
        for index in 0..self.flush.records() {
            if self.retire_record(token, index).is_some() {
                outcome = EngineStep::Worked;
            }
        }
        outcome
    }

    /// What to wait for before the frame, which a flush batch may hold, may be reached; nothing
    /// when every processor has acknowledged its flush.
    pub(crate) fn flush_that_holds(&self, pfn: Pfn) -> Option<Wait> {
        (0..self.flush.records()).find_map(|index| {
            let record = self.flush_record(index);
            let state = record.word(0).load(Ordering::Acquire);
            let ticket = FlushTicket::new(record.word(1).load(Ordering::Relaxed));
            let holds = state & 0xFF == FLUSHING
                && (0..(state >> 8) as usize).any(|number| {
                    let word = record.word(2 + (number / 2) as u16).load(Ordering::Relaxed);
                    (word >> ((number % 2) * 32)) as u32 == pfn.get()
                });
            (holds && !self.platform().acknowledged(ticket)).then(|| flush_wait(ticket))
        })
    }

    /// Calls `visit` with each frame a batch holds a reference on. For auditors.
    pub(crate) fn for_each_flushing_frame(&self, mut visit: impl FnMut(Pfn)) {
        for index in 0..self.flush.records() {
            let record = self.flush_record(index);
            let state = record.word(0).load(Ordering::Acquire);
            if state & 0xFF == FLUSHING {
                for number in 0..(state >> 8) as usize {
                    let word = record.word(2 + (number / 2) as u16).load(Ordering::Relaxed);
                    visit(Pfn::new((word >> ((number % 2) * 32)) as u32));
                }
            }
        }
    }
}
