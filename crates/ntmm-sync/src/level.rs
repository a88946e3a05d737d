//! Lock levels as types.
//!
//! Every lock of the manager belongs to a level. Taking a lock consumes, for as long as the
//! lock is held, a [`Token`] of a level further out, and yields a token of its own level. The
//! outer token stays mutably borrowed meanwhile, so that a lock of an outer or of the same
//! level cannot be taken: the wrong order does not compile.
//!
//! Outermost first:
//!
//! | Level | Lock | Serialises |
//! |---|---|---|
//! | [`Unlocked`] | none | what an operation may do between steps |
//! | [`Section`] | control area | creating, deleting, resizing sections |
//! | [`WorkingSet`] | one address space's list | validity of its entries, its VAD tree |
//! | [`LeafTable`] | one leaf page table | the entries of 2 MiB (4 MiB on i386) |
//! | [`Frame`] | one PFN entry | counts, flags, location, an invalid word that names the frame |
//! | [`List`] | one page list | links and totals of the list |
//! | [`Shard`] | a paging-file or system-PTE shard | its bitmap |
//!
//! The address-creation level of NT, between section and working set, is not a lock that is
//! held but ownership recorded in the address space, because it lasts across waits.
//!
//! ```compile_fail
//! use ntmm_sync::level::{Frame, List, Token};
//! let mut root = Token::entry();
//! let mut list = root.descend::<List>();
//! let frame = list.descend::<Frame>(); // a frame lock under a list lock: refused
//! ```

use core::marker::PhantomData;

/// A level of the lock order. Implemented by the marker types of this module only.
pub trait Level: sealed::Sealed {}

/// `Self` lies further out than `Inner`: a lock of level `Inner` may be taken under it.
pub trait Outside<Inner: Level>: Level {}

mod sealed {
    /// Keeps the set of levels closed.
    pub trait Sealed {}
}

macro_rules! levels {
    ($($(#[$doc:meta])* $name:ident outside [$($inner:ident),*];)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}
        impl sealed::Sealed for $name {}
        impl Level for $name {}
        $(impl Outside<$inner> for $name {})*
    )*};
}

levels! {
    /// No lock is held.
    Unlocked outside [Section, WorkingSet, LeafTable, Frame, List, Shard];
    /// A control area's lock.
    Section outside [WorkingSet, LeafTable, Frame, List, Shard];
    /// An address space's working-set lock.
    WorkingSet outside [LeafTable, Frame, List, Shard];
    /// A leaf page table's lock.
    LeafTable outside [Frame, List, Shard];
    /// A PFN entry's lock.
    Frame outside [List, Shard];
    /// A page list's lock.
    List outside [Shard];
    /// The lock of a shard of a paging file or of the system PTEs.
    Shard outside [];
}

/// Proof that the innermost lock held by this thread of control is of level `L`.
#[derive(Debug)]
#[must_use]
pub struct Token<'a, L: Level> {
    level: PhantomData<L>,
    /// The outer token, which is out of use meanwhile.
    outer: PhantomData<&'a mut ()>,
}

impl<L: Level> Token<'_, L> {
    const NEW: Self = Self { level: PhantomData, outer: PhantomData };
}

impl Token<'static, Unlocked> {
    /// The token an entry point of the manager starts with. One exists per call into the
    /// manager; code below an entry point is handed its token and never makes one.
    pub const fn entry() -> Self {
        Self::NEW
    }
}

impl<L: Level> Token<'_, L> {
    /// A token of a level further in, for a lock that has just been taken. `self` cannot be
    /// used again until the returned token is gone.
    #[inline]
    pub const fn descend<Inner: Level>(&mut self) -> Token<'_, Inner>
    where
        L: Outside<Inner>,
    {
        Token::NEW
    }

    /// The same token for a shorter time.
    #[inline]
    pub const fn reborrow(&mut self) -> Token<'_, L> {
        Token::NEW
    }
}
