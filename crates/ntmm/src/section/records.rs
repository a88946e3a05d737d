//! Tables of the records that sections consist of: control areas, subsections, section objects.
//!
//! NT takes these from pool. Here each kind has a table of its own that grows by a frame at a
//! time and never shrinks: a directory frame names the frames of the table, and a record is found
//! by its number. Free records are chained through the low half of their first word, whose
//! highest bit says that a record is in use.
//!
//! A table grows, and records are taken and given back, under the lock of the sections. Where a
//! record lies never changes, so whoever knows that a record stays in use needs no lock to find
//! it.

use ntmm_pte::{Pages, Pfn};
use ntmm_sync::atomic::{AtomicU32, Ordering};
use ntmm_sync::frame::{WORDS_PER_FRAME, WordIndex, word};
use ntmm_sync::record::View;

use super::SectionGuard;
use crate::frames::FrameUse;
use crate::frames::entry::NO_FRAME;
use crate::frames::take::Want;
use crate::manager::Manager;
use crate::operation::Pause;
use crate::platform::Platform;
use crate::status::NtStatus;

/// No record: the end of a chain.
pub(crate) const NO_RECORD: u32 = u32::MAX;

/// Set in the first word of a record in use.
pub(crate) const IN_USE: u64 = 1 << 63;

/// A table of records of `WORDS` words.
#[derive(Debug)]
pub(crate) struct Records<const WORDS: usize> {
    directory: AtomicU32,
    /// Frames of the table.
    frames: AtomicU32,
    first_free: AtomicU32,
}

impl<const WORDS: usize> Records<WORDS> {
    const PER_FRAME: u32 = (WORDS_PER_FRAME / WORDS) as u32;

    /// An empty table, which takes no memory.
    pub(super) fn new() -> Self {
        Self {
            directory: AtomicU32::new(NO_FRAME),
            frames: AtomicU32::new(0),
            first_free: AtomicU32::new(NO_RECORD),
        }
    }

    /// Numbers of records that exist, in use or free, lie below this.
    pub(crate) fn len(&self) -> u32 {
        self.frames.load(Ordering::Acquire) * Self::PER_FRAME
    }

    /// The first of the free records.
    pub(crate) fn first_free(&self) -> u32 {
        self.first_free.load(Ordering::Acquire)
    }

    fn directory(&self) -> Option<Pfn> {
        let frame = self.directory.load(Ordering::Acquire);
        (frame != NO_FRAME).then(|| Pfn::new(frame))
    }
}

impl<P: Platform> Manager<P> {
    /// The record `index` of a table, which exists.
    pub(crate) fn record<const WORDS: usize>(
        &self,
        table: &Records<WORDS>,
        index: u32,
    ) -> View<'_, WORDS> {
        let directory = Pfn::new(table.directory.load(Ordering::Acquire));
        let place = WordIndex::wrapping((index / Records::<WORDS>::PER_FRAME) as usize);
        let frame = word(self.platform().frame(directory), place).load(Ordering::Acquire);
        View::new(self.platform().frame(Pfn::new(frame as u32)), index as usize)
    }

    /// Calls `visit` with each frame of a table, its directory included.
    pub(crate) fn for_each_record_frame<const WORDS: usize>(
        &self,
        table: &Records<WORDS>,
        mut visit: impl FnMut(Pfn),
    ) {
        let Some(directory) = table.directory() else { return };
        visit(directory);
        for place in 0..table.frames.load(Ordering::Acquire) {
            let place = WordIndex::wrapping(place as usize);
            let frame = word(self.platform().frame(directory), place).load(Ordering::Acquire);
            visit(Pfn::new(frame as u32));
        }
    }
}

impl<P: Platform> SectionGuard<'_, '_, P> {
    /// Takes a record, all of whose words are zero but for the mark of being in use.
    pub(super) fn take_record<const WORDS: usize>(
        &mut self,
        table: &Records<WORDS>,
    ) -> Result<u32, Pause> {
        if table.first_free.load(Ordering::Relaxed) == NO_RECORD {
            self.grow(table)?;
        }
        let index = table.first_free.load(Ordering::Relaxed);
        let record = self.manager().record(table, index);
        let next = record.word(0).load(Ordering::Relaxed) as u32;
        table.first_free.store(next, Ordering::Relaxed);
        for number in 1..WORDS as u16 {
            record.word(number).store(0, Ordering::Relaxed);
        }
        record.word(0).store(IN_USE, Ordering::Release);
        Ok(index)
    }

    /// Gives a record back.
    pub(super) fn give_record<const WORDS: usize>(&mut self, table: &Records<WORDS>, index: u32) {
        let next = table.first_free.swap(index, Ordering::Relaxed);
        let record = self.manager().record(table, index);
        record.word(0).store(u64::from(next), Ordering::Release);
    }

    /// Makes a table a frame longer.
    fn grow<const WORDS: usize>(&mut self, table: &Records<WORDS>) -> Result<(), Pause> {
        let frames = table.frames.load(Ordering::Relaxed);
        if frames as usize == WORDS_PER_FRAME {
            return Err(NtStatus::INSUFFICIENT_RESOURCES.into());
        }
        let manager = self.manager();
        let wanted = if table.directory().is_none() { 2 } else { 1 };
        let charge = manager.charge_commitment(Pages::new(wanted))?;
        let mut reservation = manager.reserve_pages(wanted as u32)?;
        manager.sections.commit.fetch_add(charge.keep().get(), Ordering::AcqRel);
        let mut take = || {
            let color = manager.colors.wrapping(frames);
            let usage = FrameUse::SectionRecords;
            let mut frame =
                manager.take_frame(self.token(), &mut reservation, color, Want::Zeroed, usage);
            frame.add_mapping();
            frame.pfn()
        };
        let directory = match table.directory() {
            Some(directory) => directory,
            None => take(),
        };
        let frame = take();
        let place = WordIndex::wrapping(frames as usize);
        word(manager.platform().frame(directory), place)
            .store(u64::from(frame.get()), Ordering::Release);
        table.directory.store(directory.get(), Ordering::Release);
        table.frames.store(frames + 1, Ordering::Release);
        for number in (0..Records::<WORDS>::PER_FRAME).rev() {
            self.give_record(table, frames * Records::<WORDS>::PER_FRAME + number);
        }
        Ok(())
    }
}
