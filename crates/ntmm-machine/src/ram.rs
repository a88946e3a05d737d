//! Physical memory: frames of 512 atomic words, in one or more ranges with holes between.
//!
//! The manager sees frames as words ([`FrameWords`]); processors and devices read and write
//! bytes at any alignment. Both are views of the same words, little-endian as on x86, so a byte
//! store is visible to a page walker and the other way round.
//!
//! The whole machine runs on one thread of the host, so a byte store is a load and a store of
//! its word, not a compare-and-swap; only the walker, which may be suspended between its load
//! and its store, uses compare-and-swap.
//!
//! An auditor that looks at everything again and again may ask which frames cannot have changed
//! since it looked last: see [`Ram::begin_epoch`].
//!
//! Inside the machine a frame is named by its [`FrameSlot`], its position in the array of frames:
//! translations are cached with the slot, so that a reference needs no search of the ranges.

use std::cell::Cell;

use ntmm::platform::FrameRange;
use ntmm_pte::{Pages, Pfn};
use ntmm_sync::atomic::{AtomicU64, Ordering};
use ntmm_sync::frame::{FrameWords, WORDS_PER_FRAME};

/// Bytes in a frame.
pub const FRAME_BYTES: usize = 4096;

/// Position of a frame in the array of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameSlot(u32);

impl FrameSlot {
    /// The position, below [`Ram::frames`].
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The slot at a position that came from [`FrameSlot::index`].
    #[inline]
    pub(crate) const fn from_index(index: u32) -> Self {
        Self(index)
    }
}

#[derive(Clone, Copy, Debug)]
struct Range {
    start: u32,
    count: u32,
    slot: u32,
}

/// The machine's memory.
#[derive(Debug)]
pub struct Ram {
    ranges: Vec<Range>,
    frames: Vec<FrameWords>,
    epoch: Cell<u32>,
    /// For each frame, the last epoch in which somebody may have written to it.
    touched: Vec<Cell<u32>>,
}

impl Ram {
    /// Memory of zeroes in the given ranges of frames, which are ascending and do not overlap.
    ///
    /// # Panics
    /// When they are not, or hold more than 2^32 frames: the configuration is the host's own.
    #[must_use]
    pub fn new(memory: &[FrameRange]) -> Self {
        let mut ranges = Vec::with_capacity(memory.len());
        let mut slot = 0_u32;
        let mut free_from = 0_u64;
        for range in memory {
            let start = u64::from(range.start.get());
            assert!(start >= free_from, "memory ranges overlap or descend at frame {start:#x}");
            free_from = start + range.count.get();
            let count = u32::try_from(range.count.get()).expect("a range holds 2^32 frames");
            ranges.push(Range { start: range.start.get(), count, slot });
            slot = slot.checked_add(count).expect("memory holds 2^32 frames");
        }
        let frames = (0..slot).map(|_| [const { AtomicU64::new(0) }; WORDS_PER_FRAME]).collect();
        let touched = (0..slot).map(|_| Cell::new(0)).collect();
        Self { ranges, frames, epoch: Cell::new(0), touched }
    }

    /// Begins an epoch, in which no frame has been touched yet.
    pub fn begin_epoch(&self) {
        self.epoch.set(self.epoch.get().wrapping_add(1));
    }

    /// Whether nobody can have written to a frame in this epoch: the manager has not asked for
    /// its words, and no processor and no device has stored to it. The marks a walker leaves in
    /// entries (Accessed, Dirty) do not count.
    #[inline]
    #[must_use]
    pub fn is_untouched(&self, slot: FrameSlot) -> bool {
        self.touched[slot.index()].get() != self.epoch.get()
    }

    #[inline]
    fn touch(&self, slot: FrameSlot) {
        self.touched[slot.index()].set(self.epoch.get());
    }

    /// The words of a frame, for somebody who may write to them.
    #[inline]
    pub(crate) fn lend(&self, slot: FrameSlot) -> &FrameWords {
        self.touch(slot);
        self.words(slot)
    }

    /// Number of frames in all ranges.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = FrameRange> {
        self.ranges.iter().map(|range| FrameRange {
            start: Pfn::new(range.start),
            count: Pages::new(u64::from(range.count)),
        })
    }

    /// The slot of a frame, if there is memory there.
    #[inline]
    #[must_use]
    pub fn slot(&self, pfn: Pfn) -> Option<FrameSlot> {
        let number = pfn.get();
        self.ranges.iter().find_map(|range| {
            let offset = number.wrapping_sub(range.start);
            (offset < range.count).then(|| FrameSlot(range.slot + offset))
        })
    }

    /// The frame number of a slot.
    #[must_use]
    pub fn pfn(&self, slot: FrameSlot) -> Pfn {
        let range = self
            .ranges
            .iter()
            .rev()
            .find(|range| range.slot <= slot.0)
            .expect("slots come from ranges");
        Pfn::new(range.start + (slot.0 - range.slot))
    }

    /// The words of a frame, for somebody who only reads them.
    #[inline]
    #[must_use]
    pub fn words(&self, slot: FrameSlot) -> &FrameWords {
        &self.frames[slot.index()]
    }

    /// Fills a frame with zeroes.
    pub fn zero(&self, slot: FrameSlot) {
        for word in self.lend(slot) {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Reads `buffer.len()` bytes of a frame from byte `offset` on. They do not reach past the
    /// frame.
    #[inline]
    pub fn read(&self, slot: FrameSlot, offset: usize, buffer: &mut [u8]) {
        let words = self.words(slot);
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let word = words[at / 8].load(Ordering::Relaxed).to_le_bytes();
            let from = at % 8;
            let count = rest.len().min(8 - from);
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(&word[from..from + count]);
            at += count;
            rest = later;
        }
    }

    /// Writes `bytes` into a frame from byte `offset` on. They do not reach past the frame.
    #[inline]
    pub fn write(&self, slot: FrameSlot, offset: usize, bytes: &[u8]) {
        let words = self.lend(slot);
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let word = &words[at / 8];
            let from = at % 8;
            let count = rest.len().min(8 - from);
            let (now, later) = rest.split_at(count);
            let mut value = word.load(Ordering::Relaxed).to_le_bytes();
            value[from..from + count].copy_from_slice(now);
            word.store(u64::from_le_bytes(value), Ordering::Relaxed);
            at += count;
            rest = later;
        }
    }

    /// The `size` bytes (1 to 8) from byte `offset` on as a little-endian number. They do not
    /// reach past the frame.
    #[inline]
    #[must_use]
    pub fn load(&self, slot: FrameSlot, offset: usize, size: usize) -> u64 {
        let words = self.words(slot);
        let shift = (offset % 8) * 8;
        let low = words[offset / 8].load(Ordering::Relaxed) >> shift;
        let value = if offset % 8 + size <= 8 {
            low
        } else {
            low | words[offset / 8 + 1].load(Ordering::Relaxed) << (64 - shift)
        };
        value & (u64::MAX >> (64 - size * 8))
    }

    /// Stores the low `size` bytes (1 to 8) of `value` from byte `offset` on. They do not reach
    /// past the frame.
    #[inline]
    pub fn store(&self, slot: FrameSlot, offset: usize, size: usize, value: u64) {
        let words = self.lend(slot);
        let mask = u64::MAX >> (64 - size * 8);
        let shift = (offset % 8) * 8;
        merge(&words[offset / 8], mask << shift, (value & mask) << shift);
        if offset % 8 + size > 8 {
            let shift = 64 - shift;
            merge(&words[offset / 8 + 1], mask >> shift, (value & mask) >> shift);
        }
    }
}

#[inline]
fn merge(word: &AtomicU64, mask: u64, bits: u64) {
    word.store(word.load(Ordering::Relaxed) & !mask | bits, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: u32, count: u64) -> FrameRange {
        FrameRange { start: Pfn::new(start), count: Pages::new(count) }
    }

    #[test]
    fn frames_in_holes_do_not_exist() {
        let ram = Ram::new(&[range(1, 3), range(0x100, 2)]);
        assert_eq!(ram.frames(), 5);
        assert_eq!(ram.slot(Pfn::new(0)), None);
        assert_eq!(ram.slot(Pfn::new(4)), None);
        assert_eq!(ram.slot(Pfn::new(0x102)), None);
        for pfn in [1, 2, 3, 0x100, 0x101] {
            let slot = ram.slot(Pfn::new(pfn)).expect("inside a range");
            assert_eq!(ram.pfn(slot), Pfn::new(pfn));
        }
        assert_eq!(ram.ranges().collect::<Vec<_>>(), [range(1, 3), range(0x100, 2)]);
    }

    #[test]
    fn what_may_have_changed_a_frame_touches_it() {
        let ram = Ram::new(&[range(0, 2)]);
        let [slot, other] = [0, 1].map(|pfn| ram.slot(Pfn::new(pfn)).expect("inside"));
        let writers: [fn(&Ram, FrameSlot); 4] = [
            |ram, slot| ram.zero(slot),
            |ram, slot| ram.write(slot, 7, &[1]),
            |ram, slot| ram.store(slot, 8, 4, 2),
            |ram, slot| ram.lend(slot)[0].store(3, Ordering::Relaxed),
        ];
        for writer in writers {
            ram.begin_epoch();
            ram.read(slot, 0, &mut [0; 16]);
            let _ = ram.load(slot, 0, 8) + ram.words(slot)[0].load(Ordering::Relaxed);
            assert!(ram.is_untouched(slot));
            writer(&ram, slot);
            assert!(!ram.is_untouched(slot) && ram.is_untouched(other));
        }
    }

    proptest! {
        #[test]
        fn bytes_and_words_are_one_memory(
            writes in prop::collection::vec((0_usize..FRAME_BYTES, prop::collection::vec(any::<u8>(), 1..40)), 1..40),
        ) {
            let ram = Ram::new(&[range(7, 1)]);
            let slot = ram.slot(Pfn::new(7)).expect("inside");
            let mut model = [0_u8; FRAME_BYTES];
            for (offset, bytes) in writes {
                let bytes = &bytes[..bytes.len().min(FRAME_BYTES - offset)];
                model[offset..offset + bytes.len()].copy_from_slice(bytes);
                if bytes.len() <= 8 {
                    let mut value = [0xEE; 8];
                    value[..bytes.len()].copy_from_slice(bytes);
                    ram.store(slot, offset, bytes.len(), u64::from_le_bytes(value));
                    let mut expected = [0; 8];
                    expected[..bytes.len()].copy_from_slice(bytes);
                    prop_assert_eq!(
                        ram.load(slot, offset, bytes.len()),
                        u64::from_le_bytes(expected)
                    );
                } else {
                    ram.write(slot, offset, bytes);
                    let mut back = vec![0; bytes.len()];
                    ram.read(slot, offset, &mut back);
                    prop_assert_eq!(&back[..], bytes);
                }
            }
            for (index, word) in ram.words(slot).iter().enumerate() {
                let bytes: [u8; 8] = model[index * 8..index * 8 + 8].try_into().expect("eight");
                prop_assert_eq!(word.load(Ordering::Relaxed), u64::from_le_bytes(bytes));
            }
        }
    }
}
