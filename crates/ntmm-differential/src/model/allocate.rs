//! NtAllocateVirtualMemory and its extended form (nt-api 2, 3).

use std::ops::RangeInclusive;

use super::numbers::*;
use super::{
    Allocation, Failure, Kind, MOST_PAGES, Model, Placeholder, Rules, State, bytes_of, pages_of,
};
use crate::call::{Answer, Handle, Pointer, Requirements, Written};

/// Where an allocation may go whose address is chosen: first and last byte, and alignment.
struct Bounds {
    lowest: u64,
    highest: u64,
    alignment: u64,
}

/// The parameters that both calls have.
#[derive(Clone, Copy)]
struct Asked {
    handle: Handle,
    base: Pointer,
    size: Pointer,
    kind: u32,
    protection: u32,
}

impl Asked {
    fn has(&self, bits: u32) -> bool {
        self.kind & bits != 0
    }
}

impl Rules {
    fn anywhere(&self) -> Bounds {
        Bounds { lowest: LOWEST, highest: self.highest_allocated_address(), alignment: GRANULARITY }
    }

    /// The last byte that ZeroBits allow (2).
    fn limit_of(&self, zero_bits: u64) -> Result<u64, u32> {
        match zero_bits {
            0 => Ok(u64::MAX),
            21 if self.is_modern() => Err(INVALID_PARAMETER),
            1..=21 => Ok((1 << (32 - zero_bits)) - 1),
            22..=31 => Err(INVALID_PARAMETER_3),
            _ if self.is_narrow() => Err(INVALID_PARAMETER_3),
            mask => {
                let mut limit = 1;
                while limit < mask {
                    limit = limit << 1 | 1;
                }
                Ok(limit)
            }
        }
    }

    /// The types there are (row 2 of 3.1).
    fn types(&self) -> u32 {
        let newer = if self.is_modern() { RESET_UNDO } else { 0 };
        COMMIT | RESERVE | RESET | PHYSICAL | TOP_DOWN | WRITE_WATCH | LARGE_PAGES | newer
    }

    /// Rows 2 to 7 of 3.1; what holds for RESET holds for RESET_UNDO.
    fn check_type(&self, kind: u32) -> Result<(), u32> {
        let has = |bits| kind & bits != 0;
        let bad = has(!self.types())
            || !has(COMMIT | RESERVE | RESET | RESET_UNDO)
            || (has(RESET) && kind != RESET)
            || (has(RESET_UNDO) && kind != RESET_UNDO)
            || (has(LARGE_PAGES) && (!has(COMMIT) || has(PHYSICAL | WRITE_WATCH)))
            || (has(WRITE_WATCH) && !has(RESERVE))
            || (has(PHYSICAL) && (!has(RESERVE) || has(!(PHYSICAL | RESERVE | TOP_DOWN))));
        if bad { Err(INVALID_PARAMETER_5) } else { Ok(()) }
    }

    /// What requirements ask for (3.6).
    fn bounds_of(&self, asked: Requirements, base: u64) -> Result<Bounds, u32> {
        let Requirements { lowest, highest, alignment } = asked;
        let anywhere = self.anywhere();
        if asked == Requirements::default() {
            return Ok(anywhere);
        }
        let user = self.highest_user_address();
        let bad = base != 0
            || (highest != 0 && (highest % PAGE != PAGE - 1 || highest > user))
            || lowest % GRANULARITY != 0
            || lowest > user
            || (highest != 0 && lowest > highest)
            || (alignment != 0 && (!alignment.is_power_of_two() || alignment < GRANULARITY));
        if bad {
            return Err(INVALID_PARAMETER);
        }
        let or = |wish: u64, usual| if wish == 0 { usual } else { wish };
        Ok(Bounds {
            lowest: lowest.max(anywhere.lowest),
            highest: or(highest, u64::MAX).min(anywhere.highest),
            alignment: or(alignment, GRANULARITY),
        })
    }
}

impl Model {
    pub(super) fn allocate(
        &mut self,
        handle: Handle,
        base: Pointer,
        zero_bits: u64,
        size: Pointer,
        kind: u32,
        protection: u32,
    ) -> Result<Answer, Failure> {
        let limit = self.rules.limit_of(zero_bits)?;
        // The bits of placeholders are for the extended call (3.6); modern versions tell them
        // from bits that nobody knows.
        let placeholders = RESERVE_PLACEHOLDER | REPLACE_PLACEHOLDER;
        let others = kind & !placeholders;
        if self.rules.is_modern() && kind != others && others & !self.rules.types() == 0 {
            return Err(INVALID_PARAMETER.into());
        }
        self.rules.check_type(kind)?;
        let anywhere = self.rules.anywhere();
        let bounds = Bounds { highest: anywhere.highest.min(limit), ..anywhere };
        let asked = Asked { handle, base, size, kind, protection };
        self.allocate_checked(asked, &bounds)
    }

    pub(super) fn allocate_extended(
        &mut self,
        handle: Handle,
        base: Pointer,
        size: Pointer,
        kind: u32,
        protection: u32,
        requirements: Option<Requirements>,
    ) -> Result<Answer, Failure> {
        // 3.6 does not say how its checks come among those of 3.1: first.
        let bounds = match requirements {
            Some(asked) => self.rules.bounds_of(asked, base.unwrap_or(0))?,
            None => self.rules.anywhere(),
        };
        let asked = Asked { handle, base, size, kind, protection };
        let (making, replacing) = (asked.has(RESERVE_PLACEHOLDER), asked.has(REPLACE_PLACEHOLDER));
        // That a placeholder is neither committed nor of a special kind goes without saying.
        let alone = kind & !(RESERVE | RESERVE_PLACEHOLDER | TOP_DOWN) == 0;
        if ((making || replacing) && !asked.has(RESERVE))
            || (making && (protection != NOACCESS || !alone))
        {
            return Err(INVALID_PARAMETER.into());
        }
        self.rules.check_type(kind & !(RESERVE_PLACEHOLDER | REPLACE_PLACEHOLDER))?;
        self.allocate_checked(asked, &bounds)
    }

    /// From row 8 of 3.1 on.
    fn allocate_checked(&mut self, asked: Asked, bounds: &Bounds) -> Result<Answer, Failure> {
        if asked.has(PHYSICAL) && asked.protection != READWRITE {
            return Err(INVALID_PARAMETER_6.into());
        }
        if !is_protection(asked.protection) {
            return Err(INVALID_PAGE_PROTECTION.into());
        }
        let (Some(base), Some(size)) = (asked.base, asked.size) else {
            return Err(ACCESS_VIOLATION.into());
        };
        // What lies above the highest allocation belongs to the system.
        let highest = self.rules.highest_allocated_address();
        if base > highest {
            return Err(INVALID_PARAMETER_2.into());
        }
        if size > highest - base + 1 || size == 0 {
            return Err(INVALID_PARAMETER_4.into());
        }
        self.rules.check_handle(asked.handle)?;
        if asked.has(LARGE_PAGES) {
            return Err(PRIVILEGE_NOT_HELD.into());
        }
        if asked.has(RESET) {
            return self.reset(pages_of(base, size)).map_err(Into::into);
        }
        if asked.has(RESET_UNDO) {
            return self.undo_reset(pages_of(base, size));
        }
        if asked.has(REPLACE_PLACEHOLDER) {
            return self.replace(asked, pages_of(base, size));
        }
        if !asked.has(RESERVE) && base != 0 {
            return self.commit(asked, pages_of(base, size)).map_err(Into::into);
        }
        self.reserve(asked, base, size, bounds)
    }

    /// 3.2.
    fn reserve(
        &mut self,
        asked: Asked,
        base: u64,
        size: u64,
        bounds: &Bounds,
    ) -> Result<Answer, Failure> {
        // 3.2 gives no status for the base that Windows 8 refuses.
        if self.rules.is_modern() && (1..LOWEST).contains(&base) {
            return Err(INVALID_PARAMETER_2.into());
        }
        if is_write_copy(asked.protection) {
            return Err(INVALID_PAGE_PROTECTION.into());
        }
        let range = if base == 0 {
            let pages = size.div_ceil(PAGE);
            let hole = if asked.has(TOP_DOWN) {
                self.highest_hole(pages, bounds)
            } else {
                self.lowest_hole(pages, bounds)
            };
            let first = hole.ok_or(NO_MEMORY)?;
            first..=first + pages - 1
        } else {
            base / GRANULARITY * GRANULARITY / PAGE..=(base + (size - 1)) / PAGE
        };
        if self.first_taken(&range).is_some() {
            return Err(CONFLICTING_ADDRESSES.into());
        }
        if range.end() - range.start() >= MOST_PAGES {
            return Err(Failure::TooMuch);
        }
        let placeholder =
            if asked.has(RESERVE_PLACEHOLDER) { Placeholder::Empty } else { Placeholder::No };
        Ok(self.made(asked, range, placeholder))
    }

    /// REPLACE_PLACEHOLDER (3.6).
    fn replace(&mut self, asked: Asked, range: RangeInclusive<u64>) -> Result<Answer, Failure> {
        if is_write_copy(asked.protection) {
            return Err(INVALID_PAGE_PROTECTION.into());
        }
        let empty = |allocation: &Allocation| allocation.placeholder == Placeholder::Empty;
        if !self.allocation(*range.start()).is_some_and(empty)
            || self.extent(*range.start()) != Some((*range.start(), *range.end()))
        {
            return Err(CONFLICTING_ADDRESSES.into());
        }
        Ok(self.made(asked, range, Placeholder::Replaced))
    }

    /// Adds what is asked for.
    fn made(
        &mut self,
        asked: Asked,
        range: RangeInclusive<u64>,
        placeholder: Placeholder,
    ) -> Answer {
        let kind = if asked.has(WRITE_WATCH) {
            Kind::WriteWatch
        } else if asked.has(PHYSICAL) {
            Kind::AddressWindow
        } else {
            Kind::Ordinary
        };
        // With a chosen base COMMIT alone reserves too.
        let state = if asked.has(COMMIT) {
            State::Committed { protection: asked.protection }
        } else {
            State::Reserved
        };
        let (base, size) = bytes_of(&range);
        let allocation = Allocation { protection: asked.protection, kind, placeholder };
        self.add(range, allocation, state);
        Answer::success(Written::Range(base, size))
    }

    /// The first page of the lowest hole.
    fn lowest_hole(&self, pages: u64, bounds: &Bounds) -> Option<u64> {
        let unit = bounds.alignment / PAGE;
        let mut first = (bounds.lowest / PAGE).next_multiple_of(unit);
        while (first + pages) * PAGE <= bounds.highest + 1 {
            match self.last_taken(&(first..=first + pages - 1)) {
                None => return Some(first),
                Some(last) => first = (last + 1).next_multiple_of(unit),
            }
        }
        None
    }

    /// The first page of the highest hole.
    fn highest_hole(&self, pages: u64, bounds: &Bounds) -> Option<u64> {
        let unit = bounds.alignment / PAGE;
        let mut end = (bounds.highest + 1) / PAGE;
        loop {
            let first = end.checked_sub(pages)? / unit * unit;
            if first * PAGE < bounds.lowest {
                return None;
            }
            match self.first_taken(&(first..=first + pages - 1)) {
                None => return Some(first),
                Some(used) => end = used,
            }
        }
    }

    /// 3.3.
    fn commit(&mut self, asked: Asked, range: RangeInclusive<u64>) -> Result<Answer, u32> {
        let ordinary = |allocation: &Allocation| {
            allocation.kind != Kind::AddressWindow && allocation.placeholder != Placeholder::Empty
        };
        if !self.lies_in_one(&range) || !self.allocation(*range.start()).is_some_and(ordinary) {
            return Err(CONFLICTING_ADDRESSES);
        }
        if is_write_copy(asked.protection) {
            return Err(INVALID_PAGE_PROTECTION);
        }
        for (_, page) in self.pages.range_mut(range.clone()) {
            if page.state != State::Reserved {
                // Its protection is changed, which 17 takes account of for protect calls: there
                // is nothing in it on calls that come to the same.
                page.written_for_good = page.written;
            }
            page.commit(asked.protection);
        }
        let (base, size) = bytes_of(&range);
        Ok(Answer::success(Written::Range(base, size)))
    }
}
