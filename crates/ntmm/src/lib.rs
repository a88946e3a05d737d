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
//! # Embedding it
//!
//! `examples/embed.rs` is a whole platform for a toy machine and the place to start. What a host
//! does, in its order:
//!
//! 1. implement the five traits of [`platform`] and hand the machine to [`Manager::new`], which
//!    takes over the memory that [`platform::Ram::memory`] names;
//! 2. open a paging file and announce it with [`Manager::create_paging_file`];
//! 3. make address spaces with [`Manager::create_address_space`], put [`Manager::root`] into the
//!    processor's root register, and give programs memory with
//!    [`virtual_memory::Allocate`];
//! 4. on a page fault, step a [`Fault`] until it is done, parking the thread while it waits;
//! 5. report every transfer that ends to [`Manager::complete_io`], and step an engine with
//!    [`Manager::step_engine`] whenever [`platform::Executive::request`] asks for it.
//!
//! ```
//! use ntmm::{AddressSpaceId, Fault, FaultKind, Manager, NtStatus, Platform, ProcessorMode, Step, Wait};
//! use ntmm_pte::{AccessKind, Va};
//!
//! /// What a kernel's trap handler does; `park` puts the thread to sleep until the key is woken,
//! /// unless `manager.still_pending` says that it has been already.
//! fn page_fault<P: Platform>(
//!     manager: &Manager<P>,
//!     space: AddressSpaceId,
//!     va: Va,
//!     access: AccessKind,
//!     park: impl Fn(Wait),
//! ) -> Result<FaultKind, NtStatus> {
//!     let mut fault = Fault::new(space, va, access, ProcessorMode::User);
//!     loop {
//!         match manager.step(&mut fault) {
//!             Step::Done(kind) => return Ok(kind),
//!             Step::Raise(status) => return Err(status),
//!             Step::Wait(wait) => park(wait),
//!         }
//!     }
//! }
//! ```
//!
//! # Rooms
//!
//! From the bottom: [`frames`] (PFN database), [`tables`] (page-table pages),
//! [`flush`] (frames that wait for translations to be forgotten), [`working_set`], [`vad`],
//! [`paging_file`], [`commit`], [`mod@memory`] (adding it and taking it away), [`fault`], [`address_space`], [`section`],
//! [`virtual_memory`] (the calls),
//! [`nt`] (the calls as NT takes them, to the status code), and [`inspect`] to look at all of it.
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
pub mod memory;
pub mod nt;
pub mod operation;
pub mod paging_file;
pub mod platform;
pub mod section;
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
pub use memory::{AddMemoryError, RemoveMemory, RemoveMemoryError};
pub use operation::{Epoch, InPageId, Operation, Step, Wait, WaitKey};
pub use platform::{Engine, EngineStep, Platform};
pub use section::{CreateSection, MapView, SectionId, UnmapView};
pub use status::{BugCheck, BugCheckCode, NtStatus};
