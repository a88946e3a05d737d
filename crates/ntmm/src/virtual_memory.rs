//! The calls on virtual memory (NtAllocateVirtualMemory and its family, spec 7.4-7.7, 14).
//!
//! Each call is an operation. It owns address creation in its space from its first step to its
//! last, so that no two calls change the descriptors of one space at a time, and goes through
//! its range in stretches: a stretch is done under the working-set lock, with one flush batch,
//! and between stretches every lock is free. Descriptors, entries and charges agree at the end
//! of each stretch, so that a call may be abandoned after any of them.
//!
//! | File | Holds |
//! |---|---|
//! | `range` | going through the entries of a range |
//! | `delete` | deleting one page and the tables it empties |
//! | [`allocate`] | reserve and commit |
//! | [`free`] | release and decommit |
//! | [`protect`] | protection |
//! | [`query`] | what is where |

pub mod allocate;
pub(crate) mod delete;
pub mod free;
pub mod protect;
pub mod query;
pub(crate) mod range;

use crate::manager::Manager;
use crate::operation::{Pause, Step};
use crate::platform::Platform;

pub use allocate::{Allocate, AllocationType, Placement, Region};
pub use free::{Free, FreeType};
pub use protect::{Protect, Protected};
pub use query::{MemoryInformation, MemoryState, Query};

/// A call that is made in stages.
trait Stages<P: Platform> {
    /// What the call yields.
    type Output;

    /// Goes on from the stage it is in.
    fn proceed(&mut self, manager: &Manager<P>) -> Result<Self::Output, Pause>;

    /// Gives back what the call holds: ownership of address creation, reads, charges. Harmless
    /// before the first stage and after the last.
    fn finish(&mut self, manager: &Manager<P>);

    /// The step of the operation.
    fn step_stages(&mut self, manager: &Manager<P>) -> Step<Self::Output> {
        let outcome = self.proceed(manager);
        if !matches!(outcome, Err(Pause::Wait(_))) {
            self.finish(manager);
        }
        outcome.into()
    }
}
