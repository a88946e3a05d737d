//! Commitment: the promise that every committed page can be held somewhere, in memory or in a
//! paging file (MmTotalCommittedPages, MmTotalCommitLimit, spec 9.7).
//!
//! A charge is taken when memory is committed, so that a program is refused then and not when
//! it touches the page. Page tables are charged with the address range that will need them.
//!
//! The limit is the memory that was available at boot, less [`RESERVE`] pages that keep paging
//! itself going, plus the size of the paging files. It rises with memory that is added at run
//! time, and falls before memory is taken away ([`memory`](crate::memory)).
//!
//! One word decides: what can still be charged. A charge and a falling limit both take from it,
//! so that neither can overlook the other.

use ntmm_pte::Pages;
use ntmm_sync::atomic::{AtomicU64, Ordering};

use crate::events::Notification;
use crate::manager::Manager;
use crate::platform::Platform;
use crate::status::NtStatus;

/// Pages of memory that can never be promised: with all else committed and dirty, this many
/// still circulate.
pub const RESERVE: u64 = 16;

/// The counters. Tag A.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    charged: AtomicU64,
    /// The limit less what is charged; rises last and falls first.
    headroom: AtomicU64,
    limit: AtomicU64,
    peak: AtomicU64,
}

impl Commit {
    pub(crate) fn charged(&self) -> Pages {
        Pages::new(self.charged.load(Ordering::Acquire))
    }

    pub(crate) fn limit(&self) -> Pages {
        Pages::new(self.limit.load(Ordering::Acquire))
    }

    pub(crate) fn peak(&self) -> Pages {
        Pages::new(self.peak.load(Ordering::Acquire))
    }

    pub(crate) fn raise_limit(&self, pages: Pages) {
        self.limit.fetch_add(pages.get(), Ordering::AcqRel);
        self.headroom.fetch_add(pages.get(), Ordering::AcqRel);
    }

    /// Lowers the limit, if what is charged stays within it; says whether it did.
    pub(crate) fn lower_limit(&self, pages: Pages) -> bool {
        let lowered = self.take_headroom(pages);
        if lowered {
            self.limit.fetch_sub(pages.get(), Ordering::AcqRel);
        }
        lowered
    }

    /// Takes `pages` of what can still be charged, if there are as many.
    fn take_headroom(&self, pages: Pages) -> bool {
        self.headroom
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(pages.get()))
            .is_ok()
    }
}

/// Charged pages that have not been handed to an owner yet; dropped, they are returned.
#[derive(Debug)]
#[must_use]
pub struct CommitCharge<'m, P: Platform> {
    manager: &'m Manager<P>,
    pages: Pages,
}

impl<P: Platform> CommitCharge<'_, P> {
    /// The charge becomes its owner's, who returns it with
    /// [`Manager::return_commitment`] one day.
    pub(crate) fn keep(mut self) -> Pages {
        core::mem::replace(&mut self.pages, Pages::new(0))
    }
}

impl<P: Platform> Drop for CommitCharge<'_, P> {
    fn drop(&mut self) {
        self.manager.return_commitment(self.pages);
    }
}

impl<P: Platform> Manager<P> {
    /// Charges `pages` (MiChargeCommitment).
    ///
    /// # Errors
    /// [`NtStatus::COMMITMENT_LIMIT`] when the limit would be exceeded.
    pub(crate) fn charge_commitment(&self, pages: Pages) -> Result<CommitCharge<'_, P>, NtStatus> {
        let commit = &self.commit;
        let refused = pages.get() > commit.headroom.load(Ordering::Acquire)
            || (pages.get() > 0 && self.platform().fail_allocation());
        if refused || !commit.take_headroom(pages) {
            self.platform().notify(Notification::CommitLimit);
            return Err(NtStatus::COMMITMENT_LIMIT);
        }
        let charged = commit.charged.fetch_add(pages.get(), Ordering::AcqRel) + pages.get();
        if charged > commit.peak.load(Ordering::Relaxed) {
            commit.peak.fetch_max(charged, Ordering::AcqRel);
        }
        Ok(CommitCharge { manager: self, pages })
    }

    /// Returns a kept charge (MiReturnCommitment).
    pub(crate) fn return_commitment(&self, pages: Pages) {
        if pages.get() > 0 {
            self.commit.charged.fetch_sub(pages.get(), Ordering::AcqRel);
            self.commit.headroom.fetch_add(pages.get(), Ordering::AcqRel);
        }
    }
}
