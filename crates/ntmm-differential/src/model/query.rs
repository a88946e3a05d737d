//! NtQueryVirtualMemory (nt-api 7.1, 7.2, 7.5), and NtFlushVirtualMemory (10).

use super::numbers::*;
use super::{Model, State};
use crate::call::{Answer, Basic, Handle, Pointer, Region, Written};

impl Model {
    pub(super) fn query(&self, handle: Handle, address: u64) -> Result<Answer, u32> {
        if address > self.rules.highest_user_address() {
            return Err(INVALID_PARAMETER);
        }
        self.rules.check_handle(handle)?;
        Ok(Answer::success(Written::Basic(self.basic(address / PAGE))))
    }

    fn basic(&self, page: u64) -> Basic {
        let base = page * PAGE;
        let Some((first, last)) = self.extent(page) else {
            if base == SHARED_DATA {
                let (state, protection, size) = (COMMIT, READONLY, PAGE);
                let (allocation_base, allocation_protection) = (base, READONLY);
                let kind = PRIVATE;
                return Basic {
                    base,
                    allocation_base,
                    allocation_protection,
                    size,
                    state,
                    protection,
                    kind,
                };
            }
            // What lies above the highest allocation belongs to the system.
            let behind = (self.rules.highest_allocated_address() + 1) / PAGE;
            let end = self.first_taken(&(page..=behind)).unwrap_or(behind) * PAGE;
            let (state, protection) = (FREE, NOACCESS);
            return Basic { base, size: end - base, state, protection, ..Basic::default() };
        };
        let state_of = |page: &u64| self.pages.get(page).map(|page| page.state);
        let here = state_of(&page);
        let run = (page..=last).take_while(|page| state_of(page) == here).count() as u64;
        let (state, protection) = match here {
            Some(State::Committed { protection }) => (COMMIT, protection),
            _ => (RESERVE, 0),
        };
        Basic {
            base,
            allocation_base: first * PAGE,
            allocation_protection: self.allocation(page).map_or(0, |made| made.protection),
            size: run * PAGE,
            state,
            protection,
            kind: PRIVATE,
        }
    }

    /// NtFlushVirtualMemory (10): there is no view to flush.
    pub(super) fn flush(&self, handle: Handle, base: Pointer, size: Pointer) -> u32 {
        let (Some(base), Some(size)) = (base, size) else {
            return ACCESS_VIOLATION;
        };
        let highest = self.rules.highest_user_address();
        if base > highest || size > highest - base + 1 {
            return INVALID_PARAMETER_2;
        }
        self.rules.check_handle(handle).err().unwrap_or(NOT_MAPPED_VIEW)
    }

    pub(super) fn query_region(&self, handle: Handle, address: u64) -> Result<Answer, u32> {
        self.rules.check_handle(handle)?;
        let page = address / PAGE;
        // In the narrow layout it lies above all descriptors and has none.
        if page == SHARED_DATA / PAGE && !self.rules.is_narrow() {
            return Ok(Answer::success(Written::Region(Region {
                base: SHARED_DATA,
                protection: READONLY,
                kind: 0,
                size: PAGE,
                committed: PAGE,
            })));
        }
        let (first, last) = self.extent(page).ok_or(INVALID_ADDRESS)?;
        let committed = self
            .pages
            .range(first..=last)
            .filter(|(_, page)| page.state != State::Reserved)
            .count() as u64;
        Ok(Answer::success(Written::Region(Region {
            base: first * PAGE,
            protection: self.allocation(page).map_or(0, |made| made.protection),
            kind: 0,
            size: (last - first + 1) * PAGE,
            committed: committed * PAGE,
        })))
    }
}
