//! Available pages: how many frames can be taken, and who has been promised one
//! (MmAvailablePages, MmAvailablePagesEvent, spec 3.8-3.9).
//!
//! A page is available while it is on the zeroed, free or standby list. Whoever is going to
//! take frames reserves them first, so that a taker never fails half-way: available pages
//! minus reservations never falls below zero. Both numbers live in one atomic word.
//!
//! A reservation that fails makes its operation wait. The wake-up protocol: the waiter reads
//! the epoch, announces itself, tries once more and only then waits; whoever makes pages
//! available and finds the announcement advances the epoch and wakes.

use ntmm_sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::events::Notification;
use crate::manager::Manager;
use crate::operation::{Epoch, Wait, WaitKey};
use crate::platform::{Engine, Platform};

/// The counters behind reservations.
#[derive(Debug)]
pub(crate) struct Available {
    /// Available pages in the low half, reserved ones in the high half. Tag A.
    counts: AtomicU64,
    epoch: AtomicU64,
    waiting: AtomicBool,
    thresholds: Thresholds,
}

/// Page counts at which something happens (spec 1.8, 3.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Below this many available pages the writer and the balance engine are asked to work
    /// (MmMinimumFreePages).
    pub minimum: u32,
    /// With this many available or modified pages there is no need to trim (MmPlentyFreePages).
    pub plenty: u32,
    /// The low-memory event is set at this many (MmLowMemoryThreshold).
    pub low: u32,
    /// The high-memory event is set at this many (MmHighMemoryThreshold).
    pub high: u32,
}

impl Thresholds {
    /// NT's values for large machines, in proportion below 13 MB of memory.
    #[must_use]
    pub const fn for_memory(frames: u32) -> Self {
        let minimum = if frames / 128 < 26 { 2 + frames / 128 } else { 26 };
        let plenty = if frames >= 16_128 {
            800
        } else if frames / 8 < 400 {
            4 + frames / 8
        } else {
            400
        };
        Self { minimum, plenty, low: plenty, high: plenty * 3 }
    }
}

const RESERVED: u64 = 1 << 32;

const fn available(counts: u64) -> u32 {
    counts as u32
}

const fn reserved(counts: u64) -> u32 {
    (counts >> 32) as u32
}

impl Available {
    pub(crate) fn new(thresholds: Thresholds) -> Self {
        Self {
            counts: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
            thresholds,
        }
    }

    /// Pages on the zeroed, free and standby lists.
    pub(crate) fn pages(&self) -> u32 {
        available(self.counts.load(Ordering::Acquire))
    }

    /// Pages of them that are promised to somebody.
    pub(crate) fn reserved(&self) -> u32 {
        reserved(self.counts.load(Ordering::Acquire))
    }

    /// Pages nobody has been promised.
    pub(crate) fn unreserved(&self) -> u32 {
        let counts = self.counts.load(Ordering::Acquire);
        available(counts).saturating_sub(reserved(counts))
    }

    pub(crate) const fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }
}

/// Frames promised to an operation. What is not taken is given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct PageReservation<'m, P: Platform> {
    manager: &'m Manager<P>,
    left: u32,
}

impl<P: Platform> PageReservation<'_, P> {
    /// Uses up the promise of one frame: the caller has just unlinked it from a list of
    /// available pages.
    pub(super) fn consume(&mut self) {
        self.left = self.left.saturating_sub(1);
        let available = &self.manager.available;
        let old = available.counts.fetch_sub(RESERVED + 1, Ordering::AcqRel);
        self.manager.available_fell(self::available(old));
    }
}

impl<P: Platform> Drop for PageReservation<'_, P> {
    fn drop(&mut self) {
        if self.left > 0 {
            self.manager
                .available
                .counts
                .fetch_sub(u64::from(self.left) * RESERVED, Ordering::AcqRel);
            self.manager.wake_page_waiters();
        }
    }
}

impl<P: Platform> Manager<P> {
    /// Promises `pages` frames, if that many are neither taken nor promised.
    pub(crate) fn try_reserve_pages(&self, pages: u32) -> Option<PageReservation<'_, P>> {
        if self.platform().fail_allocation() {
            return None;
        }
        self.reserve_pages_above(0, pages)
    }

    /// Promises one frame, if as many as the minimum would be left that nobody was promised.
    pub(crate) fn try_reserve_spare_page(&self) -> Option<PageReservation<'_, P>> {
        if self.platform().fail_allocation() {
            return None;
        }
        self.reserve_pages_above(self.available.thresholds.minimum, 1)
    }

    /// Promises `pages` frames, if memory would not be short without them (MmPlentyFreePages).
    pub(crate) fn try_reserve_plentiful_pages(&self, pages: u32) -> Option<PageReservation<'_, P>> {
        if self.platform().fail_allocation() {
            return None;
        }
        self.reserve_pages_above(self.available.thresholds.plenty, pages)
    }

    /// Promises `pages` frames, if there are so many besides `rest` others.
    fn reserve_pages_above(&self, rest: u32, pages: u32) -> Option<PageReservation<'_, P>> {
        let word = &self.available.counts;
        let mut seen = word.load(Ordering::Acquire);
        while available(seen).saturating_sub(reserved(seen)) >= pages.saturating_add(rest) {
            match word.compare_exchange_weak(
                seen,
                seen + u64::from(pages) * RESERVED,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(PageReservation { manager: self, left: pages }),
                Err(actual) => seen = actual,
            }
        }
        None
    }

    /// Promises `pages` frames or says what to wait for (MiEnsureAvailablePageOrWait).
    pub(crate) fn reserve_pages(&self, pages: u32) -> Result<PageReservation<'_, P>, Wait> {
        if let Some(reservation) = self.try_reserve_pages(pages) {
            return Ok(reservation);
        }
        let wait = self.announce_page_wait();
        self.try_reserve_pages(pages).ok_or(wait)
    }

    /// Announces that somebody waits for pages; look once more before waiting.
    pub(crate) fn announce_page_wait(&self) -> Wait {
        let epoch = self.available.epoch();
        self.available.waiting.store(true, Ordering::SeqCst);
        self.platform().request(Engine::Balance);
        self.platform().request(Engine::ModifiedWriter);
        Wait { key: WaitKey::AvailablePages, epoch }
    }

    /// Counts a page that has just been linked into a list of available pages.
    pub(super) fn available_rose(&self) {
        let old = available(self.available.counts.fetch_add(1, Ordering::AcqRel));
        let Thresholds { low, high, .. } = self.available.thresholds;
        if old + 1 == low {
            self.platform().notify(Notification::LowMemoryOver);
        } else if old + 1 == high {
            self.platform().notify(Notification::HighMemory);
        }
        self.wake_page_waiters();
    }

    /// Counts a page that has left the lists of available pages without a reservation.
    pub(super) fn available_fell_by_one(&self) {
        let old = self.available.counts.fetch_sub(1, Ordering::AcqRel);
        self.available_fell(available(old));
    }

    fn available_fell(&self, old: u32) {
        let Thresholds { low, high, minimum, .. } = self.available.thresholds;
        if old == high {
            self.platform().notify(Notification::HighMemoryOver);
        } else if old == low {
            self.platform().notify(Notification::LowMemory);
        }
        if old <= minimum {
            self.platform().request(Engine::Balance);
            self.platform().request(Engine::ModifiedWriter);
        }
    }

    /// Wakes whoever waits for pages.
    pub(crate) fn wake_page_waiters(&self) {
        if self.available.waiting.load(Ordering::SeqCst)
            && self.available.waiting.swap(false, Ordering::SeqCst)
        {
            self.available.epoch.fetch_add(1, Ordering::AcqRel);
            self.platform().wake(WaitKey::AvailablePages);
        }
    }

    /// Whether some operation waits for pages.
    pub(crate) fn pages_are_awaited(&self) -> bool {
        self.available.waiting.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_grow_with_memory_up_to_nt_values() {
        let tiny = Thresholds::for_memory(64);
        assert!(tiny.minimum < tiny.plenty && tiny.plenty <= 12, "{tiny:?}");
        let medium = Thresholds::for_memory(4096);
        assert_eq!((medium.minimum, medium.plenty), (26, 400));
        assert_eq!(Thresholds::for_memory(65_536).plenty, 800);
    }
}
