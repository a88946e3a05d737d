//! The virtual address descriptors of one address space: NT's `VadRoot` tree.
//!
//! The tree is an ordered map of page ranges that do not overlap, each with its
//! [`VadAttributes`], and it finds the lowest or highest hole that fits a request
//! (spec 7.1-7.3, 7.11). Only user addresses have descriptors.
//!
//! # Shape
//!
//! A B+-tree whose nodes are whole page frames: 63 descriptors in a leaf, 126 children in an
//! inner node, so that two levels hold about five thousand descriptors and three levels half a
//! million. NT links one small pool block per descriptor into a splay tree (up to XP) or an AVL
//! tree (Server 2003). Binary nodes cost a cache miss and a mispredicted branch at every one of
//! some twelve levels, and a splay tree writes on every lookup, which readers that share a lock
//! must not do. Here a lookup makes one short search of adjacent words in each of two or three
//! frames and writes nothing, which also makes NT's `VadHint` unnecessary; a caller that wants
//! `VadFreeHint` passes it as the low limit of its [`GapRequest`].
//!
//! Beside each child an inner node keeps the exact first and last page below it and the largest
//! hole between two descriptors below it. A hole between two children shows in their ranges, so
//! nothing links one leaf to the next, and a search for a hole (`MiFindEmptyAddressRange`)
//! enters only children that have one large enough.
//!
//! # Frames
//!
//! Nodes live on frames from [`NodeFrames`]; nothing else is allocated. An insertion takes a
//! frame for every full node it must split, all of them before it changes anything, and
//! [`VadTree::frames_for_insert`] tells how many that will be. Removals give frames back: an
//! empty node goes at once, and a node down to a quarter of its room is merged with a neighbour
//! under the same parent when the two together fill at most three quarters of a node. So a thin
//! node remains only where both neighbours were too full to take it in, and a node just merged
//! is far from splitting again. Nothing is ever borrowed from a neighbour.
//!
//! # Who may read and write
//!
//! Reading needs the working-set lock of the address space, shared, or ownership of address
//! creation; writing needs both, the lock exclusive (spec 7.3). The words of a node are
//! therefore read and written relaxed: the lock orders them. The tree does no accounting: the
//! caller keeps `VirtualSize`, commitment and quota.

mod check;
mod gap;
mod insert;
mod node;
mod record;
mod remove;

#[cfg(test)]
mod tests;

use core::marker::PhantomData;

use ntmm_pte::{Pfn, Vpn};
use ntmm_sync::frame::FrameWords;

pub use check::TreeDefect;
pub use gap::GapRequest;
pub use insert::InsertError;
pub use node::NodeHeader;
pub use record::{
    Commitment, Inherit, Placeholder, ProtectionChange, Secured, Vad, VadAttributes, VadKind,
    VadRecord, View,
};
pub use remove::ResizeError;

use node::{Inner, InnerShape, Leaf, LeafShape, Node, Shape, Summary};

/// Where the nodes of a tree live.
pub trait NodeFrames {
    /// The words of the frame `pfn`, which [`allocate`](Self::allocate) gave.
    fn node(&self, pfn: Pfn) -> &FrameWords;
    /// A frame for a node, with any contents; none when memory is short.
    fn allocate(&self) -> Option<Pfn>;
    /// Takes back a frame that [`allocate`](Self::allocate) gave.
    fn free(&self, pfn: Pfn);
}

/// How many rows of a node are used: all, except in tests that want deep trees of few rows.
pub trait Fanout: sealed::Sealed {
    /// Descriptors in a leaf.
    const LEAF: usize;
    /// Children of an inner node.
    const INNER: usize;
}

mod sealed {
    /// Keeps the set of fanouts closed.
    pub trait Sealed {}
}

/// As many rows as a frame has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullFrame {}

impl sealed::Sealed for FullFrame {}

impl Fanout for FullFrame {
    const LEAF: usize = LeafShape::CAPACITY;
    const INNER: usize = InnerShape::CAPACITY;
}

/// The root of the descriptors of one address space: NT's `VadRoot` and `NumberOfVads`.
///
/// The value is small and holds no lock; it is kept as two words in the address space
/// ([`to_words`](Self::to_words)). Dropping it frees nothing.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct VadTree<F: Fanout = FullFrame> {
    root: Pfn,
    height: u8,
    nodes: u32,
    count: u64,
    fanout: PhantomData<F>,
}

const WORD_HALF: u32 = 32;
const HEIGHT_SHIFT: u32 = 56;

impl<F: Fanout> VadTree<F> {
    /// A tree without descriptors; it has no frames.
    pub const fn new() -> Self {
        Self { root: Pfn::new(0), height: 0, nodes: 0, count: 0, fanout: PhantomData }
    }

    /// The root as two words; an empty tree is two zeroes.
    #[must_use]
    pub const fn to_words(&self) -> [u64; 2] {
        [
            self.root.get() as u64 | ((self.nodes as u64) << WORD_HALF),
            self.count | ((self.height as u64) << HEIGHT_SHIFT),
        ]
    }

    /// The root kept as two words by [`to_words`](Self::to_words).
    pub const fn from_words([frames, counts]: [u64; 2]) -> Self {
        Self {
            root: Pfn::new(frames as u32),
            height: (counts >> HEIGHT_SHIFT) as u8,
            nodes: (frames >> WORD_HALF) as u32,
            count: counts & ((1 << HEIGHT_SHIFT) - 1),
            fanout: PhantomData,
        }
    }

    /// Number of descriptors: NT's `NumberOfVads`.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is no descriptor.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of frames the nodes take.
    #[must_use]
    pub const fn node_count(&self) -> u32 {
        self.nodes
    }

    /// Frame and level of the root, unless the tree is empty.
    fn root(&self) -> Option<(u8, Pfn)> {
        Some((self.height.checked_sub(1)?, self.root))
    }

    /// The leaf reached by taking, in each inner node, the row `choose` gives.
    fn leaf<'a>(
        &self,
        frames: &'a impl NodeFrames,
        choose: impl Fn(Inner<'a>) -> Option<usize>,
    ) -> Option<Leaf<'a>> {
        let (level, mut pfn) = self.root()?;
        for _ in 0..level {
            let inner = Inner::new(frames.node(pfn));
            pfn = inner.child(choose(inner)?);
        }
        Some(Leaf::new(frames.node(pfn)))
    }

    /// The leaf and row of the last descriptor that starts at `vpn` or before.
    fn floor<'a>(&self, frames: &'a impl NodeFrames, vpn: u64) -> Option<(Leaf<'a>, usize)> {
        let leaf = self.leaf(frames, |inner| inner.floor(vpn))?;
        Some((leaf, leaf.floor(vpn)?))
    }

    /// The leaf and row of the first descriptor that ends at `vpn` or after.
    fn ceiling<'a>(&self, frames: &'a impl NodeFrames, vpn: u64) -> Option<(Leaf<'a>, usize)> {
        fn row<S: Shape>(node: Node<'_, S>, vpn: u64) -> Option<usize> {
            let row = node.ceiling(vpn);
            (row < node.len()).then_some(row)
        }
        let leaf = self.leaf(frames, |inner| row(inner, vpn))?;
        Some((leaf, row(leaf, vpn)?))
    }

    /// The descriptor of the page `vpn`: NT's `MiLocateAddress`.
    #[inline]
    #[must_use]
    pub fn find(&self, frames: &impl NodeFrames, vpn: Vpn) -> Option<Vad> {
        let (leaf, row) = self.floor(frames, vpn.get())?;
        (leaf.end(row) >= vpn.get()).then(|| leaf.vad(row))
    }

    /// The first descriptor with a page in `start..=end`: NT's `MiCheckForConflictingVad`.
    #[must_use]
    pub fn first_overlap(&self, frames: &impl NodeFrames, start: Vpn, end: Vpn) -> Option<Vad> {
        let (leaf, row) = self.ceiling(frames, start.get())?;
        (leaf.start(row) <= end.get()).then(|| leaf.vad(row))
    }

    /// The first descriptor that starts at `vpn` or after: NT's `MiGetNextVad`.
    #[must_use]
    pub fn next_at_or_after(&self, frames: &impl NodeFrames, vpn: Vpn) -> Option<Vad> {
        let (mut leaf, mut row) = self.ceiling(frames, vpn.get())?;
        if leaf.start(row) < vpn.get() {
            (leaf, row) = self.ceiling(frames, leaf.end(row) + 1)?;
        }
        Some(leaf.vad(row))
    }

    /// The end of the last descriptor before `start` and the start of the first one after `end`.
    /// There is none between the two.
    #[must_use]
    pub fn neighbours(
        &self,
        frames: &impl NodeFrames,
        start: Vpn,
        end: Vpn,
    ) -> (Option<Vpn>, Option<Vpn>) {
        let before = start.get().checked_sub(1).and_then(|last| self.floor(frames, last));
        let after = match before {
            Some((leaf, row)) if row + 1 < leaf.len() => Some((leaf, row + 1)),
            Some(_) if self.height == 1 => None,
            // The next one, if any, is in another leaf or the first of all.
            _ => self.ceiling(frames, end.get() + 1),
        };
        (
            before.map(|(leaf, row)| Vpn::new(leaf.end(row))),
            after.map(|(leaf, row)| Vpn::new(leaf.start(row))),
        )
    }

    /// The last descriptor that starts before `vpn`: NT's `MiGetPreviousVad`.
    #[must_use]
    pub fn previous_before(&self, frames: &impl NodeFrames, vpn: Vpn) -> Option<Vad> {
        let (leaf, row) = self.floor(frames, vpn.get().checked_sub(1)?)?;
        Some(leaf.vad(row))
    }

    /// The descriptors in ascending order. Each step looks up its successor anew, in the time
    /// of a lookup.
    pub fn iter<'a, N: NodeFrames>(&'a self, frames: &'a N) -> Vads<'a, N, F> {
        Vads { tree: self, frames, from: 0 }
    }

    /// Calls `visit` with the frame of every node, parents first.
    pub fn for_each_node(&self, frames: &impl NodeFrames, mut visit: impl FnMut(Pfn)) {
        fn walk(frames: &impl NodeFrames, level: u8, pfn: Pfn, visit: &mut impl FnMut(Pfn)) {
            visit(pfn);
            if let Some(below) = level.checked_sub(1) {
                let inner = Inner::new(frames.node(pfn));
                for row in 0..inner.len() {
                    walk(frames, below, inner.child(row), visit);
                }
            }
        }
        if let Some((level, root)) = self.root() {
            walk(frames, level, root, &mut visit);
        }
    }

    /// Changes what the descriptor that starts at `start` says of its range, and returns it
    /// changed; none when there is no such descriptor.
    #[inline]
    pub fn update(
        &mut self,
        frames: &impl NodeFrames,
        start: Vpn,
        change: impl FnOnce(&mut VadAttributes),
    ) -> Option<Vad> {
        let (leaf, row) = self.floor(frames, start.get())?;
        if leaf.start(row) != start.get() {
            return None;
        }
        let record = leaf.record(row);
        let mut attributes = record.decode();
        change(&mut attributes);
        record.encode(&attributes);
        Some(leaf.vad(row))
    }
}

impl<F: Fanout> Default for VadTree<F> {
    fn default() -> Self {
        Self::new()
    }
}

/// The descriptors of a tree in ascending order.
#[derive(Debug)]
pub struct Vads<'a, N, F: Fanout> {
    tree: &'a VadTree<F>,
    frames: &'a N,
    from: u64,
}

impl<N: NodeFrames, F: Fanout> Iterator for Vads<'_, N, F> {
    type Item = Vad;

    fn next(&mut self) -> Option<Vad> {
        let (leaf, row) = self.tree.ceiling(self.frames, self.from)?;
        self.from = leaf.end(row) + 1;
        Some(leaf.vad(row))
    }
}

/// What the node `pfn` of `level`, which is not empty, holds.
fn summary(frames: &impl NodeFrames, level: u8, pfn: Pfn) -> Summary {
    match level {
        0 => Leaf::new(frames.node(pfn)).summary(),
        _ => Inner::new(frames.node(pfn)).summary(),
    }
}

/// First and last page below the node `pfn` of `level`, which is not empty.
fn bounds(frames: &impl NodeFrames, level: u8, pfn: Pfn) -> (u64, u64) {
    match level {
        0 => Leaf::new(frames.node(pfn)).bounds(),
        _ => Inner::new(frames.node(pfn)).bounds(),
    }
}

/// Rows in use in the node `pfn`.
fn rows(frames: &impl NodeFrames, pfn: Pfn) -> usize {
    Leaf::new(frames.node(pfn)).len()
}

/// Rows a node of `level` may use.
const fn room<F: Fanout>(level: u8) -> usize {
    if level == 0 { F::LEAF } else { F::INNER }
}
