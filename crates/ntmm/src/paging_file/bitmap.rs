//! The allocation bitmap of a paging file: a set bit is a slot in use (RTL_BITMAP in
//! MMPAGING_FILE).
//!
//! The bits lie on frames named by a directory frame: 1024 frames of 32768 bits, enough for
//! 128 GiB. All of it belongs to the file's lock.

use ntmm_pte::Pfn;
use ntmm_sync::atomic::Ordering;
use ntmm_sync::frame::{Half, WordIndex, word};

use crate::platform::Ram;

/// Slots a frame of bits describes.
pub const SLOTS_PER_FRAME: u32 = 4096 * 8;

/// Slots a directory describes at most.
pub const SLOTS_LIMIT: u32 = 1024 * SLOTS_PER_FRAME;

/// A run of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRun {
    /// First slot.
    pub start: u32,
    /// Number of slots.
    pub count: u32,
}

/// The bits, over the memory they lie in.
#[derive(Debug)]
pub(crate) struct Bitmap<'a, R: Ram> {
    ram: &'a R,
    directory: Pfn,
    slots: u32,
}

impl<'a, R: Ram> Bitmap<'a, R> {
    /// The bitmap of the first `slots` slots, whose frames `directory` names.
    pub(crate) const fn new(ram: &'a R, directory: Pfn, slots: u32) -> Self {
        Self { ram, directory, slots }
    }

    /// Frames of bits needed for `slots` slots.
    pub(crate) const fn frames_for(slots: u32) -> u32 {
        slots.div_ceil(SLOTS_PER_FRAME)
    }

    /// Names the frame that holds part `number` of the bits.
    pub(crate) fn set_frame(&self, number: u32, pfn: Pfn) {
        let pair = word(self.ram.frame(self.directory), WordIndex::wrapping(number as usize / 2));
        half(number).swap(pair, pfn.get());
    }

    fn frame(&self, number: u32) -> Pfn {
        let pair = word(self.ram.frame(self.directory), WordIndex::wrapping(number as usize / 2));
        Pfn::new(half(number).of(pair.load(Ordering::Relaxed)))
    }

    fn bits(&self, slot: u32) -> &'a ntmm_sync::atomic::AtomicU64 {
        let frame = self.ram.frame(self.frame(slot / SLOTS_PER_FRAME));
        word(frame, WordIndex::wrapping((slot % SLOTS_PER_FRAME) as usize / 64))
    }

    /// Whether `slot` is in use. Slots beyond the end count as used.
    pub(crate) fn is_used(&self, slot: u32) -> bool {
        slot >= self.slots || self.bits(slot).load(Ordering::Relaxed) >> (slot % 64) & 1 == 1
    }

    /// The bits, 64 slots at a time, the lowest first. Those beyond the end are clear.
    pub(crate) fn words(&self) -> impl Iterator<Item = u64> + use<'a, R> {
        let bitmap = Self { ..*self };
        (0..self.slots).step_by(64).map(move |slot| bitmap.bits(slot).load(Ordering::Relaxed))
    }

    /// Marks every slot of a run.
    pub(crate) fn mark(&self, run: SlotRun, used: Mark) {
        for slot in run.start..run.start + run.count {
            let bits = self.bits(slot);
            let bit = 1 << (slot % 64);
            let old = bits.load(Ordering::Relaxed);
            let new = match used {
                Mark::Used => old | bit,
                Mark::Free => old & !bit,
            };
            bits.store(new, Ordering::Relaxed);
        }
    }

    /// The first free run of `count` slots at or behind `from`, otherwise the longest one of at
    /// most `count` slots that one pass over the file, wrapping once, comes across.
    pub(crate) fn find(&self, from: u32, count: u32) -> Option<SlotRun> {
        let from = if from < self.slots { from } else { 0 };
        let behind = self.find_in(from, self.slots, count);
        if behind.is_some_and(|run| run.count == count) {
            return behind;
        }
        let before = self.find_in(0, from, count);
        match (behind, before) {
            (Some(behind), Some(before)) => {
                Some(if before.count > behind.count { before } else { behind })
            }
            (one, None) | (None, one) => one,
        }
    }

    fn find_in(&self, start: u32, end: u32, count: u32) -> Option<SlotRun> {
        let mut best: Option<SlotRun> = None;
        let mut run = SlotRun { start, count: 0 };
        let mut slot = start;
        while slot < end {
            if slot.is_multiple_of(64) && self.bits(slot).load(Ordering::Relaxed) == u64::MAX {
                slot += 64;
                run = SlotRun { start: slot, count: 0 };
                continue;
            }
            if self.is_used(slot) {
                run = SlotRun { start: slot + 1, count: 0 };
            } else {
                run.count += 1;
                if best.is_none_or(|best| run.count > best.count) {
                    best = Some(run);
                }
                if run.count == count {
                    return Some(run);
                }
            }
            slot += 1;
        }
        best
    }

    /// Slots in use.
    pub(crate) fn used(&self) -> u32 {
        self.words().map(u64::count_ones).sum()
    }
}

/// What a slot becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Used,
    Free,
}

const fn half(number: u32) -> Half {
    if number.is_multiple_of(2) { Half::Low } else { Half::High }
}
