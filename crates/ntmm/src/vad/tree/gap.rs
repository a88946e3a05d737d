//! Finding a hole: NT's `MiFindEmptyAddressRange` and `MiFindEmptyAddressRangeDown`.

use ntmm_pte::{Pages, Pfn, Vpn};

use super::node::{Inner, Leaf, Node, Shape};
use super::{Fanout, NodeFrames, VadTree, bounds};

/// What hole is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GapRequest {
    /// Size; a request for no pages is never met.
    pub pages: Pages,
    /// The first page is a multiple of this: one, or 16 for the 64 KiB granularity (spec 7.11).
    /// A request for multiples of nothing is never met.
    pub alignment: Pages,
    /// Lowest page the hole may have.
    pub low: Vpn,
    /// Highest page the hole may have.
    pub high: Vpn,
}

/// Which of several holes is wanted.
#[derive(Clone, Copy)]
enum Order {
    LowestFirst,
    HighestFirst,
}

/// A request with its numbers bare and its order.
#[derive(Clone, Copy)]
struct Search<'a, N> {
    frames: &'a N,
    pages: u64,
    alignment: u64,
    low: u64,
    high: u64,
    order: Order,
}

impl<F: Fanout> VadTree<F> {
    /// The lowest first page of a hole that meets the request: a bottom-up search.
    #[must_use]
    pub fn lowest_gap(&self, frames: &impl NodeFrames, request: GapRequest) -> Option<Vpn> {
        self.search(Search::new(frames, request, Order::LowestFirst))
    }

    /// The highest first page of a hole that meets the request: a top-down search.
    #[must_use]
    pub fn highest_gap(&self, frames: &impl NodeFrames, request: GapRequest) -> Option<Vpn> {
        self.search(Search::new(frames, request, Order::HighestFirst))
    }

    fn search(&self, search: Search<'_, impl NodeFrames>) -> Option<Vpn> {
        let found = match self.root() {
            None => search.fit(0, u64::MAX),
            Some((level, root)) => {
                let (first, last) = bounds(search.frames, level, root);
                let before = || search.fit(0, first.checked_sub(1)?);
                let between = || search.node(level, root);
                let after = || search.fit(last + 1, u64::MAX);
                match search.order {
                    Order::LowestFirst => before().or_else(between).or_else(after),
                    Order::HighestFirst => after().or_else(between).or_else(before),
                }
            }
        };
        found.map(Vpn::new)
    }
}

impl<'a, N: NodeFrames> Search<'a, N> {
    fn new(frames: &'a N, request: GapRequest, order: Order) -> Self {
        Self {
            frames,
            pages: request.pages.get(),
            alignment: request.alignment.get(),
            low: request.low.get(),
            high: request.high.get(),
            order,
        }
    }

    /// The first page within the free range `first..=last` that meets the request.
    fn fit(&self, first: u64, last: u64) -> Option<u64> {
        let first = first.max(self.low);
        let beyond_start = self.pages.checked_sub(1)?;
        let last_start = last.min(self.high).checked_sub(beyond_start)?;
        let start = match self.order {
            Order::LowestFirst => first.checked_next_multiple_of(self.alignment)?,
            Order::HighestFirst => last_start - last_start.checked_rem(self.alignment)?,
        };
        (first <= start && start <= last_start).then_some(start)
    }

    /// The hole between two descriptors below `pfn`, a node of `level`.
    fn node(&self, level: u8, pfn: Pfn) -> Option<u64> {
        let words = self.frames.node(pfn);
        let Some(below) = level.checked_sub(1) else {
            return self.rows(Leaf::new(words), |_| None);
        };
        let inner = Inner::new(words);
        self.rows(inner, |row| {
            if inner.gap(row) < self.pages {
                return None;
            }
            self.node(below, inner.child(row))
        })
    }

    /// The hole between two rows of `node` or, as `inside` finds it, within a row.
    fn rows<S: Shape>(
        &self,
        node: Node<'_, S>,
        inside: impl Fn(usize) -> Option<u64>,
    ) -> Option<u64> {
        let len = node.len();
        let hole_after = |row: usize| {
            if row + 1 == len {
                return None;
            }
            let (first, next) = (node.end(row) + 1, node.start(row + 1));
            if next - first < self.pages {
                return None;
            }
            self.fit(first, next - 1)
        };
        let hole_before = |row: usize| row.checked_sub(1).and_then(hole_after);
        match self.order {
            Order::LowestFirst => {
                let first = node.ceiling(self.low);
                hole_before(first).or_else(|| {
                    (first..len)
                        .take_while(|&row| node.start(row) <= self.high)
                        .find_map(|row| inside(row).or_else(|| hole_after(row)))
                })
            }
            Order::HighestFirst => {
                let last = node.floor(self.high)?;
                hole_after(last).or_else(|| {
                    (0..=last)
                        .rev()
                        .take_while(|&row| node.end(row) >= self.low)
                        .find_map(|row| inside(row).or_else(|| hole_before(row)))
                })
            }
        }
    }
}
