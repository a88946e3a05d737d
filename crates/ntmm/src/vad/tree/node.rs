//! A node of the tree: one frame of sorted columns.
//!
//! ```text
//! word   0        8            8+C          8+2C
//!        header | start, slot | end      | rest of the node           |
//! leaf   C = 63                           63 records of 6 words
//! inner  C = 126                          gap column   | child column
//! ```
//!
//! Row `i` of the columns describes entry `i` in address order: in a leaf a descriptor, in an
//! inner node everything below one child. Starts and ends lie side by side in both kinds, so a
//! search touches a few neighbouring cache lines and never a record.
//!
//! The start column of a leaf also carries, in its low 8 bits, the slot of the entry's record.
//! The rows past the length keep the slots that are free, so the column always holds a
//! permutation of all slots, inserting a row is a rotation, and records stay where they are
//! until their leaf is split or merged. Rows past the length have a range above every page, so
//! that a search need not look at the length.

use core::marker::PhantomData;

use ntmm_pte::{Pfn, Vpn};
use ntmm_sync::atomic::{AtomicU64, Ordering};
use ntmm_sync::frame::{FrameWords, WORDS_PER_FRAME, WordIndex, word};
use ntmm_sync::record::View;

use super::record::{RECORD_WORDS, Vad, VadRecord};

/// Rows that a search counts one by one; divides the capacity of both kinds.
const BLOCK: usize = 7;

const HEADER_WORDS: usize = 8;
const SLOT_BITS: u32 = 8;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

/// Range of a row past the length: above every page, and below 2^63 in its column.
const VACANT_START: u64 = 1 << 54;
const VACANT_END: u64 = 1 << 62;

const GAP_COLUMN: usize = 2;
const CHILD_COLUMN: usize = 3;

ntmm_sync::record! {
    /// The header of a node.
    pub record NodeHeader [HEADER_WORDS] {
        /// Rows in use.
        length, set_length: u16 = 0, 0, 16;
        /// Distance from the leaves, which are at level 0.
        level, set_level: u8 = 0, 16, 8;
    }
}

/// How the frame of a node is divided.
pub(super) trait Shape: Copy {
    /// Rows a frame has room for.
    const CAPACITY: usize;
    /// Columns that move with their row.
    const COLUMNS: usize;

    /// Copies what is not a start or an end from `row` of `from` to `to_row` of `to`.
    fn copy_rest(from: Node<'_, Self>, row: usize, to: Node<'_, Self>, to_row: usize);
}

/// Shape of a leaf.
#[derive(Clone, Copy)]
pub(super) struct LeafShape;

/// Shape of an inner node.
#[derive(Clone, Copy)]
pub(super) struct InnerShape;

/// A node whose rows are descriptors.
pub(super) type Leaf<'a> = Node<'a, LeafShape>;
/// A node whose rows are nodes one level below.
pub(super) type Inner<'a> = Node<'a, InnerShape>;

const _: () = {
    let leaf = LeafShape::CAPACITY * (LeafShape::COLUMNS + RECORD_WORDS);
    let inner = InnerShape::CAPACITY * InnerShape::COLUMNS;
    assert!(HEADER_WORDS + leaf == WORDS_PER_FRAME && HEADER_WORDS + inner == WORDS_PER_FRAME);
    assert!(
        LeafShape::CAPACITY.is_multiple_of(BLOCK) && InnerShape::CAPACITY.is_multiple_of(BLOCK)
    );
    assert!(LeafShape::CAPACITY as u64 <= SLOT_MASK && LeafShape::CAPACITY <= 64);
};

/// What an inner node knows of a child: NT's trees keep nothing of the kind and walk every
/// descriptor to find a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// First page of the first descriptor below.
    pub first: u64,
    /// Last page of the last descriptor below.
    pub last: u64,
    /// Pages of the largest hole between two descriptors below.
    pub gap: u64,
}

/// A node, seen in its frame.
#[derive(Clone, Copy)]
pub(super) struct Node<'a, S> {
    words: &'a FrameWords,
    shape: PhantomData<S>,
}

impl<'a, S: Shape> Node<'a, S> {
    /// The node in the frame `words`.
    pub fn new(words: &'a FrameWords) -> Self {
        Self { words, shape: PhantomData }
    }

    pub fn header(self) -> NodeHeader<'a> {
        NodeHeader::new(self.words, 0)
    }

    /// Empties the node whatever its frame held. Each row's slot is what `slot` gives.
    fn reset(self, level: u8, slot: impl Fn(usize) -> u64) {
        let header = self.header();
        for offset in 0..HEADER_WORDS {
            header.view().word(offset as u16).store(0, Ordering::Relaxed);
        }
        header.set_level(level);
        for row in 0..S::CAPACITY {
            self.set(0, row, slot(row));
            self.vacate(row);
        }
    }

    /// Rows in use.
    pub fn len(self) -> usize {
        usize::from(self.header().length())
    }

    fn set_len(self, len: usize) {
        self.header().set_length(len as u16);
    }

    fn cell(self, column: usize, row: usize) -> &'a AtomicU64 {
        word(self.words, WordIndex::wrapping(HEADER_WORDS + column * S::CAPACITY + row))
    }

    fn get(self, column: usize, row: usize) -> u64 {
        self.cell(column, row).load(Ordering::Relaxed)
    }

    fn set(self, column: usize, row: usize, value: u64) {
        self.cell(column, row).store(value, Ordering::Relaxed);
    }

    /// First page of `row`.
    pub fn start(self, row: usize) -> u64 {
        self.get(0, row) >> SLOT_BITS
    }

    /// Last page of `row`.
    pub fn end(self, row: usize) -> u64 {
        self.get(1, row)
    }

    /// Changes the range of `row`; its slot stays.
    pub fn set_range(self, row: usize, start: u64, end: u64) {
        self.set(0, row, (start << SLOT_BITS) | (self.get(0, row) & SLOT_MASK));
        self.set(1, row, end);
    }

    /// Marks a row past the length.
    fn vacate(self, row: usize) {
        self.set_range(row, VACANT_START, VACANT_END);
    }

    /// Whether `row` is marked as one past the length.
    pub fn is_vacant(self, row: usize) -> bool {
        self.start(row) == VACANT_START && self.end(row) == VACANT_END
    }

    /// Number of leading rows whose value in `column` is below `bound`.
    ///
    /// Passes first over the blocks that lie below as a whole, of which there are none in the
    /// small tree of most address spaces, then counts the rows of the block after them. The loads
    /// of the count are independent and decide no branch, so that none waits for another or for a
    /// mispredicted branch, as the steps of a binary search would. Values and bounds are below
    /// 2^63, so the sign of their difference is the comparison; said as an addition of bits, it
    /// keeps the compiler from packing the results into vectors and out again.
    #[inline]
    fn rows_below<const COLUMN: usize>(self, bound: u64) -> usize {
        let below = |cell: &AtomicU64| cell.load(Ordering::Relaxed).wrapping_sub(bound) >> 63;
        let first = HEADER_WORDS + COLUMN * S::CAPACITY;
        let column = self.words.get(first..first + S::CAPACITY).unwrap_or_default();
        let (blocks, _) = column.as_chunks::<BLOCK>();
        let whole = blocks.iter().take_while(|[.., last]| below(last) != 0).count();
        let part = match blocks.get(whole) {
            Some(block) => block.iter().map(below).sum::<u64>() as usize,
            None => 0,
        };
        whole * BLOCK + part
    }

    /// The last row that starts at `vpn` or before.
    pub fn floor(self, vpn: u64) -> Option<usize> {
        self.rows_below::<0>((vpn + 1) << SLOT_BITS).checked_sub(1)
    }

    /// The first row that ends at `vpn` or after; the length when there is none.
    pub fn ceiling(self, vpn: u64) -> usize {
        self.rows_below::<1>(vpn)
    }

    /// Makes room at `row`. The row's cells hold what was past the length: a free slot, in a
    /// leaf. There is room for one more row.
    fn open(self, row: usize) {
        let len = self.len();
        debug_assert!(row <= len && len < S::CAPACITY);
        for column in 0..S::COLUMNS {
            let mut carried = self.get(column, len);
            for at in row..=len {
                let displaced = self.get(column, at);
                self.set(column, at, carried);
                carried = displaced;
            }
        }
        self.set_len(len + 1);
    }

    /// Removes `row`; its cells go past the length, so that its slot is free.
    pub fn close(self, row: usize) {
        let len = self.len();
        debug_assert!(row < len);
        for column in 0..S::COLUMNS {
            let removed = self.get(column, row);
            for at in row + 1..len {
                self.set(column, at - 1, self.get(column, at));
            }
            self.set(column, len - 1, removed);
        }
        self.vacate(len - 1);
        self.set_len(len - 1);
    }

    /// Moves the rows from `row` on to the end of `to`, which has room for them.
    pub fn move_rows(self, row: usize, to: Self) {
        for at in row..self.len() {
            let to_row = to.len();
            to.open(to_row);
            to.set_range(to_row, self.start(at), self.end(at));
            S::copy_rest(self, at, to, to_row);
            self.vacate(at);
        }
        self.set_len(row);
    }

    /// First and last page of the rows, which are not none.
    pub fn bounds(self) -> (u64, u64) {
        (self.start(0), self.end(self.len() - 1))
    }

    /// First and last page of the rows, which are not none, and the largest hole between two.
    fn span(self) -> Summary {
        let len = self.len();
        let mut last = self.end(0);
        let mut gap = 0;
        for row in 1..len {
            gap = gap.max(self.start(row).saturating_sub(last + 1));
            last = self.end(row);
        }
        Summary { first: self.start(0), last, gap }
    }
}

impl<'a> Leaf<'a> {
    /// Makes the frame an empty leaf.
    pub fn initialise(words: &'a FrameWords) -> Self {
        let leaf = Self::new(words);
        leaf.reset(0, |row| row as u64);
        leaf
    }

    /// The slot of the record of `row`, or the free slot kept in a row past the length.
    pub fn slot(self, row: usize) -> u64 {
        self.get(0, row) & SLOT_MASK
    }

    /// The record of `row`.
    // A slot is below the capacity, which the comparison lets the compiler see.
    #[allow(clippy::indexing_slicing)]
    pub fn record(self, row: usize) -> VadRecord<'a> {
        let (_, records) =
            self.words.split_at(WORDS_PER_FRAME - RECORD_WORDS * LeafShape::CAPACITY);
        let (records, _) = records.as_chunks::<RECORD_WORDS>();
        let slot = (self.slot(row) as usize).min(LeafShape::CAPACITY - 1);
        VadRecord::of(View::over(&records[slot]))
    }

    /// The descriptor of `row`.
    pub fn vad(self, row: usize) -> Vad {
        Vad {
            start: Vpn::new(self.start(row)),
            end: Vpn::new(self.end(row)),
            attributes: self.record(row).decode(),
        }
    }

    /// Inserts a descriptor at `row`. There is room.
    pub fn insert(self, row: usize, vad: &Vad) {
        self.open(row);
        self.set_range(row, vad.start.get(), vad.end.get());
        let record = self.record(row);
        for offset in 1..RECORD_WORDS {
            record.view().word(offset as u16).store(0, Ordering::Relaxed);
        }
        record.encode(&vad.attributes);
    }

    /// What the parent keeps of this leaf, which is not empty.
    pub fn summary(self) -> Summary {
        self.span()
    }
}

impl<'a> Inner<'a> {
    /// Makes the frame an empty inner node of `level`.
    pub fn initialise(words: &'a FrameWords, level: u8) -> Self {
        let inner = Self::new(words);
        inner.reset(level, |_| 0);
        inner
    }

    /// The node below `row`.
    pub fn child(self, row: usize) -> Pfn {
        Pfn::new(self.get(CHILD_COLUMN, row) as u32)
    }

    /// The largest hole below `row`, in pages.
    pub fn gap(self, row: usize) -> u64 {
        self.get(GAP_COLUMN, row)
    }

    /// What is known of the child at `row`.
    pub fn child_summary(self, row: usize) -> Summary {
        Summary { first: self.start(row), last: self.end(row), gap: self.gap(row) }
    }

    /// Records what is known of the child at `row`.
    pub fn set_child_summary(self, row: usize, summary: Summary) {
        self.set_range(row, summary.first, summary.last);
        self.set(GAP_COLUMN, row, summary.gap);
    }

    /// Inserts a child at `row`. There is room.
    pub fn insert(self, row: usize, child: Pfn, summary: Summary) {
        self.open(row);
        self.set(CHILD_COLUMN, row, u64::from(child.get()));
        self.set_child_summary(row, summary);
    }

    /// What the parent keeps of this node, which is not empty.
    pub fn summary(self) -> Summary {
        let span = self.span();
        let below = (0..self.len()).map(|row| self.gap(row)).max().unwrap_or(0);
        Summary { gap: span.gap.max(below), ..span }
    }
}

impl Shape for LeafShape {
    const CAPACITY: usize = 63;
    const COLUMNS: usize = 2;

    fn copy_rest(from: Leaf<'_>, row: usize, to: Leaf<'_>, to_row: usize) {
        let (source, target) = (from.record(row).view(), to.record(to_row).view());
        for offset in 0..RECORD_WORDS {
            let value = source.word(offset as u16).load(Ordering::Relaxed);
            target.word(offset as u16).store(value, Ordering::Relaxed);
        }
    }
}

impl Shape for InnerShape {
    const CAPACITY: usize = 126;
    const COLUMNS: usize = 4;

    fn copy_rest(from: Inner<'_>, row: usize, to: Inner<'_>, to_row: usize) {
        for column in [GAP_COLUMN, CHILD_COLUMN] {
            to.set(column, to_row, from.get(column, row));
        }
    }
}
