//! The page of shared user data (KUSER_SHARED_DATA, spec 1.1, 12.4).
//!
//! Every process has it without having allocated it. In the i386 layouts it lies above the
//! highest address a descriptor may have. On amd64 descriptors may lie on both sides of it, and
//! NT gives each process one for it: private, read-only, one page. Here no process pays a node
//! and three page tables for that: whatever looks for room, or asks what is there, asks here too
//! and gets the answers it would get if the descriptor were in the tree. Calls that change
//! allocations find none.

use ntmm_pte::mode::SHARED_USER_DATA;
use ntmm_pte::{Pages, PagingMode, Vpn};

use super::tree::GapRequest;
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::virtual_memory::Direction;
use crate::working_set::WorkingSetGuard;

/// The page, where descriptors may lie on both sides of it.
pub(crate) fn among_descriptors<M: PagingMode>() -> Option<Vpn> {
    (SHARED_USER_DATA <= M::HIGHEST_VAD_ADDRESS).then_some(SHARED_USER_DATA.vpn())
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// The range from `start` to `end`, both included.
    ///
    /// # Errors
    /// [`NtStatus::CONFLICTING_ADDRESSES`] when something is allocated there.
    pub(crate) fn vacant(&self, start: Vpn, end: Vpn) -> Result<(Vpn, Vpn), NtStatus> {
        let shared = among_descriptors::<P::Paging>();
        let taken = shared.is_some_and(|page| start <= page && page <= end)
            || self.vads().first_overlap(&self.manager().nodes(), start, end).is_some();
        if taken { Err(NtStatus::CONFLICTING_ADDRESSES) } else { Ok((start, end)) }
    }

    /// The first page behind the free pages from `page` on, which is free.
    pub(crate) fn end_of_vacancy(&self, page: Vpn) -> u64 {
        let (_, after) = self.vad_neighbours(page, page);
        let limit = P::Paging::HIGHEST_VAD_ADDRESS.vpn().get() + 1;
        let shared = among_descriptors::<P::Paging>().filter(|&shared| shared > page);
        let end = after.map_or(limit, Vpn::get);
        shared.map_or(end, |shared| end.min(shared.get())).max(page.get() + 1)
    }

    /// The first page of a hole that meets the request.
    pub(crate) fn find_gap(&self, request: GapRequest, direction: Direction) -> Option<Vpn> {
        let (tree, nodes) = (self.vads(), self.manager().nodes());
        let find = |part: GapRequest| match direction {
            Direction::Up => tree.lowest_gap(&nodes, part),
            Direction::Down => tree.highest_gap(&nodes, part),
        };
        let inside = |page: &Vpn| request.low <= *page && *page <= request.high;
        let Some(shared) = among_descriptors::<P::Paging>().filter(inside) else {
            return find(request);
        };
        let one = Pages::new(1);
        let below = || find(GapRequest { high: shared.checked_sub(one)?, ..request });
        let above = || find(GapRequest { low: shared.checked_add(one)?, ..request });
        match direction {
            Direction::Up => below().or_else(above),
            Direction::Down => above().or_else(below),
        }
    }
}
