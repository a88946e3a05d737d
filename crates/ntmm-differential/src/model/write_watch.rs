//! NtGetWriteWatch and NtResetWriteWatch (nt-api 17).

use std::ops::RangeInclusive;

use super::numbers::*;
use super::{Kind, Model, pages_of};
use crate::call::{Answer, Handle, Pointer, Written};

impl Model {
    pub(super) fn get_write_watch(
        &mut self,
        handle: Handle,
        flags: u32,
        base: u64,
        size: u64,
        count: Pointer,
    ) -> Result<Answer, u32> {
        self.check_watched_bytes(base, size)?;
        let count = count.ok_or(ACCESS_VIOLATION)?;
        let pointer = if self.rules.is_narrow() { 4 } else { 8 };
        // Too big is what no array in user space has room for.
        if count == 0 || count > self.rules.highest_user_address() / pointer {
            return Err(INVALID_PARAMETER_5);
        }
        self.rules.check_handle(handle)?;
        if size == 0 {
            return Err(INVALID_PARAMETER_4);
        }
        if flags > 1 {
            return Err(INVALID_PARAMETER_2);
        }
        let mut found = Vec::new();
        for (number, page) in self.pages.range_mut(self.watched(base, size)?) {
            if page.written && (found.len() as u64) < count {
                found.push(number * PAGE);
                if flags == 1 {
                    (page.written, page.written_for_good) = (false, false);
                }
            }
        }
        Ok(Answer::success(Written::Pages(found)))
    }

    pub(super) fn reset_write_watch(
        &mut self,
        handle: Handle,
        base: u64,
        size: u64,
    ) -> Result<Answer, u32> {
        self.check_watched_bytes(base, size)?;
        self.rules.check_handle(handle)?;
        if size == 0 {
            return Err(INVALID_PARAMETER_3);
        }
        for (_, page) in self.pages.range_mut(self.watched(base, size)?) {
            (page.written, page.written_for_good) = (false, false);
        }
        Ok(Answer::status(0))
    }

    fn check_watched_bytes(&self, base: u64, size: u64) -> Result<(), u32> {
        let highest = self.rules.highest_user_address();
        if base > highest {
            return Err(INVALID_PARAMETER_2);
        }
        if size > highest - base + 1 {
            return Err(INVALID_PARAMETER_3);
        }
        Ok(())
    }

    /// The pages, if they lie in one allocation that is watched.
    fn watched(&self, base: u64, size: u64) -> Result<RangeInclusive<u64>, u32> {
        let range = pages_of(base, size);
        let is_watched = self
            .allocation(*range.start())
            .is_some_and(|allocation| allocation.kind == Kind::WriteWatch);
        if is_watched && self.lies_in_one(&range) { Ok(range) } else { Err(INVALID_PARAMETER_1) }
    }
}
