//! Removing descriptors, making them smaller, and giving frames back.

use ntmm_pte::{Pfn, Vpn};

use super::node::{Inner, Leaf};
use super::record::Vad;
use super::{Fanout, NodeFrames, VadTree, room, rows, summary};

/// Why a descriptor kept its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResizeError {
    /// No descriptor starts there.
    NotFound,
    /// The new range is empty or not within the old one.
    NotWithin,
}

impl<F: Fanout> VadTree<F> {
    /// Removes the descriptor that starts at `start` and returns it; none when there is no such
    /// descriptor. NT's `MiRemoveVad`.
    pub fn remove(&mut self, frames: &impl NodeFrames, start: Vpn) -> Option<Vad> {
        let (mut level, mut root) = self.root()?;
        let (removed, freed) = remove_below::<F>(frames, level, root, start)?;
        self.nodes -= freed;
        self.count -= 1;
        while level > 0 && rows(frames, root) == 1 {
            let only = Inner::new(frames.node(root)).child(0);
            frames.free(root);
            self.nodes -= 1;
            (level, root) = (level - 1, only);
        }
        if rows(frames, root) == 0 {
            frames.free(root);
            *self = Self::new();
        } else {
            (self.root, self.height) = (root, level + 1);
        }
        Some(removed)
    }

    /// Makes the descriptor that starts at `start` cover `new_start..=new_end`, a part of its
    /// range, and returns it with its new range. Releasing the front or the back of a range does
    /// this (spec 7.6). Nothing is allocated.
    ///
    /// # Errors
    /// See [`ResizeError`]; the tree is unchanged.
    pub fn resize(
        &mut self,
        frames: &impl NodeFrames,
        start: Vpn,
        new_start: Vpn,
        new_end: Vpn,
    ) -> Result<Vad, ResizeError> {
        let (level, root) = self.root().ok_or(ResizeError::NotFound)?;
        resize_below(frames, level, root, start, (new_start, new_end))
    }
}

/// Removes the descriptor that starts at `start` below `pfn`, a node of `level` that may be left
/// empty. Returns it and how many nodes were freed.
fn remove_below<F: Fanout>(
    frames: &impl NodeFrames,
    level: u8,
    pfn: Pfn,
    start: Vpn,
) -> Option<(Vad, u32)> {
    let Some(below) = level.checked_sub(1) else {
        let leaf = Leaf::new(frames.node(pfn));
        let row = leaf.floor(start.get())?;
        let vad = leaf.vad(row);
        if vad.start != start {
            return None;
        }
        leaf.close(row);
        return Some((vad, 0));
    };
    let inner = Inner::new(frames.node(pfn));
    let row = inner.floor(start.get())?;
    let child = inner.child(row);
    let (vad, freed) = remove_below::<F>(frames, below, child, start)?;
    if rows(frames, child) == 0 {
        frames.free(child);
        inner.close(row);
        return Some((vad, freed + 1));
    }
    inner.set_child_summary(row, summary(frames, below, child));
    let merged = merge_thin::<F>(frames, inner, row, below);
    Some((vad, freed + merged))
}

/// Merges the child at `row`, of level `below`, with a neighbour when it is down to a quarter of
/// its room and the two together fill at most three quarters. Returns how many nodes were freed.
fn merge_thin<F: Fanout>(frames: &impl NodeFrames, inner: Inner<'_>, row: usize, below: u8) -> u32 {
    let room = room::<F>(below);
    if rows(frames, inner.child(row)) > room / 4 {
        return 0;
    }
    let lefts = [Some(row).filter(|row| row + 1 < inner.len()), row.checked_sub(1)];
    for left_row in lefts.into_iter().flatten() {
        let (left, right) = (inner.child(left_row), inner.child(left_row + 1));
        if rows(frames, left) + rows(frames, right) > room * 3 / 4 {
            continue;
        }
        let (left_words, right_words) = (frames.node(left), frames.node(right));
        if below == 0 {
            Leaf::new(right_words).move_rows(0, Leaf::new(left_words));
        } else {
            Inner::new(right_words).move_rows(0, Inner::new(left_words));
        }
        frames.free(right);
        inner.close(left_row + 1);
        inner.set_child_summary(left_row, summary(frames, below, left));
        return 1;
    }
    0
}

/// Makes the descriptor that starts at `start` below `pfn`, a node of `level`, smaller.
fn resize_below(
    frames: &impl NodeFrames,
    level: u8,
    pfn: Pfn,
    start: Vpn,
    (new_start, new_end): (Vpn, Vpn),
) -> Result<Vad, ResizeError> {
    let Some(below) = level.checked_sub(1) else {
        let leaf = Leaf::new(frames.node(pfn));
        let row = leaf.floor(start.get()).ok_or(ResizeError::NotFound)?;
        let vad = leaf.vad(row);
        if vad.start != start {
            return Err(ResizeError::NotFound);
        }
        if new_start < start || new_end > vad.end || new_start > new_end {
            return Err(ResizeError::NotWithin);
        }
        leaf.set_range(row, new_start.get(), new_end.get());
        return Ok(leaf.vad(row));
    };
    let inner = Inner::new(frames.node(pfn));
    let row = inner.floor(start.get()).ok_or(ResizeError::NotFound)?;
    let child = inner.child(row);
    let vad = resize_below(frames, below, child, start, (new_start, new_end))?;
    inner.set_child_summary(row, summary(frames, below, child));
    Ok(vad)
}
