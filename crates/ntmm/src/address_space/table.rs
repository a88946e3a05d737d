//! The table of address spaces: one word each on frames set aside at boot.
//!
//! A word holds the frame of the space's working-set list and its generation; it changes only
//! when a space is published or withdrawn, by compare-and-swap.

use ntmm_pte::Pfn;
use ntmm_sync::atomic::{AtomicU32, AtomicU64, Ordering};
use ntmm_sync::frame::{WORDS_PER_FRAME, WordIndex, word};

use crate::manager::Manager;
use crate::platform::Platform;

/// Names an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressSpaceId {
    index: u32,
    generation: u32,
}

impl AddressSpaceId {
    /// A small number unique among the spaces that exist at one time.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.index
    }

    /// An id that may or may not name a space, for tests of bad input.
    #[must_use]
    pub const fn forged(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }
}

const LIVE: u64 = 1 << 63;
const CLAIMED: u64 = 1 << 62;
const GENERATIONS: u32 = (1 << 30) - 1;

const fn generation_of(word: u64) -> u32 {
    (word >> 32) as u32 & GENERATIONS
}

/// Where the table lies.
#[derive(Debug)]
pub(crate) struct SpaceTable {
    first: Pfn,
    frames: u32,
    /// No index at or above this has ever been used. Tag A.
    high: AtomicU32,
}

impl SpaceTable {
    /// A table on `frames` zeroed frames from `first`.
    pub(crate) fn new(first: Pfn, frames: u32) -> Self {
        Self { first, frames, high: AtomicU32::new(0) }
    }

    const fn capacity(&self) -> u32 {
        self.frames * WORDS_PER_FRAME as u32
    }

    /// Indexes of live spaces lie below this.
    pub(crate) fn high(&self) -> u32 {
        self.high.load(Ordering::Acquire)
    }
}

impl<P: Platform> Manager<P> {
    fn space_word(&self, index: u32) -> &AtomicU64 {
        let frame = Pfn::new(self.spaces.first.get() + index / WORDS_PER_FRAME as u32);
        word(self.platform().frame(frame), WordIndex::wrapping(index as usize))
    }

    /// The first frame of the working-set list of a live space.
    pub(crate) fn find_space(&self, id: AddressSpaceId) -> Option<Pfn> {
        if id.index >= self.spaces.capacity() {
            return None;
        }
        let value = self.space_word(id.index).load(Ordering::Acquire);
        (value & LIVE != 0 && generation_of(value) == id.generation).then(|| Pfn::new(value as u32))
    }

    /// Claims an id for a space that is being built. None when the table is full.
    pub(super) fn claim_space(&self) -> Option<AddressSpaceId> {
        (0..self.spaces.capacity()).find_map(|index| {
            let slot = self.space_word(index);
            let old = slot.load(Ordering::Acquire);
            if old & (LIVE | CLAIMED) != 0 {
                return None;
            }
            let generation = generation_of(old).wrapping_add(1) & GENERATIONS;
            let new = CLAIMED | (u64::from(generation) << 32);
            slot.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).ok()?;
            self.spaces.high.fetch_max(index + 1, Ordering::AcqRel);
            Some(AddressSpaceId { index, generation })
        })
    }

    /// Publishes a claimed space that is complete.
    pub(super) fn publish_space(&self, id: AddressSpaceId, list: Pfn) {
        let word = LIVE | (u64::from(id.generation) << 32) | u64::from(list.get());
        self.space_word(id.index).store(word, Ordering::Release);
    }

    /// Withdraws a space or a claim; its generation stays behind.
    pub(super) fn withdraw_space(&self, id: AddressSpaceId) {
        self.space_word(id.index).store(u64::from(id.generation) << 32, Ordering::Release);
    }

    /// The live space with this index.
    pub(crate) fn space_at(&self, index: u32) -> Option<AddressSpaceId> {
        if index >= self.spaces.capacity() {
            return None;
        }
        let value = self.space_word(index).load(Ordering::Acquire);
        (value & LIVE != 0).then_some(AddressSpaceId { index, generation: generation_of(value) })
    }

    /// All live spaces by index.
    pub(crate) fn live_spaces(&self) -> impl Iterator<Item = AddressSpaceId> {
        (0..self.spaces.high()).filter_map(|index| self.space_at(index))
    }
}
