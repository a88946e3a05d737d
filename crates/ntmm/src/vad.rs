//! Virtual address descriptors: which ranges of an address space are allocated (spec 7).
//!
//! [`tree`] is the data structure; this file ties it to an address space: the root lives in the
//! space's header, the nodes on frames of the PFN database, charged to the space. The tree is
//! read under the working-set lock and changed under that lock by the owner of address creation.

mod secured;
pub(crate) mod shared_data;
pub mod tree;
mod write_watch;

use core::cell::Cell;

use ntmm_pte::{Level, Pages, PagingMode, Pfn, Vpn};
use ntmm_sync::atomic::{AtomicU64, Ordering};
use ntmm_sync::frame::{FrameWords, WordIndex, word};

use crate::commit::CommitCharge;
use crate::frames::FrameUse;
use crate::frames::entry::{FrameFlags, NO_FRAME};
use crate::frames::take::Want;
use crate::manager::Manager;
use crate::operation::Pause;
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::working_set::WorkingSetGuard;

pub(crate) use secured::SecuredChange;
pub use secured::{SECURED_RANGES_LIMIT, SecuredAccess, SecuredHandle, SecuredRange};
pub use tree::{
    Commitment, Inherit, Placeholder, ProtectionChange, Secured, Vad, VadAttributes, VadKind,
    VadTree, View,
};

/// The frames of one tree during one change: a stock for new nodes, and the nodes given back.
/// The frames of each kind are chained through their first words.
pub(crate) struct Nodes<'m, P: Platform> {
    manager: &'m Manager<P>,
    stock: Cell<Option<Pfn>>,
    freed: Cell<Option<Pfn>>,
}

impl<P: Platform> Nodes<'_, P> {
    fn push(&self, chain: &Cell<Option<Pfn>>, pfn: Pfn) {
        let link = chain.get().map_or(NO_FRAME, Pfn::get);
        self.link(pfn).store(u64::from(link), Ordering::Relaxed);
        chain.set(Some(pfn));
    }

    fn pop(&self, chain: &Cell<Option<Pfn>>) -> Option<Pfn> {
        let pfn = chain.get()?;
        let link = self.link(pfn).load(Ordering::Relaxed) as u32;
        chain.set((link != NO_FRAME).then(|| Pfn::new(link)));
        Some(pfn)
    }

    fn link(&self, pfn: Pfn) -> &AtomicU64 {
        word(self.manager.platform().frame(pfn), WordIndex::wrapping(0))
    }
}

impl<P: Platform> tree::NodeFrames for Nodes<'_, P> {
    #[inline]
    fn node(&self, pfn: Pfn) -> &FrameWords {
        self.manager.platform().frame(pfn)
    }

    fn allocate(&self) -> Option<Pfn> {
        // What the same change has given back serves it again.
        self.pop(&self.stock).or_else(|| self.pop(&self.freed))
    }

    fn free(&self, pfn: Pfn) {
        self.push(&self.freed, pfn);
    }
}

impl<P: Platform> Manager<P> {
    /// Access to nodes without a stock: for reading, and for changes that take no frames.
    #[inline]
    pub(crate) const fn nodes(&self) -> Nodes<'_, P> {
        Nodes { manager: self, stock: Cell::new(None), freed: Cell::new(None) }
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
        while let Some(pfn) = nodes.pop(&nodes.stock).or_else(|| nodes.pop(&nodes.freed)) {
            self.free_node(pfn);
        }
    }

    /// The descriptor of `page`.
    pub(crate) fn find_vad(&self, page: Vpn) -> Option<Vad> {
        self.vads().find(&self.manager().nodes(), page)
    }

    /// End of the allocation before `start` and start of the one after `end`, when nothing in
    /// between is allocated.
    pub(crate) fn vad_neighbours(&self, start: Vpn, end: Vpn) -> (Option<Vpn>, Option<Vpn>) {
        self.vads().neighbours(&self.manager().nodes(), start, end)
    }

    /// Charges what an allocation from `start` to `end`, where nothing is, costs its space: its
    /// tables, and `committed` pages.
    pub(crate) fn charge_allocation(
        &self,
        (start, end): (Vpn, Vpn),
        committed: Pages,
    ) -> Result<CommitCharge<'m, P>, NtStatus> {
        let (before, after) = self.vad_neighbours(start, end);
        let tables = Manager::<P>::tables_of_range(start, end, before, after);
        self.manager().charge_commitment(committed.saturating_add(tables))
    }

    /// Enters a new allocation, which is charged. The caller owns address creation, or is in its
    /// only hold.
    pub(crate) fn insert_allocation(
        &mut self,
        vad: Vad,
        charge: CommitCharge<'_, P>,
    ) -> Result<(), Pause> {
        let nodes = self.stock_nodes(vad.start)?;
        let mut tree = self.vads();
        let inserted = tree.insert(&nodes, vad);
        self.set_vads(&tree, nodes);
        if inserted.is_err() {
            return Err(NtStatus::CONFLICTING_ADDRESSES.into());
        }
        self.add_commit(charge.keep());
        let header = self.header();
        let bytes = Pages::new(vad.end.get() - vad.start.get() + 1).to_bytes();
        header.set_virtual_size(header.virtual_size() + bytes.get());
        Ok(())
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
            nodes.push(&nodes.stock, frame.pfn());
        }
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
        let commit = header.commit() + pages.get();
        header.set_commit(commit);
        if commit > header.commit_peak() {
            header.set_commit_peak(commit);
        }
    }

    /// Returns a charge of the space, to the system as well.
    pub(crate) fn return_commit(&mut self, pages: Pages) {
        let header = self.header();
        header.set_commit(header.commit().saturating_sub(pages.get()));
        self.manager().return_commitment(pages);
    }
}
