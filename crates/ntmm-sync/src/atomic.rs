//! The atomic types every other module uses.
//!
//! Built with `--cfg loom` the types come from loom and the protocols that rest on
//! them can be explored schedule by schedule; otherwise they are `core`'s.

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
