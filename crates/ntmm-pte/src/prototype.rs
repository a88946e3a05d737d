//! Prototype entries and the addresses that invalid words carry.
//!
//! A prototype is a page-table word that hardware never walks: a section keeps one per
//! page, in paged pool, and it alone says where the shared page is. A page table points
//! at it ([`PrototypePointer`], spec 2.5) and, when a page of a mapped file is not in
//! memory, the prototype points at its subsection (spec 2.7).
//!
//! i386 words have 30 bits to say where, counted from a pool's start; the other modes
//! hold a whole pointer. [`PrototypeAddress`] and [`SubsectionAddress`] are made by the
//! mode ([`crate::PteFormat::prototype_address`], [`crate::PteFormat::subsection_address`])
//! only from addresses its words can hold, so that encoding cannot fail.

use crate::{PageFileOffset, PagingFileNumber, Protection, TransitionPte, Va, ValidPte};

/// The address of a prototype entry that a word of the mode it was made by can hold.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct PrototypeAddress(Va);

impl PrototypeAddress {
    #[inline]
    pub(crate) const fn trusted(address: u64) -> Self {
        Self(Va::new(address))
    }

    /// The address of the prototype entry.
    #[inline]
    pub const fn va(self) -> Va {
        self.0
    }
}

/// The address of a subsection that a word of the mode it was made by can hold.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct SubsectionAddress(Va);

impl SubsectionAddress {
    #[inline]
    pub(crate) const fn trusted(address: u64) -> Self {
        Self(Va::new(address))
    }

    /// The address of the subsection.
    #[inline]
    pub const fn va(self) -> Va {
        self.0
    }
}

/// A page-table word that points at its prototype (spec 2.5).
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct PrototypePointer {
    /// Where the prototype is.
    pub address: PrototypeAddress,
    /// The page is read-only here whatever the prototype says.
    pub read_only: bool,
    /// Protection stored in the word (PAE and amd64). i386 has no room: there it is
    /// [`Protection::ZERO_ACCESS`] and is not encoded.
    pub protection: Protection,
}

/// The state of a word in a prototype array.
///
/// It differs from [`crate::PteState`] where the Prototype bit is set.
/// `DemandZero { ZERO_ACCESS }` encodes to zero, as it does there.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum PrototypeState {
    /// The page is not committed, or lies outside the section.
    Zero,
    /// In a frame that some page table maps (spec 2.10).
    Valid(ValidPte),
    /// A page of zeroes on first use (spec 2.2).
    DemandZero {
        /// What the page may be used for.
        protection: Protection,
    },
    /// In a paging file (spec 2.3).
    PageFile {
        /// Which paging file.
        file: PagingFileNumber,
        /// Which slot of it.
        offset: PageFileOffset,
        /// What the page may be used for.
        protection: Protection,
    },
    /// Still in a frame, which no page table maps (spec 2.4).
    Transition(TransitionPte),
    /// In a mapped file: the subsection says where in it (spec 2.7).
    Subsection {
        /// The subsection that holds the page.
        address: SubsectionAddress,
        /// What the page may be used for.
        protection: Protection,
    },
}
