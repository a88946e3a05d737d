//! Which pages of a view are committed, and committing them (spec 7.10, 8.7; API 3.3, 7.2).
//!
//! Pages of a section made with SEC_RESERVE are committed one by one, through any view, for all
//! views at once: the prototype is zero before and not zero any more. They stay committed until
//! the section goes. A view of a file that was mapped to be longer than its section (MEM_RESERVE) is
//! committed as far as the file goes, and committing more makes the file longer
//! ([`CommitPages`](super::CommitPages)). All other views are committed as a whole.

use ntmm_pte::{PAGE_SIZE, Pages, PteFormat, PteWord, Vpn};
use ntmm_sync::atomic::Ordering;
use ntmm_sync::level::{self, Level, Outside, Token};

use super::prototype::Prototype;
use super::system_space::PoolOffset;
use crate::fault::Blocked;
use crate::frames::{FrameUse, PageLocation};
use crate::manager::Manager;
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::vad::{Commitment, Vad};
use crate::working_set::WorkingSetGuard;

/// Whether pages are committed, and the last page of which that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommittedRun {
    pub(crate) commitment: Commitment,
    pub(crate) last: Vpn,
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Whether the pages from `page` on, which `vad` describes and whose entries are zero, are
    /// committed; at most up to `last`.
    pub(crate) fn committed_run(
        &mut self,
        vad: &Vad,
        page: Vpn,
        last: Vpn,
    ) -> Result<CommittedRun, Blocked> {
        let whole = CommittedRun { commitment: vad.attributes.commitment, last };
        if vad.attributes.view.is_none() || whole.commitment == Commitment::Committed {
            return Ok(whole);
        }
        let manager = self.manager();
        let Some(prototype) = manager.prototype_of(vad, page) else { return Ok(whole) };
        if manager.shows_file(prototype.area) {
            // As far as there are prototypes, there is a file.
            let more = manager.subsection(prototype.subsection).pages() - prototype.index - 1;
            let end = page.checked_add(Pages::new(more)).map_or(last, |end| end.min(last));
            return Ok(CommittedRun { commitment: Commitment::Committed, last: end });
        }
        let held = match manager.hold_prototype(self.token(), prototype.at) {
            Ok(held) => held,
            Err(_) if manager.is_pool_untouched(self.token(), prototype.at) => {
                // No prototype in this page of the pool has ever been written.
                let rest =
                    (PAGE_SIZE - prototype.at.bytes() % PAGE_SIZE) / P::Paging::ENTRY_BYTES as u64;
                let run = page.checked_add(Pages::new(rest - 1)).unwrap_or(last).min(last);
                return Ok(CommittedRun { commitment: Commitment::Reserved, last: run });
            }
            Err(blocked) => return Err(blocked),
        };
        let commitment = if manager.load_entry(held.entry()) == 0 {
            Commitment::Reserved
        } else {
            Commitment::Committed
        };
        Ok(CommittedRun { commitment, last: page })
    }

    /// Commits `page` of a view for all views of its section, out of `charged` pages that the
    /// caller has charged.
    pub(crate) fn commit_in_section(
        &mut self,
        vad: &Vad,
        page: Vpn,
        charged: &mut u64,
    ) -> Result<(), Blocked> {
        if vad.attributes.commitment == Commitment::Committed {
            return Ok(());
        }
        let manager = self.manager();
        let prototype = manager.prototype_of(vad, page).ok_or(NtStatus::CONFLICTING_ADDRESSES)?;
        if manager.shows_file(prototype.area) {
            return Ok(());
        }
        let held = manager.hold_prototype(self.token(), prototype.at)?;
        let word = manager.template_of(prototype);
        if manager.load_entry(held.entry()) != 0 {
            return Ok(());
        }
        if *charged == 0 {
            // It was committed when the pages were counted, and is not now: impossible, for
            // nothing takes that back.
            return Err(NtStatus::COMMITMENT_LIMIT.into());
        }
        if manager.exchange_entry(held.entry(), 0, word).is_ok() {
            *charged -= 1;
            manager.control_area(prototype.area).add_committed(Pages::ONE);
            manager.sections.commit.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Whether pages of `vad` up to `end` can be committed, if it shows a file.
    pub(crate) fn check_commit_in_file(&self, vad: &Vad, end: Vpn) -> Result<(), NtStatus> {
        let manager = self.manager();
        let Some(view) = vad.attributes.view.filter(|view| manager.shows_file(view.area)) else {
            return Ok(());
        };
        if vad.attributes.commitment == Commitment::Committed {
            return Err(NtStatus::ALREADY_COMMITTED);
        }
        let bytes = (view.page_of(vad, end).get() + 1) * PAGE_SIZE;
        if bytes > manager.control_area(view.area).size() {
            return Err(NtStatus::SECTION_NOT_EXTENDED);
        }
        Ok(())
    }
}

impl<P: Platform> Manager<P> {
    /// What the prototype of a page becomes when the page is committed.
    fn template_of(&self, prototype: Prototype) -> u64 {
        P::Paging::demand_zero(self.control_area(prototype.area).template())
    }

    /// Whether the page of the pool that `at` lies in has never been touched: the entry that would
    /// map it is zero, or one above it is.
    pub(super) fn is_pool_untouched<L: Level + Outside<level::Frame>>(
        &self,
        token: &mut Token<'_, L>,
        at: PoolOffset,
    ) -> bool {
        let Some(root) = self.system_space().and_then(|space| self.root(space)) else {
            return true;
        };
        let (way, last) = self.way_as_far_as_possible(root, at);
        // As long as its frame is locked the table that holds the last entry stays.
        let frame = self.lock_frame(token, last.table);
        let is_table = matches!(frame.state().usage(), FrameUse::PageTable | FrameUse::Root)
            && frame.state().location() == PageLocation::Active
            && self.is_way(way, last.table);
        let word = self.load_entry(last);
        is_table && !P::Paging::is_mapping(word)
    }
}
