//! Commitment: the promise that every committed page can be held somewhere, in memory or in a
//! paging file (MmTotalCommittedPages, MmTotalCommitLimit, spec 9.7).
//!
//! A charge is taken when memory is committed, so that a program is refused then and not when
//! it touches the page. Page tables are charged with the address range that will need them.
//!
//! The limit is the memory that was available at boot, less [`RESERVE`] pages that keep paging
//! itself going, plus the size of the paging files.

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
        let mut charged = commit.charged.load(Ordering::Acquire);
        loop {
            let wanted = charged.saturating_add(pages.get());
            if wanted > commit.limit.load(Ordering::Acquire)
                || (pages.get() > 0 && self.platform().fail_allocation())
            {
                self.platform().notify(Notification::CommitLimit);
                return Err(NtStatus::COMMITMENT_LIMIT);
            }
            match commit.charged.compare_exchange_weak(
                charged,
                wanted,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    if wanted > commit.peak.load(Ordering::Relaxed) {
                        commit.peak.fetch_max(wanted, Ordering::AcqRel);
                    }
                    return Ok(CommitCharge { manager: self, pages });
                }
                Err(actual) => charged = actual,
            }
        }
    }

    /// Returns a kept charge (MiReturnCommitment).
    pub(crate) fn return_commitment(&self, pages: Pages) {
        if pages.get() > 0 {
            self.commit.charged.fetch_sub(pages.get(), Ordering::AcqRel);
        }
    }
}
