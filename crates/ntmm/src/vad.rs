//! Virtual address descriptors: which ranges of an address space are allocated (spec 7).
//!
//! [`tree`] is the data structure; this file ties it to an address space: the root lives in the
//! space's header, the nodes on frames of the PFN database, charged to the space. The tree is
//! read under the working-set lock and changed under that lock by the owner of address creation.

pub mod tree;

use core::cell::Cell;

use arrayvec::ArrayVec;
use ntmm_pte::{Level, Pages, PagingMode, Pfn, Vpn};
use ntmm_sync::frame::FrameWords;

use crate::frames::FrameUse;
use crate::frames::entry::FrameFlags;
use crate::frames::take::Want;
use crate::manager::Manager;
use crate::operation::Pause;
use crate::platform::Platform;
use crate::working_set::WorkingSetGuard;

pub use tree::{Commitment, ProtectionChange, Vad, VadAttributes, VadKind, VadTree};

/// Nodes a single change of the tree may take or give back.
const STOCK: usize = 24;

/// The frames of one tree during one change: a stock for new nodes, and the nodes given back.
pub(crate) struct Nodes<'m, P: Platform> {
    manager: &'m Manager<P>,
    stock: Cell<ArrayVec<Pfn, STOCK>>,
    freed: Cell<ArrayVec<Pfn, STOCK>>,
}

impl<P: Platform> tree::NodeFrames for Nodes<'_, P> {
    fn node(&self, pfn: Pfn) -> &FrameWords {
        self.manager.platform().frame(pfn)
    }

    fn allocate(&self) -> Option<Pfn> {
        let mut stock = self.stock.take();
        let pfn = stock.pop();
        self.stock.set(stock);
        pfn
    }

    fn free(&self, pfn: Pfn) {
        let mut freed = self.freed.take();
        if freed.try_push(pfn).is_err() {
            self.manager.corrupt_frame(crate::frames::lists::WRONG_STATE, pfn);
        }
        self.freed.set(freed);
    }
}

impl<P: Platform> Manager<P> {
    /// Access to nodes without a stock: for reading, and for changes that take no frames.
    pub(crate) const fn nodes(&self) -> Nodes<'_, P> {
        Nodes {
            manager: self,
            stock: Cell::new(ArrayVec::new_const()),
            freed: Cell::new(ArrayVec::new_const()),
        }
    }

    /// Page-table pages that the range `start..=end` alone needs, when the allocations next to
    /// it end at `before` and start at `after`: what allocating it charges and freeing it
    /// returns (CommittedPageTables).
    pub(crate) fn tables_of_range(
        start: Vpn,
        end: Vpn,
        before: Option<Vpn>,
        after: Option<Vpn>,
    ) -> Pages {
        let mut tables = 0;
        let mut level = Level::Table;
        while level < P::Paging::SELF_MAP_LEVEL {
            let Some(above) = level.up() else { break };
            let span = P::Paging::span(above).to_pages_rounded_down().get();
            let first = start.get() / span;
            let last = end.get() / span;
            let shared_before = before.is_some_and(|vpn| vpn.get() / span == first);
            let shared_after = after.is_some_and(|vpn| vpn.get() / span == last);
            let shared = if first == last {
                u64::from(shared_before || shared_after)
            } else {
                u64::from(shared_before) + u64::from(shared_after)
            };
            tables += last - first + 1 - shared;
            level = above;
        }
        Pages::new(tables)
    }
}

impl<'m, P: Platform> WorkingSetGuard<'m, '_, P> {
    /// The tree of this space.
    pub(crate) fn vads(&self) -> VadTree {
        VadTree::from_words([self.header().vad_root(), self.header().vad_count()])
    }

    /// Keeps a changed tree and gives back the nodes it no longer needs.
    pub(crate) fn set_vads(&mut self, tree: &VadTree, nodes: Nodes<'m, P>) {
        let [root, count] = tree.to_words();
        self.header().set_vad_root(root);
        self.header().set_vad_count(count);
        for pfn in nodes.stock.take().into_iter().chain(nodes.freed.take()) {
            self.free_node(pfn);
        }
    }

    /// The descriptor of `page`.
    pub(crate) fn find_vad(&self, page: Vpn) -> Option<Vad> {
        self.vads().find(&self.manager().nodes(), page)
    }

    /// End of the allocation before `page` and start of the one after `end`.
    pub(crate) fn vad_neighbours(&self, start: Vpn, end: Vpn) -> (Option<Vpn>, Option<Vpn>) {
        let nodes = self.manager().nodes();
        let tree = self.vads();
        let before = tree.previous_before(&nodes, start).map(|vad| vad.end);
        let after = end
            .checked_add(Pages::new(1))
            .and_then(|next| tree.next_at_or_after(&nodes, next))
            .map(|vad| vad.start);
        (before, after)
    }

    /// Takes the frames an insertion at `start` may need, charged to the space.
    pub(crate) fn stock_nodes(&mut self, start: Vpn) -> Result<Nodes<'m, P>, Pause> {
        let manager = self.manager();
        let nodes = manager.nodes();
        let wanted = self.vads().frames_for_insert(&nodes, start) as u32;
        if wanted == 0 {
            return Ok(nodes);
        }
        let charge = manager.charge_commitment(Pages::new(u64::from(wanted)))?;
        let mut reservation = manager.reserve_pages(wanted)?;
        let charged = charge.keep();
        self.add_commit(charged);
        let mut stock = ArrayVec::new_const();
        for _ in 0..wanted {
            let color = self.next_color();
            let mut frame = manager.take_frame(
                self.token(),
                &mut reservation,
                color,
                Want::Any,
                FrameUse::VadNode,
            );
            frame.add_mapping();
            stock.push(frame.pfn());
        }
        nodes.stock.set(stock);
        Ok(nodes)
    }

    pub(crate) fn free_node(&mut self, pfn: Pfn) {
        let manager = self.manager();
        {
            let mut frame = manager.lock_frame(self.token(), pfn);
            frame.entry().drop_share();
            frame.insert(FrameFlags::DELETED);
            manager.drop_reference(&mut frame);
        }
        self.return_commit(Pages::new(1));
    }

    /// Charges `pages` to the space, from a system charge that has been taken.
    pub(crate) fn add_commit(&mut self, pages: Pages) {
        let header = self.header();
        header.set_commit(header.commit() + pages.get());
        header.set_commit_peak(header.commit_peak().max(header.commit()));
    }

    /// Returns a charge of the space, to the system as well.
    pub(crate) fn return_commit(&mut self, pages: Pages) {
        let header = self.header();
        header.set_commit(header.commit().saturating_sub(pages.get()));
        self.manager().return_commitment(pages);
    }
}
