//! Large pages (MEM_LARGE_PAGES, spec 16.3; API 3.2): memory of a program that a directory entry
//! maps at once, 2 MiB with 64-bit entries and 4 MiB in i386.
//!
//! Such memory is reserved and committed in one call, is there from the beginning, and is never
//! paged: it is in no working set, so that nothing that looks for pages to take away sees it. It
//! is freed as a whole, and nothing else can be done to it.
//!
//! A large page has a run of frames, whose first number is a multiple of their number. Each frame
//! has a PFN entry like that of any page that is mapped once
//! ([`FrameUse::LargePage`](crate::frames::FrameUse)), whose container is the directory entry. That
//! entry has one of three forms:
//!
//! | Form | Means |
//! |---|---|
//! | zero | nothing |
//! | unmapped | among the frames of the run it names, those in use as `LargePage` whose container it is are kept for it; no processor reaches them |
//! | valid | all frames of the run are the page's |
//!
//! The unmapped form is that of a page in transition, and like it keeps its table in memory. So
//! frames come and go a few at a time, and whatever call is given up in between, the entry still
//! says where they are: the next release finds them. An unmapped entry may name a run of which it
//! has no frame. It becomes valid when all frames of *all* pages of the allocation are there,
//! which needs neither memory nor waiting; so an allocation that fails has never been reachable.
//!
//! The charge of an allocation is that of as many small pages, with their tables.

mod allocate;
mod release;

pub use allocate::AllocateLargePages;
pub(crate) use release::ReleaseLargePages;

use ntmm_pte::{Level, PteWord, Va};

use crate::platform::Platform;
use crate::tables::{EntryRef, Walk};
use crate::working_set::WorkingSetGuard;

/// Frames or directory entries dealt with under one hold of the working-set lock.
const STRETCH: u32 = 48;

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// The directory entry of a large page and what it holds, unless that is nothing.
    fn large_entry(&self, va: Va) -> Option<(EntryRef, u64)> {
        let manager = self.manager();
        let Walk::Found(entry) = manager.walk(self.root(), va, Level::Directory) else {
            // The entry of a large page keeps its table in memory.
            return None;
        };
        let word = manager.load_entry(entry);
        if word == 0 {
            return None;
        }
        if !P::Paging::is_of_large_page(word) {
            manager.corrupt_entry(va);
        }
        Some((entry, word))
    }
}
