//! Words of the memory manager: addresses, frame numbers, protections, and every
//! form a page-table entry takes in the three paging modes.
//!
//! * [`address`]: virtual and physical addresses, page and frame numbers, counts.
//! * [`protection`]: the 5-bit protection mask and its tables.
//! * [`state`]: what a page-table word means, as a closed enum.
//! * [`prototype`]: what a word of a prototype array means, and the addresses
//!   that invalid words carry.
//! * [`list`]: the links kept in free system page-table entries.
//! * [`format`]: the bits of a word in each mode, decode and encode.
//! * [`word`]: cheap tests and constructors on raw words, for hot paths.
//! * [`layout`]: the named ranges of an address space.
//! * [`mode`]: [`I386`], [`Pae`] and [`Amd64`]: layout constants and the self-map.
//!
//! No other crate knows a bit position. Raw words travel as `u64`; a 32-bit word is
//! zero-extended. Everything here is a pure function of its arguments.
//!
//! ```
//! use ntmm_pte::{Amd64, PagingMode, Protection, PteFormat, PteState, PteWord, Va};
//!
//! let word = Amd64::demand_zero(Protection::READWRITE);
//! assert_eq!(word, 0x80);
//! assert_eq!(
//!     Amd64::decode(word),
//!     PteState::DemandZero { protection: Protection::READWRITE }
//! );
//! assert_eq!(Amd64::entry_address(Va::new(0), ntmm_pte::Level::Table), Amd64::PTE_BASE);
//! ```
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

pub mod address;
mod amd64;
pub mod format;
mod i386;
pub mod layout;
pub mod list;
pub mod mode;
mod pae;
pub mod protection;
pub mod prototype;
pub mod state;
pub mod word;

pub use address::{
    ALLOCATION_GRANULARITY, Bytes, Level, PAGE_SHIFT, PAGE_SIZE, Pa, Pages, Pfn, Slot, Va, Vpn,
};
pub use amd64::Amd64;
pub use format::PteFormat;
pub use i386::I386;
pub use layout::{Region, RegionUse};
pub use list::{ListEntry, ListLink, RunShape};
pub use mode::PagingMode;
pub use pae::Pae;
pub use protection::{Access, AccessKind, InvalidPageProtection, Modifier, Protection};
pub use prototype::{PrototypeAddress, PrototypePointer, PrototypeState, SubsectionAddress};
pub use state::{
    Owner, PageFileOffset, PagingFileNumber, PteState, TransitionPte, UsedEntries, ValidPte,
    WorkingSetHint,
};
pub use word::{Dirtiness, PteWord};
