//! Runs of frames for large pages (spec 16.3).
//!
//! The lists of available pages say nothing of which frames lie next to each other, so a run is
//! looked for in the database itself: from one multiple of its length to the next, without a lock.
//! What is found is a hint. Its frames are then taken one by one, each under its own lock, and a
//! frame that somebody else has taken meanwhile ends the attempt.

use ntmm_pte::{PagingMode, Pfn};

use crate::manager::Manager;
use crate::platform::Platform;

/// Frames looked at in one go, at least.
const LOOKS: u32 = 512;

/// What a look for a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunSearch {
    /// All frames of a large page from this one on seem to be available.
    Found(Pfn),
    /// There is none before this frame; look there.
    Further(Pfn),
    /// There is none.
    Nowhere,
}

impl<P: Platform> Manager<P> {
    /// The lowest frame of the database, where a search begins.
    pub(crate) fn first_frame(&self) -> Option<Pfn> {
        self.frame_numbers().next()
    }

    /// Looks for the frames of a large page from `start` on.
    pub(crate) fn look_for_run(&self, start: Pfn) -> RunSearch {
        let length = P::Paging::ENTRIES as u32;
        let mut next = start.get().checked_next_multiple_of(length);
        let mut looks = 0;
        while let Some(first) = next {
            let last = first.saturating_add(length - 1);
            if !self.frame_exists(Pfn::new(last)) {
                return RunSearch::Nowhere;
            }
            let taken = (first..=last).find(|&number| {
                looks += 1;
                !self.entry(Pfn::new(number)).state().location().is_available()
            });
            let Some(_) = taken else { return RunSearch::Found(Pfn::new(first)) };
            next = first.checked_add(length);
            if let Some(further) = next.filter(|_| looks >= LOOKS) {
                return RunSearch::Further(Pfn::new(further));
            }
        }
        RunSearch::Nowhere
    }
}
