//! Minimum and maximum, and emptying (MmAdjustWorkingSetSize, spec 6.13, 6.16).

use super::entry::Age;
use super::header::MAXIMUM_HARD;
use super::trim::{Ageing, TrimOrder};
use crate::address_space::AddressSpaceId;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;

/// The limits of a working set, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkingSetLimits {
    minimum: u32,
    maximum: u32,
    hardness: Hardness,
}

/// Whether the maximum may be exceeded while memory is plenty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardness {
    /// It may.
    Soft,
    /// Never (MaximumWorkingSetHard).
    Hard,
}

/// The smallest minimum: the manager's own pages and a page with its tables.
pub const SMALLEST_MINIMUM: u32 = 12;

impl WorkingSetLimits {
    /// Limits of `minimum` and `maximum` pages; both are raised to [`SMALLEST_MINIMUM`].
    ///
    /// # Errors
    /// [`NtStatus::BAD_WORKING_SET_LIMIT`] when the minimum lies above the maximum.
    pub const fn new(minimum: u32, maximum: u32, hardness: Hardness) -> Result<Self, NtStatus> {
        if minimum > maximum {
            return Err(NtStatus::BAD_WORKING_SET_LIMIT);
        }
        Ok(Self {
            minimum: if minimum < SMALLEST_MINIMUM { SMALLEST_MINIMUM } else { minimum },
            maximum: if maximum < SMALLEST_MINIMUM { SMALLEST_MINIMUM } else { maximum },
            hardness,
        })
    }

    /// NT's defaults for a machine with `frames` frames.
    #[must_use]
    pub const fn for_memory(frames: u32) -> Self {
        let (minimum, maximum) = match frames {
            0..=4864 => (20, 45),
            4865..=8192 => (30, 145),
            _ => (50, 345),
        };
        Self { minimum, maximum, hardness: Hardness::Soft }
    }

    /// The minimum.
    #[must_use]
    pub const fn minimum(self) -> u32 {
        self.minimum
    }

    /// The maximum.
    #[must_use]
    pub const fn maximum(self) -> u32 {
        self.maximum
    }

    pub(crate) const fn flags(self) -> u64 {
        match self.hardness {
            Hardness::Soft => 0,
            Hardness::Hard => MAXIMUM_HARD,
        }
    }
}

/// Empties a working set: every page that is not locked leaves it and stays soft-faultable.
#[derive(Debug)]
pub struct EmptyWorkingSet {
    space: AddressSpaceId,
    next: u32,
    /// Page tables follow in a second pass, when the pages below them have left.
    passes_left: u32,
}

impl EmptyWorkingSet {
    /// Empties the set of `space`.
    #[must_use]
    pub const fn new(space: AddressSpaceId) -> Self {
        Self { space, next: 0, passes_left: 1 }
    }
}

impl<P: Platform> Operation<P> for EmptyWorkingSet {
    type Output = ();

    fn step(&mut self, manager: &Manager<P>) -> Step<()> {
        let mut entry = manager.enter();
        loop {
            let mut batch = match manager.begin_flush(self.space) {
                Ok(batch) => batch,
                Err(wait) => return Step::Wait(wait),
            };
            let Some(mut set) = manager.lock_space(entry.token(), self.space) else {
                return Step::Raise(NtStatus::INVALID_HANDLE);
            };
            let order =
                TrimOrder { age: Age::YOUNG, pages: u32::MAX, floor: 0, ageing: Ageing::No };
            let visit = set.visit(self.next, u32::MAX, order, &mut batch);
            batch.finish(set.token());
            match visit.next {
                Some(next) => self.next = next,
                None if self.passes_left > 0 => {
                    self.passes_left -= 1;
                    self.next = 0;
                }
                None => return Step::Done(()),
            }
        }
    }

    fn abandon(self, _manager: &Manager<P>) {}
}
