//! Inserting a descriptor.
//!
//! The nodes that an insertion splits are the full ones in an unbroken run from the leaf
//! upwards. They are counted first; on the way down a frame is taken for each of them, and only
//! the way back up changes anything. So a failed allocation leaves no trace.
//!
//! A full node is split in the middle, except when the descriptor lies above or below all
//! others: then the old rows stay together, so that ranges reserved in order fill their nodes.

use ntmm_pte::{Pfn, Vpn};

use super::node::{Inner, Leaf, Node, Shape};
use super::record::Vad;
use super::{Fanout, NodeFrames, VadTree, bounds, room, rows, summary};

/// Why a descriptor was not inserted. The tree is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// The range ends before it starts.
    Inverted,
    /// A page of the range has a descriptor.
    Overlap,
    /// There was no frame for a node.
    NoFrames,
}

/// Where a new descriptor lies in respect of the others.
#[derive(Clone, Copy)]
enum Side {
    Below,
    Among,
    Above,
}

impl Side {
    /// The side of `vad` when the others lie in `first..=last`.
    fn of(vad: &Vad, (first, last): (u64, u64)) -> Self {
        if vad.end.get() < first {
            Self::Below
        } else if vad.start.get() > last {
            Self::Above
        } else {
            Self::Among
        }
    }
}

/// An insertion on its way down.
struct Insertion<'a, N> {
    frames: &'a N,
    vad: Vad,
    side: Side,
    /// Nodes of a level below this one are full and will be split.
    splits: u8,
}

impl<F: Fanout> VadTree<F> {
    /// The exact number of frames that [`insert`](Self::insert) of a descriptor starting at
    /// `start` will allocate.
    #[must_use]
    pub fn frames_for_insert(&self, frames: &impl NodeFrames, start: Vpn) -> usize {
        let Some((top, root)) = self.root() else {
            return 1;
        };
        let splits = splits_for::<F>(frames, top, root, start);
        usize::from(splits) + usize::from(splits == self.height)
    }

    /// Adds a descriptor: NT's `MiInsertVad`.
    ///
    /// # Errors
    /// See [`InsertError`]; the tree is unchanged and holds no more frames than before.
    pub fn insert(&mut self, frames: &impl NodeFrames, vad: Vad) -> Result<(), InsertError> {
        if vad.start > vad.end {
            return Err(InsertError::Inverted);
        }
        let Some((top, root)) = self.root() else {
            self.root = frames.allocate().ok_or(InsertError::NoFrames)?;
            Leaf::initialise(frames.node(self.root)).insert(0, &vad);
            (self.height, self.nodes, self.count) = (1, 1, 1);
            return Ok(());
        };
        let splits = splits_for::<F>(frames, top, root, vad.start);
        let side = Side::of(&vad, bounds(frames, top, root));
        let insertion = Insertion { frames, vad, side, splits };
        if splits < self.height {
            insertion.descend(top, root)?;
        } else {
            let new_root = frames.allocate().ok_or(InsertError::NoFrames)?;
            let sibling = insertion.descend(top, root).inspect_err(|_| frames.free(new_root))?;
            let inner = Inner::initialise(frames.node(new_root), self.height);
            for child in [Some(root), sibling].into_iter().flatten() {
                inner.insert(inner.len(), child, summary(frames, top, child));
            }
            self.root = new_root;
            self.height += 1;
            self.nodes += 1;
        }
        self.nodes += u32::from(splits);
        self.count += 1;
        Ok(())
    }
}

impl<N: NodeFrames> Insertion<'_, N> {
    /// Inserts below `pfn`, a node of `level`. Returns the new right neighbour of the node when
    /// it was split.
    fn descend(&self, level: u8, pfn: Pfn) -> Result<Option<Pfn>, InsertError> {
        let words = self.frames.node(pfn);
        let row = match level {
            0 => self.place_in(Leaf::new(words))?,
            _ => self.child_of(Inner::new(words))?,
        };
        let spare = if level < self.splits {
            Some(self.frames.allocate().ok_or(InsertError::NoFrames)?)
        } else {
            None
        };
        let spare_words = spare.map(|spare| self.frames.node(spare));
        let Some(below) = level.checked_sub(1) else {
            let leaf = Leaf::new(words);
            let (target, row) = self.place(leaf, spare_words.map(Leaf::initialise), row);
            target.insert(row, &self.vad);
            return Ok(spare);
        };
        let inner = Inner::new(words);
        let child = inner.child(row);
        let sibling = self.descend(below, child).inspect_err(|_| {
            if let Some(spare) = spare {
                self.frames.free(spare);
            }
        })?;
        inner.set_child_summary(row, summary(self.frames, below, child));
        if let Some(sibling) = sibling {
            let right = spare_words.map(|words| Inner::initialise(words, level));
            let (target, row) = self.place(inner, right, row + 1);
            target.insert(row, sibling, summary(self.frames, below, sibling));
        }
        Ok(spare)
    }

    /// The row of `leaf` where the descriptor belongs.
    fn place_in(&self, leaf: Leaf<'_>) -> Result<usize, InsertError> {
        let before = leaf.floor(self.vad.start.get());
        if before.is_some_and(|before| leaf.end(before) >= self.vad.start.get()) {
            return Err(InsertError::Overlap);
        }
        let row = before.map_or(0, |before| before + 1);
        if self.reaches(leaf, row) { Err(InsertError::Overlap) } else { Ok(row) }
    }

    /// The child of `inner` where the descriptor belongs.
    fn child_of(&self, inner: Inner<'_>) -> Result<usize, InsertError> {
        let row = row_for(inner, self.vad.start);
        if self.reaches(inner, row + 1) { Err(InsertError::Overlap) } else { Ok(row) }
    }

    /// Whether the descriptor ends within `row` or after its start.
    fn reaches<S: Shape>(&self, node: Node<'_, S>, row: usize) -> bool {
        row < node.len() && node.start(row) <= self.vad.end.get()
    }

    /// Splits `node` when a new right neighbour is given. Returns the node and the row where
    /// what belonged at `row` of `node` goes now.
    fn place<'a, S: Shape>(
        &self,
        node: Node<'a, S>,
        right: Option<Node<'a, S>>,
        row: usize,
    ) -> (Node<'a, S>, usize) {
        let Some(right) = right else {
            return (node, row);
        };
        let (first_moved, stays) = match self.side {
            Side::Below => (row, true),
            Side::Above => (row, false),
            Side::Among => {
                let middle = node.len() / 2;
                (middle, row < middle)
            }
        };
        node.move_rows(first_moved, right);
        if stays { (node, row) } else { (right, row - first_moved) }
    }
}

/// Full nodes in an unbroken run upwards from the leaf where a descriptor that starts at `start`
/// belongs, below and with `root`, a node of level `top`.
fn splits_for<F: Fanout>(frames: &impl NodeFrames, top: u8, root: Pfn, start: Vpn) -> u8 {
    let mut pfn = root;
    let mut splits = 0;
    for level in (0..=top).rev() {
        let full = rows(frames, pfn) == room::<F>(level);
        splits = if full { splits + 1 } else { 0 };
        if level > 0 {
            let inner = Inner::new(frames.node(pfn));
            pfn = inner.child(row_for(inner, start));
        }
    }
    splits
}

/// The child below which a descriptor that starts at `start` belongs.
fn row_for(inner: Inner<'_>, start: Vpn) -> usize {
    inner.floor(start.get()).unwrap_or(0)
}
