//! NtFreeVirtualMemory (nt-api 4).

use std::ops::RangeInclusive;

use super::numbers::*;
use super::{Allocation, Contents, Kind, Model, Placeholder, State, bytes_of, pages_of};
use crate::call::{Answer, Handle, Pointer, Written};

const PRESERVE: u32 = RELEASE | PRESERVE_PLACEHOLDER;
const COALESCE: u32 = RELEASE | COALESCE_PLACEHOLDERS;

impl Model {
    pub(super) fn free(
        &mut self,
        handle: Handle,
        base: Pointer,
        size: Pointer,
        kind: u32,
    ) -> Result<Answer, u32> {
        let known: &[u32] = if self.rules.is_modern() {
            &[DECOMMIT, RELEASE, PRESERVE, COALESCE]
        } else {
            &[DECOMMIT, RELEASE]
        };
        if !known.contains(&kind) {
            return Err(INVALID_PARAMETER_4);
        }
        let (Some(base), Some(size)) = (base, size) else {
            return Err(ACCESS_VIOLATION);
        };
        let highest = self.rules.highest_user_address();
        if base > highest {
            return Err(INVALID_PARAMETER_2);
        }
        if size > highest - base + 1 {
            return Err(INVALID_PARAMETER_3);
        }
        // 4.3 does not say whether this comes before the handle.
        if size == 0 && [PRESERVE, COALESCE].contains(&kind) {
            return Err(INVALID_PARAMETER_3);
        }
        self.rules.check_handle(handle)?;
        let page = base / PAGE;
        let (first, last) = self.extent(page).ok_or(MEMORY_NOT_ALLOCATED)?;
        let asked = pages_of(base, size.max(1));
        if kind == COALESCE {
            return self.coalesce(asked);
        }
        if *asked.end() > last {
            return Err(UNABLE_TO_FREE_VM);
        }
        if size == 0 && page != first {
            return Err(FREE_VM_NOT_AT_BASE);
        }
        let range = if size == 0 { first..=last } else { asked };
        let is_whole = range == (first..=last);
        let allocation = *self.allocation(page).ok_or(MEMORY_NOT_ALLOCATED)?;
        if allocation.kind == Kind::AddressWindow {
            match kind {
                DECOMMIT => return Err(MEMORY_NOT_ALLOCATED),
                // Whole only; 4.2 does not say what a part gives.
                RELEASE if !is_whole => return Err(UNABLE_TO_FREE_VM),
                _ => {}
            }
        }
        match kind {
            PRESERVE => self.preserve(&range, &allocation, is_whole)?,
            DECOMMIT => self.decommit(range.clone()),
            _ => self.release(range.clone(), last),
        }
        let (from, bytes) = bytes_of(&range);
        let whole_decommit = kind == DECOMMIT && size == 0;
        let written = if whole_decommit && self.rules.is_modern() { 0 } else { bytes };
        Ok(Answer::success(Written::Range(from, written)))
    }

    fn decommit(&mut self, range: RangeInclusive<u64>) {
        self.forget_stores(&range);
        for (_, page) in self.pages.range_mut(range) {
            page.state = State::Reserved;
            page.contents = Contents::Untouched;
            page.locks = 0;
            page.written = page.written_for_good;
        }
    }

    /// Frees pages of the allocation that ends at `last`; what is behind them becomes one of its
    /// own.
    fn release(&mut self, range: RangeInclusive<u64>, last: u64) {
        if *range.end() < last {
            self.part(range.end() + 1..=last);
        }
        self.forget_stores(&range);
        for page in range {
            self.pages.remove(&page);
        }
    }

    /// RELEASE with PRESERVE_PLACEHOLDER (4.3).
    fn preserve(
        &mut self,
        range: &RangeInclusive<u64>,
        allocation: &Allocation,
        is_whole: bool,
    ) -> Result<(), u32> {
        match allocation.placeholder {
            Placeholder::Empty if !is_whole => {
                let (_, last) = self.extent(*range.start()).ok_or(MEMORY_NOT_ALLOCATED)?;
                if *range.end() < last {
                    self.part(range.end() + 1..=last);
                }
                self.part(range.clone());
                Ok(())
            }
            // Part of what replaced a placeholder is not spoken of.
            Placeholder::Replaced if is_whole => {
                let empty = Allocation {
                    protection: NOACCESS,
                    kind: Kind::Ordinary,
                    placeholder: Placeholder::Empty,
                };
                self.forget_stores(range);
                self.add(range.clone(), empty, State::Reserved);
                Ok(())
            }
            _ => Err(CONFLICTING_ADDRESSES),
        }
    }

    /// RELEASE with COALESCE_PLACEHOLDERS (4.3).
    fn coalesce(&mut self, range: RangeInclusive<u64>) -> Result<Answer, u32> {
        let mut placeholders = 0;
        let mut page = *range.start();
        while page <= *range.end() {
            let empty = |allocation: &Allocation| allocation.placeholder == Placeholder::Empty;
            let extent = self.extent(page);
            match extent {
                Some((first, last))
                    if first == page
                        && last <= *range.end()
                        && self.allocation(page).is_some_and(empty) =>
                {
                    placeholders += 1;
                    page = last + 1;
                }
                _ => return Err(CONFLICTING_ADDRESSES),
            }
        }
        if placeholders < 2 {
            return Err(CONFLICTING_ADDRESSES);
        }
        self.part(range.clone());
        let (base, size) = bytes_of(&range);
        Ok(Answer::success(Written::Range(base, size)))
    }
}
