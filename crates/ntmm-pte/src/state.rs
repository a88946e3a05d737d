//! What a word of a page table means.
//!
//! A page-table word is in exactly one of the states of [`PteState`]; the order in
//! which they are told apart is that of spec 2.1 and is written down once, in
//! [`crate::PteFormat::decode`]. Hardware reads only [`PteState::Valid`]; every other
//! state is the manager's own note of where the page is.
//!
//! A word changes by compare-and-swap: a valid one because hardware may set its
//! accessed and dirty bits at any time, one in transition form only while its frame is
//! locked.
//!
//! **One word has two readings.** A demand-zero word is its protection and nothing
//! else, so demand zero without access would be the zero word, which means that the
//! VAD knows: `DemandZero { ZERO_ACCESS }` encodes to zero and reads back as
//! [`PteState::Zero`].

use core::num::NonZeroU32;

use crate::{Pfn, Protection, PrototypePointer};

/// Who may use a mapping.
#[derive(Copy, Clone, Default, Eq, PartialEq, Hash, Debug)]
pub enum Owner {
    /// Only kernel mode.
    #[default]
    Kernel,
    /// User mode too.
    User,
}

/// One of the 16 paging files. NT's `PageFileLow`.
#[derive(Copy, Clone, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct PagingFileNumber(u8);

impl PagingFileNumber {
    /// Paging files a word can tell apart.
    pub const COUNT: usize = 16;

    /// Paging file `number`, or `None` from 16 on.
    #[inline]
    pub const fn new(number: u8) -> Option<Self> {
        if (number as usize) < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// The file in the low four bits of `word`.
    #[inline]
    pub(crate) const fn from_low_bits(word: u64) -> Self {
        Self((word & 0xF) as u8)
    }

    /// The number, below 16.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// A page slot of a paging file, counted in pages from the file's start; never 0,
/// since slot 0 of every file is left unused to mean "none". NT's `PageFileHigh`.
///
/// A paging file must not be given slots above [`crate::PteFormat::MAX_PAGE_FILE_OFFSET`]
/// of the mode; it is checked once, when the file is created.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct PageFileOffset(NonZeroU32);

impl PageFileOffset {
    /// Slot `slot`, or `None` for slot 0.
    #[inline]
    pub const fn new(slot: u32) -> Option<Self> {
        match NonZeroU32::new(slot) {
            Some(slot) => Some(Self(slot)),
            None => None,
        }
    }

    /// The slot number.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// How many entries of a page table are not zero, kept in the entry that names the
/// table while the table itself is in a paging file. NT's `UsedPageTableEntries`.
///
/// i386 words have no room for it ([`crate::PteFormat::KEEPS_USED_ENTRIES`]): there it is
/// always [`UsedEntries::NONE`] and the count is kept beside the working-set list.
#[derive(Copy, Clone, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct UsedEntries(u16);

impl UsedEntries {
    /// No entry is in use, or the mode keeps no count.
    pub const NONE: Self = Self(0);
    /// The largest count the field holds.
    pub const MAX: u16 = 0x3FF;

    /// A count of `entries`, or `None` above [`UsedEntries::MAX`].
    #[inline]
    pub const fn new(entries: u16) -> Option<Self> {
        if entries <= Self::MAX { Some(Self(entries)) } else { None }
    }

    /// The count in the low ten bits of `word`.
    #[inline]
    pub(crate) const fn from_low_bits(word: u64) -> Self {
        Self((word & Self::MAX as u64) as u16)
    }

    /// The count.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Where in the working-set list a valid page's entry probably is: the low 11 bits of
/// its index, 0 when nothing is known. Only amd64 words have room for it. NT's
/// `SoftwareWsIndex`.
#[derive(Copy, Clone, Default, Eq, PartialEq, Hash, Debug)]
pub struct WorkingSetHint(u16);

impl WorkingSetHint {
    /// Nothing is known.
    pub const NONE: Self = Self(0);
    /// The largest hint the field holds.
    pub const MAX: u16 = 0x7FF;

    /// The hint for working-set index `index`: its low 11 bits.
    #[inline]
    pub const fn for_index(index: u64) -> Self {
        Self((index & Self::MAX as u64) as u16)
    }

    /// The low 11 bits of the index.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// A valid entry: the form hardware walks (spec 2.10).
///
/// Fields that a mode has no bit for are `false` or [`WorkingSetHint::NONE`] there, and
/// are not encoded.
#[derive(Copy, Clone, Default, Eq, PartialEq, Hash, Debug)]
pub struct ValidPte {
    /// The frame mapped, or for a large page its first frame with the attribute-table
    /// bit of large entries in bit 0.
    pub pfn: Pfn,
    /// Hardware lets writes through (bit 1).
    pub writable: bool,
    /// Who may use the mapping (bit 2).
    pub owner: Owner,
    /// Writes go through the cache (bit 3).
    pub write_through: bool,
    /// The cache is not used (bit 4).
    pub cache_disable: bool,
    /// Used since it was last cleared; hardware sets it (bit 5).
    pub accessed: bool,
    /// Written since it was last cleared; hardware sets it (bit 6).
    pub dirty: bool,
    /// In a directory, maps a large page (bit 7).
    pub large: bool,
    /// Survives a change of address space in the translation buffer (bit 8).
    pub global: bool,
    /// Software: a write makes a private copy (bit 9).
    pub copy_on_write: bool,
    /// Software: always clear in words the manager writes (bit 10).
    pub prototype: bool,
    /// Software: the page may be written, on multiprocessor i386 kernels that grant
    /// hardware write only once the page is dirty (bit 11). Decoded and kept, never set
    /// by the constructors of [`crate::PteWord`].
    pub software_write: bool,
    /// Instructions may not be fetched (bit 63; PAE and amd64).
    pub no_execute: bool,
    /// Software: index hint (bits 52 to 62; amd64).
    pub working_set_hint: WorkingSetHint,
}

/// An entry whose frame still holds the page although hardware may not use it: on the
/// standby or modified list, or with I/O in progress (spec 2.4).
#[derive(Copy, Clone, Default, Eq, PartialEq, Hash, Debug)]
pub struct TransitionPte {
    /// The frame that holds the page.
    pub pfn: Pfn,
    /// What the page may be used for.
    pub protection: Protection,
    /// Left over from the valid word (bit 1).
    pub write: bool,
    /// Left over from the valid word (bit 2).
    pub owner: Owner,
    /// Left over from the valid word (bit 3).
    pub write_through: bool,
    /// Left over from the valid word (bit 4).
    pub cache_disable: bool,
}

/// The state of a word in a page table, at any level.
///
/// The same bits in a prototype array mean something else where the Prototype bit is
/// set: see [`crate::PrototypeState`].
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum PteState {
    /// Nothing is known: the VAD says what the page is (spec 2.9).
    Zero,
    /// Mapped (spec 2.10).
    Valid(ValidPte),
    /// A page of zeroes on first use; also the decommitted and no-access marks (spec 2.2).
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
        /// For a page-table page, how many of its entries are not zero.
        used_entries: UsedEntries,
    },
    /// Still in a frame (spec 2.4).
    Transition(TransitionPte),
    /// The page is shared and its prototype is at this address (spec 2.5).
    PrototypePointer(PrototypePointer),
    /// The page is shared, the VAD finds the prototype, and the protection is this
    /// word's rather than the prototype's (spec 2.6).
    PrototypeLookup {
        /// What the page may be used for in this address space.
        protection: Protection,
    },
}

impl PteState {
    /// Whether the page was decommitted: address not usable although its VAD says so.
    #[inline]
    pub const fn is_decommitted(&self) -> bool {
        matches!(self, Self::DemandZero { protection } if protection.is_decommitted())
    }

    /// The protection the word itself carries; `None` for zero and valid words. Of a
    /// prototype pointer it is meaningful only where the mode stores it
    /// ([`PrototypePointer::protection`]).
    #[inline]
    pub const fn protection(&self) -> Option<Protection> {
        match self {
            Self::Zero | Self::Valid(_) => None,
            Self::DemandZero { protection }
            | Self::PageFile { protection, .. }
            | Self::PrototypeLookup { protection } => Some(*protection),
            Self::Transition(transition) => Some(transition.protection),
            Self::PrototypePointer(pointer) => Some(pointer.protection),
        }
    }

    /// Whether committed memory refuses every access.
    #[inline]
    pub const fn is_no_access(&self) -> bool {
        matches!(self.protection(), Some(protection) if protection.is_no_access())
    }

    /// Whether some page or prototype stands behind the word, so that deleting it has
    /// something to give back (spec 2.1).
    #[inline]
    pub const fn is_mapping(&self) -> bool {
        !matches!(self, Self::Zero | Self::DemandZero { .. })
    }
}
