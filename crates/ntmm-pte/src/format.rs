//! The bits of a page-table word.
//!
//! The three modes agree on the low twelve bits and differ in where they keep wide
//! fields. What is common is written here once; a mode says how wide its fields are and
//! how it packs pointers (see [`I386`](crate::I386), [`Pae`](crate::Pae),
//! [`Amd64`](crate::Amd64) for the complete tables).
//!
//! | bit  | valid (2.10)        | transition (2.4) | demand zero, page file (2.2, 2.3) |
//! |------|---------------------|------------------|-----------------------------------|
//! | 0    | 1                   | 0                | 0                                 |
//! | 1    | writable            | write            | paging file number, 1-4           |
//! | 2    | owner               | owner            |                                   |
//! | 3    | write through       | write through    |                                   |
//! | 4    | cache disable       | cache disable    |                                   |
//! | 5    | accessed            | protection, 5-9  | protection, 5-9                   |
//! | 6    | dirty               |                  |                                   |
//! | 7    | large               |                  |                                   |
//! | 8    | global              |                  |                                   |
//! | 9    | copy on write       |                  |                                   |
//! | 10   | prototype           | 0                | 0                                 |
//! | 11   | software write      | 1                | 0                                 |
//! | 12.. | frame               | frame            | page-file offset at its own place |
//!
//! A word of a page table is told apart in this order (spec 2.1): valid; zero; with the
//! Prototype bit, lookup if its page-file offset is all ones and otherwise pointer;
//! transition; page file if its offset is not zero; demand zero. In a prototype array
//! the Prototype bit means a subsection.
//!
//! Bits that a form does not define are ignored by decoding and zero in encoding. Words
//! of i386 are zero-extended to 64 bits.

use core::fmt::Debug;

use crate::{
    ListEntry, ListLink, Owner, PageFileOffset, PagingFileNumber, Pfn, Protection,
    PrototypeAddress, PrototypePointer, PrototypeState, PteState, RunShape, SubsectionAddress,
    TransitionPte, UsedEntries, Va, ValidPte, WorkingSetHint,
};

pub(crate) mod sealed {
    /// Closes the set of modes.
    pub trait Sealed {}
}

/// Bit positions shared by the three modes.
pub(crate) mod bits {
    pub const VALID: u64 = 1;
    pub const WRITE: u64 = 1 << 1;
    pub const OWNER: u64 = 1 << 2;
    pub const WRITE_THROUGH: u64 = 1 << 3;
    pub const CACHE_DISABLE: u64 = 1 << 4;
    pub const ACCESSED: u64 = 1 << 5;
    pub const DIRTY: u64 = 1 << 6;
    pub const LARGE: u64 = 1 << 7;
    pub const GLOBAL: u64 = 1 << 8;
    pub const COPY_ON_WRITE: u64 = 1 << 9;
    pub const PROTOTYPE: u64 = 1 << 10;
    pub const SOFTWARE_WRITE: u64 = 1 << 11;
    pub const TRANSITION: u64 = 1 << 11;
    pub const FRAME_SHIFT: u32 = 12;

    pub const FILE_SHIFT: u32 = 1;
    pub const PROTECTION_SHIFT: u32 = 5;
    pub const PROTECTION: u64 = 0x1F << PROTECTION_SHIFT;
    pub const USED_ENTRIES_SHIFT: u32 = 12;
    pub const WORKING_SET_HINT_SHIFT: u32 = 52;
    pub const NO_EXECUTE: u64 = 1 << 63;

    pub const ONE_ENTRY: u64 = 1 << 1;

    pub const POINTER_READ_ONLY: u64 = 1 << 8;
    pub const WIDE_POINTER_PROTECTION_SHIFT: u32 = 11;
}

use bits::*;

/// How a paging mode writes states into words.
///
/// Sealed: the modes are [`I386`](crate::I386), [`Pae`](crate::Pae) and
/// [`Amd64`](crate::Amd64).
pub trait PteFormat:
    Copy + Clone + Default + Debug + Send + Sync + 'static + sealed::Sealed
{
    /// Bytes in an entry: 4 or 8.
    const ENTRY_BYTES: usize;
    /// Bits of the frame field, which starts at bit 12.
    const FRAME_BITS: u32;
    /// First bit of the page-file offset, which is also the first bit of a list link.
    const OFFSET_SHIFT: u32;
    /// Bits of the page-file offset and of a list link.
    const OFFSET_BITS: u32;
    /// Whether page-file words have a field for [`UsedEntries`].
    const KEEPS_USED_ENTRIES: bool;
    /// Whether valid words have a no-execute bit.
    const HAS_NO_EXECUTE: bool;
    /// Whether valid words have a field for [`WorkingSetHint`].
    const HAS_WORKING_SET_HINT: bool;

    /// The bits of a word that hold the frame.
    const FRAME_MASK: u64 = ((1 << Self::FRAME_BITS) - 1) << FRAME_SHIFT;
    /// The highest frame that words can name; a machine must have no frame above it.
    const MAX_PFN: Pfn = Pfn::new(((1u64 << Self::FRAME_BITS) - 1) as u32);
    /// The bits of a word that hold the page-file offset.
    const OFFSET_MASK: u64 = ((1 << Self::OFFSET_BITS) - 1) << Self::OFFSET_SHIFT;
    /// The highest page-file slot that words can name.
    const MAX_PAGE_FILE_OFFSET: u32 = ((1u64 << Self::OFFSET_BITS) - 1) as u32;
    /// The highest index that list words can hold; one more is the end mark.
    const MAX_LIST_INDEX: u32 = Self::MAX_PAGE_FILE_OFFSET - 1;

    /// `va` as the address of a prototype entry, or `None` when words of this mode
    /// cannot hold it: misaligned, out of reach of its pool's start (i386), or so
    /// high that the word would read as a lookup.
    fn prototype_address(va: Va) -> Option<PrototypeAddress>;

    /// `va` as the address of a subsection, or `None` when words of this mode cannot
    /// hold it: misaligned or out of reach of the nonpaged pool (i386).
    fn subsection_address(va: Va) -> Option<SubsectionAddress>;

    /// The pointer in a word of prototype-pointer form.
    fn decode_prototype_pointer(word: u64) -> PrototypePointer;

    /// The word of prototype-pointer form.
    fn encode_prototype_pointer(pointer: PrototypePointer) -> u64;

    /// The address in a word of subsection form.
    fn decode_subsection(word: u64) -> SubsectionAddress;

    /// The address bits of a word of subsection form.
    fn encode_subsection(address: SubsectionAddress) -> u64;

    /// What `word` means in a page table.
    #[inline]
    fn decode(word: u64) -> PteState {
        if word & VALID != 0 {
            PteState::Valid(Self::decode_valid(word))
        } else if word == 0 {
            PteState::Zero
        } else if word & PROTOTYPE != 0 {
            if word & Self::OFFSET_MASK == Self::OFFSET_MASK {
                PteState::PrototypeLookup { protection: protection_of(word) }
            } else {
                PteState::PrototypePointer(Self::decode_prototype_pointer(word))
            }
        } else if word & TRANSITION != 0 {
            PteState::Transition(Self::decode_transition(word))
        } else if let Some(offset) = Self::offset_of(word) {
            PteState::PageFile {
                file: file_of(word),
                offset,
                protection: protection_of(word),
                used_entries: Self::used_entries_of(word),
            }
        } else {
            PteState::DemandZero { protection: protection_of(word) }
        }
    }

    /// The word that means `state` in a page table.
    #[inline]
    fn encode(state: &PteState) -> u64 {
        match *state {
            PteState::Zero => 0,
            PteState::Valid(valid) => Self::encode_valid(valid),
            PteState::DemandZero { protection } => protection_bits(protection),
            PteState::PageFile { file, offset, protection, used_entries } => {
                Self::encode_page_file(file, offset, protection)
                    | Self::encode_used_entries(used_entries)
            }
            PteState::Transition(transition) => Self::encode_transition(transition),
            PteState::PrototypePointer(pointer) => Self::encode_prototype_pointer(pointer),
            PteState::PrototypeLookup { protection } => {
                Self::OFFSET_MASK | PROTOTYPE | protection_bits(protection)
            }
        }
    }

    /// What `word` means in a prototype array.
    #[inline]
    fn decode_prototype(word: u64) -> PrototypeState {
        if word & VALID != 0 {
            PrototypeState::Valid(Self::decode_valid(word))
        } else if word == 0 {
            PrototypeState::Zero
        } else if word & PROTOTYPE != 0 {
            PrototypeState::Subsection {
                address: Self::decode_subsection(word),
                protection: protection_of(word),
            }
        } else if word & TRANSITION != 0 {
            PrototypeState::Transition(Self::decode_transition(word))
        } else if let Some(offset) = Self::offset_of(word) {
            PrototypeState::PageFile {
                file: file_of(word),
                offset,
                protection: protection_of(word),
            }
        } else {
            PrototypeState::DemandZero { protection: protection_of(word) }
        }
    }

    /// The word that means `state` in a prototype array.
    #[inline]
    fn encode_prototype(state: &PrototypeState) -> u64 {
        match *state {
            PrototypeState::Zero => 0,
            PrototypeState::Valid(valid) => Self::encode_valid(valid),
            PrototypeState::DemandZero { protection } => protection_bits(protection),
            PrototypeState::PageFile { file, offset, protection } => {
                Self::encode_page_file(file, offset, protection)
            }
            PrototypeState::Transition(transition) => Self::encode_transition(transition),
            PrototypeState::Subsection { address, protection } => {
                Self::encode_subsection(address) | PROTOTYPE | protection_bits(protection)
            }
        }
    }

    /// The link in a free system page-table entry (spec 2.8).
    #[inline]
    fn decode_list(word: u64) -> ListEntry {
        let field = (word & Self::OFFSET_MASK) >> Self::OFFSET_SHIFT;
        ListEntry {
            next: if field == Self::OFFSET_MASK >> Self::OFFSET_SHIFT {
                ListLink::End
            } else {
                ListLink::Index(field as u32)
            },
            shape: if word & ONE_ENTRY != 0 { RunShape::Single } else { RunShape::Several },
        }
    }

    /// The word of a free system page-table entry (spec 2.8).
    #[inline]
    fn encode_list(entry: ListEntry) -> u64 {
        let next = match entry.next {
            ListLink::End => Self::OFFSET_MASK,
            ListLink::Index(index) => (u64::from(index) << Self::OFFSET_SHIFT) & Self::OFFSET_MASK,
        };
        let shape = match entry.shape {
            RunShape::Single => ONE_ENTRY,
            RunShape::Several => 0,
        };
        next | shape
    }

    /// The fields of a valid word.
    #[inline]
    fn decode_valid(word: u64) -> ValidPte {
        ValidPte {
            pfn: Self::frame_of(word),
            writable: word & WRITE != 0,
            owner: owner_of(word),
            write_through: word & WRITE_THROUGH != 0,
            cache_disable: word & CACHE_DISABLE != 0,
            accessed: word & ACCESSED != 0,
            dirty: word & DIRTY != 0,
            large: word & LARGE != 0,
            global: word & GLOBAL != 0,
            copy_on_write: word & COPY_ON_WRITE != 0,
            prototype: word & PROTOTYPE != 0,
            software_write: word & SOFTWARE_WRITE != 0,
            no_execute: Self::HAS_NO_EXECUTE && word & NO_EXECUTE != 0,
            working_set_hint: if Self::HAS_WORKING_SET_HINT {
                WorkingSetHint::for_index(word >> WORKING_SET_HINT_SHIFT)
            } else {
                WorkingSetHint::NONE
            },
        }
    }

    /// The valid word with these fields.
    #[inline]
    fn encode_valid(valid: ValidPte) -> u64 {
        let mut word = VALID
            | Self::frame_bits(valid.pfn)
            | owner_bits(valid.owner)
            | (u64::from(valid.writable) * WRITE)
            | (u64::from(valid.write_through) * WRITE_THROUGH)
            | (u64::from(valid.cache_disable) * CACHE_DISABLE)
            | (u64::from(valid.accessed) * ACCESSED)
            | (u64::from(valid.dirty) * DIRTY)
            | (u64::from(valid.large) * LARGE)
            | (u64::from(valid.global) * GLOBAL)
            | (u64::from(valid.copy_on_write) * COPY_ON_WRITE)
            | (u64::from(valid.prototype) * PROTOTYPE)
            | (u64::from(valid.software_write) * SOFTWARE_WRITE);
        if Self::HAS_NO_EXECUTE {
            word |= u64::from(valid.no_execute) * NO_EXECUTE;
        }
        if Self::HAS_WORKING_SET_HINT {
            word |= u64::from(valid.working_set_hint.get()) << WORKING_SET_HINT_SHIFT;
        }
        word
    }

    /// The fields of a word in transition form.
    #[inline]
    fn decode_transition(word: u64) -> TransitionPte {
        TransitionPte {
            pfn: Self::frame_of(word),
            protection: protection_of(word),
            write: word & WRITE != 0,
            owner: owner_of(word),
            write_through: word & WRITE_THROUGH != 0,
            cache_disable: word & CACHE_DISABLE != 0,
        }
    }

    /// The word in transition form with these fields.
    #[inline]
    fn encode_transition(transition: TransitionPte) -> u64 {
        TRANSITION
            | Self::frame_bits(transition.pfn)
            | protection_bits(transition.protection)
            | owner_bits(transition.owner)
            | (u64::from(transition.write) * WRITE)
            | (u64::from(transition.write_through) * WRITE_THROUGH)
            | (u64::from(transition.cache_disable) * CACHE_DISABLE)
    }

    /// The word in page-file form without a count of used entries.
    #[inline]
    fn encode_page_file(
        file: PagingFileNumber,
        offset: PageFileOffset,
        protection: Protection,
    ) -> u64 {
        (u64::from(offset.get()) << Self::OFFSET_SHIFT) & Self::OFFSET_MASK
            | protection_bits(protection)
            | u64::from(file.get()) << FILE_SHIFT
    }

    /// The frame field of a valid or transition word.
    #[inline]
    fn frame_of(word: u64) -> Pfn {
        Pfn::new(((word & Self::FRAME_MASK) >> FRAME_SHIFT) as u32)
    }

    /// The bits of a word that name `pfn`.
    #[inline]
    fn frame_bits(pfn: Pfn) -> u64 {
        (u64::from(pfn.get()) << FRAME_SHIFT) & Self::FRAME_MASK
    }

    /// The page-file offset of a word in page-file form, `None` where the field is zero.
    #[inline]
    fn offset_of(word: u64) -> Option<PageFileOffset> {
        PageFileOffset::new(((word & Self::OFFSET_MASK) >> Self::OFFSET_SHIFT) as u32)
    }

    /// The count of used entries in a word of page-file form.
    #[inline]
    fn used_entries_of(word: u64) -> UsedEntries {
        if Self::KEEPS_USED_ENTRIES {
            UsedEntries::from_low_bits(word >> USED_ENTRIES_SHIFT)
        } else {
            UsedEntries::NONE
        }
    }

    /// The bits of a page-file word that hold a count of used entries.
    #[inline]
    fn encode_used_entries(used: UsedEntries) -> u64 {
        if Self::KEEPS_USED_ENTRIES { u64::from(used.get()) << USED_ENTRIES_SHIFT } else { 0 }
    }
}

/// The protection in bits 5 to 9.
#[inline]
pub(crate) const fn protection_of(word: u64) -> Protection {
    Protection::from_low_bits(word >> PROTECTION_SHIFT)
}

/// `protection` in bits 5 to 9.
#[inline]
pub(crate) const fn protection_bits(protection: Protection) -> u64 {
    (protection.bits() as u64) << PROTECTION_SHIFT
}

/// The paging file number in bits 1 to 4.
#[inline]
pub(crate) const fn file_of(word: u64) -> PagingFileNumber {
    PagingFileNumber::from_low_bits(word >> FILE_SHIFT)
}

#[inline]
const fn owner_of(word: u64) -> Owner {
    if word & OWNER != 0 { Owner::User } else { Owner::Kernel }
}

#[inline]
const fn owner_bits(owner: Owner) -> u64 {
    match owner {
        Owner::User => OWNER,
        Owner::Kernel => 0,
    }
}
