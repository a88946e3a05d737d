//! NtProtectVirtualMemory (nt-api 5).

use super::numbers::*;
use super::{Kind, Model, State, bytes_of, pages_of};
use crate::call::{Answer, Handle, Pointer, Written};

impl Model {
    pub(super) fn protect(
        &mut self,
        handle: Handle,
        base: Pointer,
        size: Pointer,
        protection: u32,
    ) -> Answer {
        match self.change_protection(handle, base, size, protection) {
            Ok(answer) => answer,
            // Windows 8 and later store something even so (5.2).
            Err(status @ (CONFLICTING_ADDRESSES | NOT_COMMITTED)) if self.rules.is_modern() => {
                Answer { status, written: Written::OldProtection(NOACCESS) }
            }
            Err(status) => Answer::status(status),
        }
    }

    fn change_protection(
        &mut self,
        handle: Handle,
        base: Pointer,
        size: Pointer,
        protection: u32,
    ) -> Result<Answer, u32> {
        if !is_protection(protection) {
            return Err(INVALID_PAGE_PROTECTION);
        }
        let (Some(base), Some(size)) = (base, size) else {
            return Err(ACCESS_VIOLATION);
        };
        let highest = self.rules.highest_user_address();
        if base > highest {
            return Err(INVALID_PARAMETER_2);
        }
        if size == 0 || size > highest - base + 1 {
            return Err(INVALID_PARAMETER_3);
        }
        self.rules.check_handle(handle)?;
        let range = pages_of(base, size);
        let page = *range.start();
        if !self.lies_in_one(&range) {
            return Err(CONFLICTING_ADDRESSES);
        }
        let allocation = *self.allocation(page).ok_or(CONFLICTING_ADDRESSES)?;
        if allocation.kind == Kind::AddressWindow {
            // 18 forbids it without a status.
            return Err(CONFLICTING_ADDRESSES);
        }
        if is_write_copy(protection) {
            let modern = self.rules.is_modern();
            return Err(if modern { INVALID_PAGE_PROTECTION } else { INVALID_PARAMETER_4 });
        }
        let committed = |page: u64| match self.pages.get(&page).map(|page| page.state) {
            Some(State::Committed { protection }) => Some(protection),
            _ => None,
        };
        let old = committed(page).ok_or(NOT_COMMITTED)?;
        if !range.clone().all(|page| committed(page).is_some()) {
            return Err(NOT_COMMITTED);
        }
        let protection = if self.rules.is_modern() {
            with_caching_of(allocation.protection, protection)
        } else {
            protection
        };
        for (_, page) in self.pages.range_mut(range.clone()) {
            page.commit(protection);
            page.written_for_good = page.written;
        }
        let (base, size) = bytes_of(&range);
        Ok(Answer::success(Written::Protected(base, size, old)))
    }
}

/// The new protection, as far as caching belongs to the allocation (5.2). A protection has one
/// modifier at most, so a guard takes the place of it.
fn with_caching_of(allocation: u32, new: u32) -> u32 {
    if new == NOACCESS || new & GUARD != 0 {
        new
    } else if allocation & NOCACHE != 0 {
        new & 0xFF | NOCACHE
    } else {
        new & !NOCACHE
    }
}
