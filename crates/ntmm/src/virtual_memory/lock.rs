//! Locking pages into the working set or into memory (NtLockVirtualMemory,
//! NtUnlockVirtualMemory, spec 6.12; API 8).
//!
//! First every page of the range is touched, as its program would touch it; then all of them are
//! locked under one hold of the working-set lock, or none. A page that has left memory in between
//! is touched again. Address creation is owned meanwhile, so that no page is freed or protected
//! on the way. There is no count: one unlock undoes any number of locks.

use ntmm_pte::{AccessKind, Bytes, Level, Pages, PagingMode, PteWord, Va, Vpn};

use super::allocate::Region;
use super::protect::page_range;
use super::software::PageAccess;
use crate::address_space::AddressSpaceId;
use crate::manager::Manager;
use crate::operation::{Operation, Pause, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::tables::Walk;
use crate::vad::VadKind;
use crate::working_set::WorkingSetGuard;
use crate::working_set::entry::PageLock;

/// Pages of its minimum that a working set keeps for pages that are not locked.
pub const UNLOCKED_PAGES: u32 = 8;

/// Which ways to lock a page a call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locks {
    /// In the working set (MAP_PROCESS).
    WorkingSet,
    /// In memory (MAP_SYSTEM).
    Memory,
    /// Both.
    Both,
}

impl Locks {
    const fn as_slice(self) -> &'static [PageLock] {
        match self {
            Self::WorkingSet => &[PageLock::WorkingSet],
            Self::Memory => &[PageLock::Memory],
            Self::Both => &PageLock::ALL,
        }
    }
}

/// What locking yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked {
    /// The range in whole pages.
    pub region: Region,
    /// Whether a page of it was locked in one of these ways already.
    pub before: Before,
}

/// What a range was before it was locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// No page was locked.
    Unlocked,
    /// At least one was.
    Locked,
}

/// Locks the pages of a range.
///
/// Raises what touching a page raises, [`NtStatus::ACCESS_VIOLATION`] where nothing is allocated,
/// [`NtStatus::INCOMPATIBLE_FILE_MAP`] for memory that is never paged, and
/// [`NtStatus::WORKING_SET_QUOTA`] when more of the set's minimum would be locked than all but
/// [`UNLOCKED_PAGES`]. No page is locked then that was not before.
#[derive(Debug)]
#[must_use]
pub struct LockMemory {
    space: AddressSpaceId,
    base: Va,
    size: Bytes,
    locks: Locks,
    stage: Stage,
    access: PageAccess,
}

#[derive(Debug)]
enum Stage {
    Start,
    /// Address creation is owned. Pages from here on have not been touched.
    Touching(Vpn),
    /// All have been.
    Locking,
    Finished,
}

impl LockMemory {
    /// Locks the pages that `size` bytes at `base` touch.
    pub fn new(space: AddressSpaceId, base: Va, size: Bytes, locks: Locks) -> Self {
        let access = PageAccess::default();
        Self { space, base, size, locks, stage: Stage::Start, access }
    }

    fn range<M: PagingMode>(&self) -> Result<(Vpn, Vpn), NtStatus> {
        page_range::<M>(self.base, self.size).ok_or(NtStatus::INVALID_PARAMETER)
    }

    fn start<P: Platform>(&mut self, manager: &Manager<P>) -> Result<(), Pause> {
        let (start, end) = self.range::<P::Paging>()?;
        let mut entry = manager.enter();
        let mut set = manager.lock_live_space(entry.token(), self.space)?;
        set.address_creation_is_free()?;
        set.check_lockable(start, end)?;
        set.own_address_creation();
        self.stage = Stage::Touching(start);
        Ok(())
    }

    fn proceed<P: Platform>(&mut self, manager: &Manager<P>) -> Result<Locked, Pause> {
        let (start, end) = self.range::<P::Paging>()?;
        loop {
            match self.stage {
                Stage::Start => self.start(manager)?,
                Stage::Touching(page) => {
                    let va = P::Paging::va_of_vpn(page);
                    self.access.access(manager, self.space, va, AccessKind::Read, |_, _| ())?;
                    self.stage = match page.checked_add(Pages::ONE) {
                        Some(next) if page < end => Stage::Touching(next),
                        _ => Stage::Locking,
                    };
                }
                Stage::Locking => {
                    let mut entry = manager.enter();
                    let mut set = manager.lock_live_space(entry.token(), self.space)?;
                    match set.lock_pages(start, end, self.locks.as_slice())? {
                        Ok(before) => {
                            let region = Region::of_pages::<P::Paging>(start, end);
                            return Ok(Locked { region, before });
                        }
                        Err(page) => self.stage = Stage::Touching(page),
                    }
                }
                Stage::Finished => return Err(NtStatus::INVALID_PARAMETER.into()),
            }
        }
    }

    fn finish<P: Platform>(&mut self, manager: &Manager<P>) {
        if matches!(self.stage, Stage::Touching(_) | Stage::Locking) {
            manager.disown_address_creation(self.space);
        }
        self.stage = Stage::Finished;
    }
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Whether all of `start..=end` is allocated as memory that is paged, and not more than could
    /// ever be locked.
    fn check_lockable(&self, start: Vpn, end: Vpn) -> Result<(), NtStatus> {
        let mut next = start;
        while let Some(vad) = self.find_vad(next) {
            match vad.attributes.kind {
                VadKind::Private | VadKind::WriteWatch | VadKind::View | VadKind::ImageView => {}
                VadKind::PhysicalMapping
                | VadKind::AddressWindow
                | VadKind::LargePages
                | VadKind::Rotate
                | VadKind::LargePageView => return Err(NtStatus::INCOMPATIBLE_FILE_MAP),
            }
            let covered = vad.end.min(end).get() - start.get() + 1;
            if covered > u64::from(self.header().minimum()) {
                return Err(NtStatus::WORKING_SET_QUOTA);
            }
            if vad.end >= end {
                return Ok(());
            }
            next = vad.end.checked_add(Pages::ONE).unwrap_or(end);
        }
        Err(NtStatus::ACCESS_VIOLATION)
    }

    /// The list entry of the page, if it is in memory.
    fn index_of_page(&self, page: Vpn) -> Option<u32> {
        let manager = self.manager();
        let va = P::Paging::va_of_vpn(page);
        let Walk::Found(entry) = manager.walk(self.root(), va, Level::Table) else { return None };
        let word = manager.load_entry(entry);
        if !P::Paging::is_valid(word) {
            return None;
        }
        self.locate(va, manager.entry(P::Paging::valid_pfn(word)).u1())
    }

    /// Locks every page of a range, unless one has left memory: then that page is returned.
    fn lock_pages(
        &mut self,
        start: Vpn,
        end: Vpn,
        locks: &[PageLock],
    ) -> Result<Result<Before, Vpn>, NtStatus> {
        let header = self.header();
        let limit = u64::from(header.minimum().saturating_sub(UNLOCKED_PAGES));
        let locked = u64::from(header.first_dynamic());
        let mut more = 0;
        let mut before = Before::Unlocked;
        let mut absent = None;
        for page in (start.get()..=end.get()).map(Vpn::new) {
            let entry = self.index_of_page(page).map(|index| self.entry(index));
            if entry.is_none() {
                absent = absent.or(Some(page));
            }
            if !entry.is_some_and(|entry| entry.is_locked()) {
                more += 1;
            }
            if entry.is_some_and(|entry| locks.iter().any(|&lock| entry.has_lock(lock))) {
                before = Before::Locked;
            }
        }
        // What will not be locked need not come back either.
        if more > 0 && locked + more > limit {
            return Err(NtStatus::WORKING_SET_QUOTA);
        }
        if let Some(page) = absent {
            return Ok(Err(page));
        }
        for page in (start.get()..=end.get()).map(Vpn::new) {
            for &lock in locks {
                let Some(index) = self.index_of_page(page) else { return Ok(Err(page)) };
                self.add_lock(index, lock);
            }
        }
        Ok(Ok(before))
    }

    /// Unlocks every page of a range, if all are locked in all of these ways.
    fn unlock_pages(&mut self, start: Vpn, end: Vpn, locks: &[PageLock]) -> Result<(), NtStatus> {
        // Locked entries are few; a range that has more pages has one that is not locked.
        if end.get() - start.get() >= u64::from(self.header().first_dynamic()) {
            return Err(NtStatus::NOT_LOCKED);
        }
        for page in (start.get()..=end.get()).map(Vpn::new) {
            let index = self.index_of_page(page).ok_or(NtStatus::NOT_LOCKED)?;
            let entry = self.entry(index);
            if !locks.iter().all(|&lock| entry.has_lock(lock)) {
                return Err(NtStatus::NOT_LOCKED);
            }
        }
        for page in (start.get()..=end.get()).map(Vpn::new) {
            for &lock in locks {
                let index = self.index_of_page(page).ok_or(NtStatus::NOT_LOCKED)?;
                self.drop_lock(index, lock);
            }
        }
        Ok(())
    }
}

impl<P: Platform> Operation<P> for LockMemory {
    type Output = Locked;

    fn step(&mut self, manager: &Manager<P>) -> Step<Locked> {
        let outcome = self.proceed(manager);
        if !matches!(outcome, Err(Pause::Wait(_))) {
            self.finish(manager);
        }
        outcome.into()
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.finish(manager);
        self.access.abandon(manager);
    }
}

/// Unlocks the pages of a range. Yields it in whole pages.
///
/// Raises [`NtStatus::NOT_LOCKED`] when a page is not locked in a way that is to be undone; all
/// stay as they are then.
#[derive(Debug)]
#[must_use]
pub struct UnlockMemory {
    space: AddressSpaceId,
    base: Va,
    size: Bytes,
    locks: Locks,
}

impl UnlockMemory {
    /// Unlocks the pages that `size` bytes at `base` touch.
    pub const fn new(space: AddressSpaceId, base: Va, size: Bytes, locks: Locks) -> Self {
        Self { space, base, size, locks }
    }

    fn unlock<P: Platform>(&self, manager: &Manager<P>) -> Result<Region, Pause> {
        let range = page_range::<P::Paging>(self.base, self.size);
        let (start, end) = range.ok_or(NtStatus::INVALID_PARAMETER)?;
        let mut entry = manager.enter();
        let mut set = manager.lock_live_space(entry.token(), self.space)?;
        set.address_creation_is_free()?;
        set.unlock_pages(start, end, self.locks.as_slice())?;
        Ok(Region::of_pages::<P::Paging>(start, end))
    }
}

impl<P: Platform> Operation<P> for UnlockMemory {
    type Output = Region;

    fn step(&mut self, manager: &Manager<P>) -> Step<Region> {
        self.unlock(manager).into()
    }

    fn abandon(self, _manager: &Manager<P>) {}
}
