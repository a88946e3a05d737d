//! Working sets: which pages of an address space are valid (spec 6).
//!
//! A working set is a list of entries, one for each valid page of the space, page tables
//! included, and a [`header`]. The list lies on pages of the address space's own
//! hyperspace; its first page begins with the header, and it grows by a page at a time. Entries
//! below FirstDynamic are permanent or locked; free entries form a list through their own words.
//!
//! Everything here belongs to the space's working-set lock, which a `WorkingSetGuard` holds.
//!
//! | File | Holds |
//! |---|---|
//! | [`header`] | the header (MMSUPPORT and MMWSL) |
//! | [`entry`] | one entry (MMWSLE) |
//! | [`guard`] | the lock, and access to header and entries |
//! | [`insert`] | free entries, growth of the list, insertion, removal |
//! | [`lock`] | locked entries and FirstDynamic |
//! | [`hash`] | the hash of entries that are not direct |
//! | [`evict`] | taking a page out |
//! | [`replace`] | growth and replacement at fault |
//! | [`trim`] | ageing and trimming one set |
//! | [`balance`] | the balance engine over all sets |
//! | [`limits`] | minimum and maximum, emptying |

pub mod balance;
pub mod entry;
pub mod evict;
pub mod guard;
pub mod hash;
pub mod header;
pub mod insert;
pub mod limits;
pub mod lock;
pub mod replace;
pub mod trim;

pub(crate) use guard::WorkingSetGuard;
pub use limits::WorkingSetLimits;
