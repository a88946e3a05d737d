//! The PFN database: one [`entry`](entry::PfnEntry) per frame of memory, and the lists that
//! frames without an owner are on (MmPfnDatabase, spec 3).
//!
//! A frame is in exactly one [`PageLocation`]. The moves between them, as in the transition
//! table of spec 3.11, and the functions that make them:
//!
//! | # | From | Event | To | Made by |
//! |---|---|---|---|---|
//! | 1 | Free | zeroing engine | Zeroed | `step_zeroing` |
//! | 2 | Zeroed, Free | taken for a page, table, list | Active | `take_frame` |
//! | 3 | Standby | soft fault | Active | `resolve_transition` |
//! | 4 | Standby | frame needed elsewhere | taken | `take_frame` (repurposing) |
//! | 5, 6, 7 | Active | last valid entry removed | Transition | `evict`; the flush batch holds a reference |
//! | 8, 9 | Transition | last reference dropped | Standby, Modified | `drop_reference` |
//! | 10 | Active, Transition | owner deletes the page | Free | `delete_page`, then `drop_reference` |
//! | 11 | Modified | writer selects it | Transition | `gather` |
//! | 12, 13, 14 | Transition | write completes or fails | Standby, Modified | `complete_write` |
//! | 15 | Modified | soft fault | Active | `resolve_transition` |
//! | 16 | Modified-no-write | writing allowed again | Modified | `release_modified_no_write` |
//! | 17 | Zeroed, Free | page read started | Transition | `resolve_page_file` |
//! | 18, 19 | Transition | read completes or fails | Active, Standby, Free | `complete_read`, `release_read` |
//! | 20 | Active, Transition | last reference dropped, removal requested, nothing to write | Bad | `drop_reference` |
//! | 21 | Transition | last lock dropped | Standby, Modified | `drop_reference` |
//!
//! Memory comes and goes besides ([`memory`](crate::memory)): Absent to Free when a range is
//! added; Zeroed, Free and Standby to Bad (`set_aside`) while one is being removed, and from
//! there to Absent, or back to Free when nothing comes of it.
//!
//! A physical page that a process allocates (AWE) goes from Zeroed or Free to Active, is Active
//! whether it is mapped or not, and goes through Transition to Free when it is given back.
//!
//! A frame of a large page goes from Zeroed, Free or Standby to Active (`take_named`), and is
//! Active until no processor can reach it and it is Free again.
//!
//! A page whose contents have been reset (MEM_RESET, `contents`) goes from Modified to Standby
//! at once, and takes rows 5 and 8 as any unmodified page does, but to the head of the list, where
//! one that is on standby already moves too: its frame is the first to be taken.
//!
//! NT counts rows 5 and 6 as direct moves to a list. Here every frame that loses its last
//! mapping first waits, in Transition with one reference, until all processors have forgotten
//! the translation (row 7); only then does it reach a list.
//!
//! Locks: an entry's fields belong to its bit lock, except links, which belong to the lock of
//! the list the frame is on, and the share count of a page-table page, which is atomic. See
//! [`entry`] for the tag of each field.

pub mod available;
pub mod colors;
pub(crate) mod contents;
pub mod contiguous;
pub mod entry;
pub mod guard;
pub mod lists;
pub mod take;
pub mod zeroing;

pub use available::PageReservation;
pub use entry::{FrameUse, PageLocation};
pub use guard::FrameGuard;
