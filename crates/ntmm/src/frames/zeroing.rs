//! The zeroing engine (MmZeroPageThread, spec 3.10): free frames become zeroed frames.
//!
//! Asked for when the free list reaches eight frames; a step zeroes one frame, so that a
//! host can run the engine at its lowest priority between other work.

use ntmm_sync::level::{Token, Unlocked};

use super::entry::PageLocation;
use super::lists::Position;
use crate::manager::Manager;
use crate::platform::{Engine, EngineStep, Platform};

/// Length of the free list at which zeroing is worth waking up for (MmMinimumFreePagesToZero).
pub(crate) const MINIMUM_TO_ZERO: u32 = 8;

impl<P: Platform> Manager<P> {
    pub(super) fn free_list_grew(&self) {
        if self.lists.total(PageLocation::Free) >= MINIMUM_TO_ZERO {
            self.platform().request(Engine::Zeroing);
        }
    }

    /// Zeroes one free frame (row 1).
    pub(crate) fn step_zeroing(&self, token: &mut Token<'_, Unlocked>) -> EngineStep {
        // A page that is promised may be wanted at any moment.
        if self.available.unreserved() == 0 {
            return EngineStep::Idle;
        }
        match self.take_free_for_zeroing(token) {
            Some(mut frame) => {
                self.platform().zero(frame.pfn());
                frame.end();
                self.link_on_list(&mut frame, PageLocation::Zeroed, Position::Head);
                self.counters.zeroed.add(1);
                EngineStep::Worked
            }
            None => EngineStep::Idle,
        }
    }
}
