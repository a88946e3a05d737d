//! NtLockVirtualMemory and NtUnlockVirtualMemory (nt-api 8).

use std::ops::RangeInclusive;

use super::numbers::*;
use super::{Contents, Doubt, Failure, Kind, Model, Open, bytes_of, pages_of};
use crate::call::{Answer, Handle, Pointer, Privilege, Touch, Written};

/// Pages a working set has at least.
const MINIMUM: u64 = 50;

/// Pages of them that can be locked at most.
const MOST_LOCKED: u64 = MINIMUM - 8;

/// Pages among those that the manager may need for itself. 8 leaves open how many it does.
const OVERHEAD: u64 = 16;

impl Model {
    pub(super) fn lock(
        &mut self,
        handle: Handle,
        base: Pointer,
        size: Pointer,
        kind: u32,
        privilege: Privilege,
    ) -> Result<Answer, Failure> {
        let range = self.check_lock(handle, base, size, kind, privilege)?;
        self.check_lockable(&range)?;
        for page in range.clone() {
            let given_up = self.pages.get(&page).map(|page| page.contents);
            self.access(page * PAGE, Touch::Read)?;
            if given_up == Some(Contents::GivenUp) {
                self.doubt_stores(page);
            }
        }
        let pages = || self.pages.range(range.clone()).map(|(_, page)| page.locks);
        let locked = self.pages.values().filter(|page| page.locks != 0).count() as u64;
        let more = pages().filter(|&locks| locks == 0).count() as u64;
        if more > 0 && locked + more > MOST_LOCKED {
            return Err(WORKING_SET_QUOTA.into());
        }
        let status = if pages().any(|locks| locks & kind != 0) { WAS_LOCKED } else { 0 };
        let (base, size) = bytes_of(&range);
        let success = Answer { status, written: Written::Range(base, size) };
        if more > 0 && locked + more > MOST_LOCKED - OVERHEAD {
            let answers = [success, Answer::status(WORKING_SET_QUOTA)];
            return Err(Failure::Open(Box::new(Open {
                answers,
                doubt: Doubt::Locks(range, kind),
            })));
        }
        self.add_locks(&range, kind);
        Ok(success)
    }

    pub(super) fn unlock(
        &mut self,
        handle: Handle,
        base: Pointer,
        size: Pointer,
        kind: u32,
        privilege: Privilege,
    ) -> Result<Answer, u32> {
        let range = self.check_lock(handle, base, size, kind, privilege)?;
        let is_locked = |page| self.pages.get(&page).is_some_and(|page| page.locks & kind == kind);
        if !range.clone().all(is_locked) {
            return Err(NOT_LOCKED);
        }
        for (_, page) in self.pages.range_mut(range.clone()) {
            page.locks &= !kind;
        }
        let (base, size) = bytes_of(&range);
        Ok(Answer::success(Written::Range(base, size)))
    }

    /// Rows 1 to 5.
    fn check_lock(
        &self,
        handle: Handle,
        base: Pointer,
        size: Pointer,
        kind: u32,
        privilege: Privilege,
    ) -> Result<RangeInclusive<u64>, u32> {
        if kind == 0 || kind & !(MAP_PROCESS | MAP_SYSTEM) != 0 {
            return Err(INVALID_PARAMETER);
        }
        let (Some(base), Some(size)) = (base, size) else {
            return Err(ACCESS_VIOLATION);
        };
        let highest = self.rules.highest_user_address();
        if base > highest || size == 0 || size > highest - base + 1 {
            return Err(INVALID_PARAMETER);
        }
        self.rules.check_handle(handle)?;
        if kind & MAP_SYSTEM != 0 && privilege == Privilege::Missing {
            return Err(PRIVILEGE_NOT_HELD);
        }
        Ok(pages_of(base, size))
    }

    /// Rows 6 and 7, allocation by allocation. A range that is longer than a working set has to
    /// be is not touched: where row 9 comes for it is left open.
    fn check_lockable(&self, range: &RangeInclusive<u64>) -> Result<(), u32> {
        let mut page = *range.start();
        loop {
            let (_, last) = self.extent(page).ok_or(ACCESS_VIOLATION)?;
            if self.allocation(page).is_some_and(|found| found.kind == Kind::AddressWindow) {
                return Err(INCOMPATIBLE_FILE_MAP);
            }
            if last.min(*range.end()) - range.start() >= MINIMUM {
                return Err(WORKING_SET_QUOTA);
            }
            if last >= *range.end() {
                return Ok(());
            }
            page = last + 1;
        }
    }

    /// The pages of `range` are locked in these ways, beside others.
    pub(super) fn add_locks(&mut self, range: &RangeInclusive<u64>, locks: u32) {
        for (_, page) in self.pages.range_mut(range.clone()) {
            page.locks |= locks;
        }
    }
}
