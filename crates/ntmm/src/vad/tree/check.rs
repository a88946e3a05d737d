//! The auditor of the tree.

use ntmm_pte::Pfn;

use super::node::{Inner, Leaf, LeafShape, Node, Shape, Summary};
use super::{Fanout, NodeFrames, VadTree, room};

/// A rule the tree breaks, and in which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeDefect {
    /// The node says it is of another level than the one it is found at.
    Level(Pfn),
    /// The node has no row, more rows than allowed, or is an inner root with a single row.
    Length(Pfn),
    /// A row ends before it starts, or starts before the row before it has ended, or a row past
    /// the length is not marked vacant.
    Order(Pfn),
    /// What an inner node says of a child is not what the child holds.
    Summary(Pfn),
    /// Two rows of the leaf have one record slot, or a slot that does not exist.
    Slots(Pfn),
    /// The number of descriptors is not the number the root says.
    Count {
        /// Descriptors in the leaves.
        found: u64,
        /// Descriptors the root says there are.
        recorded: u64,
    },
    /// The number of nodes is not the number the root says.
    Nodes {
        /// Nodes reached from the root.
        found: u32,
        /// Nodes the root says there are.
        recorded: u32,
    },
}

/// What the nodes visited add up to.
#[derive(Default)]
struct Census {
    count: u64,
    nodes: u32,
}

impl<F: Fanout> VadTree<F> {
    /// Checks every rule of the tree.
    ///
    /// # Errors
    /// The first rule found broken.
    pub fn check(&self, frames: &impl NodeFrames) -> Result<(), TreeDefect> {
        let mut census = Census::default();
        if let Some((level, root)) = self.root() {
            let inner = Inner::new(frames.node(root));
            if level > 0 && inner.len() < 2 {
                return Err(TreeDefect::Length(root));
            }
            census.node::<F>(frames, level, root)?;
        }
        if census.count != self.count {
            return Err(TreeDefect::Count { found: census.count, recorded: self.count });
        }
        if census.nodes != self.nodes {
            return Err(TreeDefect::Nodes { found: census.nodes, recorded: self.nodes });
        }
        Ok(())
    }
}

impl Census {
    /// Checks `pfn`, a node of `level`, and all below it, and returns what it holds.
    fn node<F: Fanout>(
        &mut self,
        frames: &impl NodeFrames,
        level: u8,
        pfn: Pfn,
    ) -> Result<Summary, TreeDefect> {
        self.nodes += 1;
        let words = frames.node(pfn);
        let leaf = Leaf::new(words);
        if leaf.header().level() != level {
            return Err(TreeDefect::Level(pfn));
        }
        if leaf.len() == 0 || leaf.len() > room::<F>(level) {
            return Err(TreeDefect::Length(pfn));
        }
        let Some(below) = level.checked_sub(1) else {
            check_order(leaf, pfn)?;
            check_slots(leaf, pfn)?;
            self.count += leaf.len() as u64;
            return Ok(leaf.summary());
        };
        let inner = Inner::new(words);
        check_order(inner, pfn)?;
        for row in 0..inner.len() {
            if self.node::<F>(frames, below, inner.child(row))? != inner.child_summary(row) {
                return Err(TreeDefect::Summary(pfn));
            }
        }
        Ok(inner.summary())
    }
}

fn check_order<S: Shape>(node: Node<'_, S>, pfn: Pfn) -> Result<(), TreeDefect> {
    let ranges = (0..node.len()).all(|row| node.start(row) <= node.end(row));
    let apart = (1..node.len()).all(|row| node.end(row - 1) < node.start(row));
    let vacant = (node.len()..S::CAPACITY).all(|row| node.is_vacant(row));
    if ranges && apart && vacant { Ok(()) } else { Err(TreeDefect::Order(pfn)) }
}

/// The slots in use and the free ones together are each slot once.
fn check_slots(leaf: Leaf<'_>, pfn: Pfn) -> Result<(), TreeDefect> {
    let mut seen = 0_u64;
    for row in 0..LeafShape::CAPACITY {
        let slot = leaf.slot(row);
        if slot >= LeafShape::CAPACITY as u64 || seen & (1 << slot) != 0 {
            return Err(TreeDefect::Slots(pfn));
        }
        seen |= 1 << slot;
    }
    Ok(())
}
