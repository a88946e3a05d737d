//! The Windows NT memory manager as a library.
//!
//! A [`Manager`] is a value that owns the physical memory a [`Platform`] hands it and gives
//! programs address spaces on it: page tables in the hardware's own format, a PFN database with
//! its page lists, working sets, virtual address descriptors, page faults of every kind a
//! private page can take, paging files with a modified-page writer, and commitment. The same
//! code runs on a simulated machine inside a process and in a kernel.
//!
//! It never blocks, allocates from no heap, has no statics and no `unsafe`. Whatever may have
//! to wait is an [`Operation`] that is stepped ([`operation`]); what has to happen in the
//! background is an engine that is stepped ([`platform::Engine`]).
//!
//! Rooms, from the bottom: [`frames`] (PFN database), [`tables`] (page-table pages),
//! [`flush`] (frames that wait for translations to be forgotten), [`working_set`], [`vad`],
//! [`paging_file`], [`commit`], [`fault`], [`address_space`], [`virtual_memory`] (the Nt calls),
//! and [`inspect`] to look at all of it.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::todo,
        clippy::unimplemented
    )
)]

#[cfg(test)]
extern crate std;

pub mod address_space;
pub mod commit;
pub mod counters;
pub mod events;
pub mod fault;
pub mod flush;
pub mod frames;
pub mod inspect;
mod manager;
pub mod operation;
pub mod paging_file;
pub mod platform;
pub mod status;
pub mod tables;
#[cfg(test)]
mod tests;
pub mod transfer;
pub mod vad;
pub mod virtual_memory;
pub mod working_set;

pub use address_space::{AddressSpaceId, DeleteAddressSpace};
pub use events::{Event, FaultKind, Notification};
pub use fault::{Fault, ProcessorMode};
pub use manager::{BootError, Config, Manager};
pub use operation::{Epoch, InPageId, Operation, Step, Wait, WaitKey};
pub use platform::{Engine, EngineStep, Platform};
pub use status::{BugCheck, BugCheckCode, NtStatus};
