//! The table of address spaces: a word each on frames set aside at boot.
//!
//! A space's word holds the frame of its working-set list, its generation, and its working-set
//! lock. So the lock is taken and the space is found by the same compare-and-swap: a space that
//! is withdrawn, whose frames may be anybody's by then, cannot be locked. The words lie a cache
//! line apart.
//!
//! | Bits | Field | Tag |
//! |---|---|---|
//! | 0-31 | first frame of the working-set list | the lock |
//! | 32-60 | generation | A, when a place is claimed |
//! | 61 | working-set lock | A |
//! | 62 | claimed: the space is being built | A |
//! | 63 | live | the lock |

use ntmm_pte::Pfn;
use ntmm_sync::atomic::{AtomicU32, AtomicU64, Ordering};
use ntmm_sync::frame::{WORDS_PER_FRAME, WordIndex, word};
use ntmm_sync::lock::BitLock;

use crate::manager::Manager;
use crate::platform::Platform;

/// Names an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressSpaceId {
    index: u32,
    generation: u32,
}

impl AddressSpaceId {
    /// What the word of this space holds when there is no such space any more.
    pub(crate) const fn withdrawn(self) -> u64 {
        (self.generation as u64) << 32
    }

    /// A word that [`from_word`](Self::from_word) turns back into the id; neither 0 nor 1.
    pub(crate) const fn to_word(self) -> u64 {
        LIVE | ((self.generation as u64) << 32) | self.index as u64
    }

    /// The id in a word of [`to_word`](Self::to_word); none in any other.
    pub(crate) const fn from_word(word: u64) -> Option<Self> {
        if word & LIVE == 0 {
            return None;
        }
        Some(Self { index: word as u32, generation: generation_of(word) })
    }

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
const GENERATIONS: u32 = (1 << 29) - 1;

/// The working-set lock of a space.
pub(crate) const LOCK: BitLock = BitLock::new(61);

/// Words from one space's to the next.
const STRIDE: u32 = 8;

/// Places in one frame.
const PLACES_PER_FRAME: u32 = WORDS_PER_FRAME as u32 / STRIDE;

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
        self.frames * PLACES_PER_FRAME
    }

    /// Indexes of live spaces lie below this.
    pub(crate) fn high(&self) -> u32 {
        self.high.load(Ordering::Acquire)
    }
}

impl<P: Platform> Manager<P> {
    fn space_word(&self, index: u32) -> &AtomicU64 {
        let frame = Pfn::new(self.spaces.first.get() + index / PLACES_PER_FRAME);
        let number = index % PLACES_PER_FRAME * STRIDE;
        word(self.platform().frame(frame), WordIndex::wrapping(number as usize))
    }

    /// The word of a space, if the id can be one's, with what it would hold unlocked if the
    /// space is live. For taking its lock.
    pub(crate) fn live_space_word(&self, id: AddressSpaceId) -> Option<(&AtomicU64, u64)> {
        if id.index >= self.spaces.capacity() {
            return None;
        }
        let slot = self.space_word(id.index);
        let value = slot.load(Ordering::Acquire) & !LOCK.mask();
        (value & LIVE != 0 && generation_of(value) == id.generation).then_some((slot, value))
    }

    /// The first frame of the working-set list of a live space.
    pub(crate) fn find_space(&self, id: AddressSpaceId) -> Option<Pfn> {
        self.live_space_word(id).map(|(_, value)| Pfn::new(value as u32))
    }

    /// Whether the lock of a live space is held.
    pub(crate) fn space_is_locked(&self, id: AddressSpaceId) -> bool {
        self.live_space_word(id).is_some_and(|(slot, _)| LOCK.is_held(slot))
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

    /// Publishes a claimed space with its lock held: by the caller, from now on. Returns its
    /// word and what that holds when the lock is released.
    pub(super) fn publish_space(&self, id: AddressSpaceId, list: Pfn) -> (&AtomicU64, u64) {
        let value = LIVE | (u64::from(id.generation) << 32) | u64::from(list.get());
        let slot = self.space_word(id.index);
        slot.store(value | LOCK.mask(), Ordering::Release);
        (slot, value)
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
