//! Tests and constructors on raw words, for paths where a full decode costs too much.
//!
//! A function says which form of word it may be given; given another, its answer means
//! nothing. The constructors write what a uniprocessor NT kernel writes: bit 1 is the
//! real right to write and hardware maintains Dirty (spec 2.10). A valid word starts
//! from Valid and Accessed and takes its rights from the protection (spec 2.13):
//!
//! | access              | i386            | PAE, amd64           |
//! |---------------------|-----------------|----------------------|
//! | read only           |                 | no-execute           |
//! | execute, execute read |               |                      |
//! | read, write         | write           | write, no-execute    |
//! | write copy          | copy on write   | copy on write, no-execute |
//! | execute, read, write | write          | write                |
//! | execute, write copy | copy on write   | copy on write        |
//!
//! Not cached adds CacheDisable and WriteThrough, write combined CacheDisable alone,
//! which the page-attribute table tells apart. A guard, or no access at all, never
//! becomes a valid word.

use crate::format::bits::*;
use crate::format::{file_of, protection_bits, protection_of};
use crate::{
    ListEntry, ListLink, Modifier, PageFileOffset, PagingFileNumber, Pfn, Protection, PteFormat,
    RunShape, SubsectionAddress, UsedEntries, WorkingSetHint,
};

/// Whether a page differs from its copy on disk at the time its word is made.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Dirtiness {
    /// The page has not been written; hardware will say when it is.
    Clean,
    /// The page is known to be modified, or is about to be written.
    Dirty,
}

/// Raw words of a mode. Implemented for every [`PteFormat`].
pub trait PteWord: PteFormat {
    /// The zero word (spec 2.16).
    const ZERO: u64 = 0;
    /// A demand-zero page that may be read and written (spec 2.16).
    const DEMAND_ZERO: u64 = protection_bits(Protection::READWRITE);
    /// A demand-zero page table: everything is allowed (spec 2.9).
    const DEMAND_ZERO_TABLE: u64 = protection_bits(Protection::EXECUTE_READWRITE);
    /// A committed page that refuses every access (spec 2.16).
    const NO_ACCESS: u64 = protection_bits(Protection::NO_ACCESS);
    /// A decommitted page (spec 2.16).
    const DECOMMITTED: u64 = protection_bits(Protection::DECOMMIT);
    /// A global kernel mapping, but for its frame (spec 2.16).
    const VALID_KERNEL: u64 = VALID | WRITE | ACCESSED | DIRTY | GLOBAL;
    /// A kernel mapping of one process or session, but for its frame (spec 2.16).
    const VALID_KERNEL_LOCAL: u64 = VALID | WRITE | ACCESSED | DIRTY;
    /// A user mapping that allows everything, but for its frame (spec 2.16).
    const VALID_USER: u64 = VALID | WRITE | OWNER | ACCESSED | DIRTY;

    /// Whether hardware may use the word.
    #[inline]
    fn is_valid(word: u64) -> bool {
        word & VALID != 0
    }

    /// The frame of a valid word.
    #[inline]
    fn valid_pfn(word: u64) -> Pfn {
        Self::frame_of(word)
    }

    /// Whether the word is in transition form.
    #[inline]
    fn is_transition(word: u64) -> bool {
        word & (VALID | PROTOTYPE | TRANSITION) == TRANSITION
    }

    /// The frame of a word in transition form.
    #[inline]
    fn transition_pfn(word: u64) -> Pfn {
        Self::frame_of(word)
    }

    /// The frame a valid or transition word names; `None` for any other.
    #[inline]
    fn resident_pfn(word: u64) -> Option<Pfn> {
        (Self::is_valid(word) || Self::is_transition(word)).then(|| Self::frame_of(word))
    }

    /// Whether an invalid word refers to a prototype, or in a prototype array to a subsection.
    #[inline]
    fn is_prototype(word: u64) -> bool {
        word & (VALID | PROTOTYPE) == PROTOTYPE
    }

    /// Whether the word is in page-file form.
    #[inline]
    fn is_page_file(word: u64) -> bool {
        word & (VALID | PROTOTYPE | TRANSITION) == 0 && word & Self::OFFSET_MASK != 0
    }

    /// The paging file and slot of a word in page-file form; `None` for any other.
    #[inline]
    fn page_file_location(word: u64) -> Option<(PagingFileNumber, PageFileOffset)> {
        if word & (VALID | PROTOTYPE | TRANSITION) != 0 {
            return None;
        }
        Self::offset_of(word).map(|offset| (file_of(word), offset))
    }

    /// Whether a page or prototype stands behind the word (spec 2.1).
    #[inline]
    fn is_mapping(word: u64) -> bool {
        word & (VALID | PROTOTYPE | TRANSITION | Self::OFFSET_MASK) != 0
    }

    /// Whether a valid word has been used since Accessed was cleared.
    #[inline]
    fn is_accessed(word: u64) -> bool {
        word & ACCESSED != 0
    }

    /// The valid word with Accessed set.
    #[inline]
    fn set_accessed(word: u64) -> u64 {
        word | ACCESSED
    }

    /// The valid word with Accessed clear.
    #[inline]
    fn clear_accessed(word: u64) -> u64 {
        word & !ACCESSED
    }

    /// Whether a valid word has been written through since Dirty was cleared.
    #[inline]
    fn is_dirty(word: u64) -> bool {
        word & DIRTY != 0
    }

    /// The valid word with Dirty set.
    #[inline]
    fn set_dirty(word: u64) -> u64 {
        word | DIRTY
    }

    /// The valid word with Dirty clear.
    #[inline]
    fn clear_dirty(word: u64) -> u64 {
        word & !DIRTY
    }

    /// Whether hardware lets writes through a valid word.
    #[inline]
    fn is_writable(word: u64) -> bool {
        word & WRITE != 0
    }

    /// Whether a write through a valid word must first copy the page.
    #[inline]
    fn is_copy_on_write(word: u64) -> bool {
        word & COPY_ON_WRITE != 0
    }

    /// Whether user mode may use a valid word.
    #[inline]
    fn is_user_owned(word: u64) -> bool {
        word & OWNER != 0
    }

    /// Whether instructions may be fetched through a valid word.
    #[inline]
    fn is_executable(word: u64) -> bool {
        !Self::HAS_NO_EXECUTE || word & NO_EXECUTE == 0
    }

    /// Whether a valid directory word maps a large page rather than naming a table.
    #[inline]
    fn is_large(word: u64) -> bool {
        word & LARGE != 0
    }

    /// The valid directory word that maps a large page of the user from this first frame on, whose
    /// number is a multiple of the entries of a table. Otherwise as [`PteWord::valid_user`].
    #[inline]
    fn valid_user_large(pfn: Pfn, protection: Protection, dirtiness: Dirtiness) -> u64 {
        valid::<Self>(pfn, protection, dirtiness) | OWNER | LARGE
    }

    /// The directory word that keeps the frames of a large page together while it is not mapped.
    /// It has the form of a page in transition with a protection that neither a page nor a table
    /// in transition ever has.
    #[inline]
    fn unmapped_large(pfn: Pfn) -> u64 {
        Self::transition(pfn, Protection::DECOMMIT)
    }

    /// Whether a directory word stands for a large page, mapped or not, rather than for a table.
    #[inline]
    fn is_of_large_page(word: u64) -> bool {
        if Self::is_valid(word) {
            Self::is_large(word)
        } else {
            word & (PROTOTYPE | TRANSITION | PROTECTION)
                == TRANSITION | protection_bits(Protection::DECOMMIT)
        }
    }

    /// The working-set hint of a valid word; [`WorkingSetHint::NONE`] in modes without it.
    #[inline]
    fn working_set_hint(word: u64) -> WorkingSetHint {
        if Self::HAS_WORKING_SET_HINT {
            WorkingSetHint::for_index(word >> WORKING_SET_HINT_SHIFT)
        } else {
            WorkingSetHint::NONE
        }
    }

    /// The valid word with this working-set hint; unchanged in modes without it.
    #[inline]
    fn with_working_set_hint(word: u64, hint: WorkingSetHint) -> u64 {
        if Self::HAS_WORKING_SET_HINT {
            let field = u64::from(WorkingSetHint::MAX) << WORKING_SET_HINT_SHIFT;
            word & !field | u64::from(hint.get()) << WORKING_SET_HINT_SHIFT
        } else {
            word
        }
    }

    /// The bits a protection adds to a valid word (spec 2.13).
    #[inline]
    // A mask is below 32, which the remainder lets the compiler see.
    #[allow(clippy::indexing_slicing)]
    fn hardware_bits(protection: Protection) -> u64 {
        let bits = HARDWARE_BITS[protection.bits() as usize % HARDWARE_BITS.len()];
        if Self::HAS_NO_EXECUTE { bits } else { bits & !NO_EXECUTE }
    }

    /// The valid word of a user page.
    ///
    /// `protection` must be [`Protection::is_mappable`]. Dirty is set only where the
    /// page itself may be written, not a private copy of it.
    #[inline]
    fn valid_user(pfn: Pfn, protection: Protection, dirtiness: Dirtiness) -> u64 {
        valid::<Self>(pfn, protection, dirtiness) | OWNER
    }

    /// The valid word of a kernel page that every address space shares. Otherwise as
    /// [`PteWord::valid_user`].
    #[inline]
    fn valid_kernel(pfn: Pfn, protection: Protection, dirtiness: Dirtiness) -> u64 {
        valid::<Self>(pfn, protection, dirtiness) | GLOBAL
    }

    /// The valid word of a kernel page of one process or session, as in hyperspace.
    /// Otherwise as [`PteWord::valid_user`].
    #[inline]
    fn valid_kernel_local(pfn: Pfn, protection: Protection, dirtiness: Dirtiness) -> u64 {
        valid::<Self>(pfn, protection, dirtiness)
    }

    /// The word that names a page table of the user range: user-owned, everything
    /// allowed, dirty because the manager writes tables without hardware's help.
    #[inline]
    fn valid_table(pfn: Pfn) -> u64 {
        Self::VALID_USER | Self::frame_bits(pfn)
    }

    /// The word that names a page table of the kernel range, hyperspace and the self-map
    /// included.
    #[inline]
    fn valid_kernel_table(pfn: Pfn) -> u64 {
        Self::VALID_KERNEL_LOCAL | Self::frame_bits(pfn)
    }

    /// The word that names a page directory in PAE's four-entry top table, where no
    /// right, Accessed or Dirty bit exists (spec 1.4).
    #[inline]
    fn valid_pdpt(pfn: Pfn) -> u64 {
        VALID | Self::frame_bits(pfn)
    }

    /// The valid word with the rights of another protection, which must be
    /// [`Protection::is_mappable`]. Frame, owner, global, accessed and hint stay; dirty
    /// stays where the page may still be written, so it must be captured before.
    #[inline]
    fn with_valid_protection(word: u64, protection: Protection) -> u64 {
        debug_assert!(protection.is_mappable());
        let rights = WRITE | COPY_ON_WRITE | CACHE_DISABLE | WRITE_THROUGH;
        let no_execute = if Self::HAS_NO_EXECUTE { NO_EXECUTE } else { 0 };
        let word = word & !(rights | no_execute) | Self::hardware_bits(protection);
        if word & WRITE != 0 { word } else { word & !DIRTY }
    }

    /// The word in transition form, but for what a valid word may leave in it.
    #[inline]
    fn transition(pfn: Pfn, protection: Protection) -> u64 {
        TRANSITION | Self::frame_bits(pfn) | protection_bits(protection)
    }

    /// The word in transition form that a valid word becomes: frame, write, owner and
    /// cache bits stay.
    #[inline]
    fn valid_to_transition(word: u64, protection: Protection) -> u64 {
        word & (Self::FRAME_MASK | WRITE | OWNER | WRITE_THROUGH | CACHE_DISABLE)
            | TRANSITION
            | protection_bits(protection)
    }

    /// The word in demand-zero form.
    #[inline]
    fn demand_zero(protection: Protection) -> u64 {
        protection_bits(protection)
    }

    /// The word in page-file form, with no used entries.
    #[inline]
    fn page_file(file: PagingFileNumber, offset: PageFileOffset, protection: Protection) -> u64 {
        Self::encode_page_file(file, offset, protection)
    }

    /// The word in prototype-lookup form.
    #[inline]
    fn prototype_lookup(protection: Protection) -> u64 {
        Self::OFFSET_MASK | PROTOTYPE | protection_bits(protection)
    }

    /// The word of a prototype whose page is in a mapped file.
    #[inline]
    fn subsection(address: SubsectionAddress, protection: Protection) -> u64 {
        Self::encode_subsection(address) | PROTOTYPE | protection_bits(protection)
    }

    /// The demand-zero word left when a page-file word gives up its slot.
    #[inline]
    fn without_page_file(word: u64) -> u64 {
        word & PROTECTION
    }

    /// The protection of an invalid word that is not a prototype pointer.
    #[inline]
    fn software_protection(word: u64) -> Protection {
        protection_of(word)
    }

    /// An invalid word that is not a prototype pointer, with another protection.
    #[inline]
    fn with_protection(word: u64, protection: Protection) -> u64 {
        word & !PROTECTION | protection_bits(protection)
    }

    /// The count of used entries in a page-file word that names a page table.
    #[inline]
    fn used_entries(word: u64) -> UsedEntries {
        Self::used_entries_of(word)
    }

    /// The page-file word with another count of used entries; unchanged in modes
    /// without room for it.
    #[inline]
    fn with_used_entries(word: u64, used: UsedEntries) -> u64 {
        if Self::KEEPS_USED_ENTRIES {
            let field = u64::from(UsedEntries::MAX) << USED_ENTRIES_SHIFT;
            word & !field | Self::encode_used_entries(used)
        } else {
            word
        }
    }

    /// The invalid word whose frame field counts the hyperspace slots left (spec 10.5).
    #[inline]
    fn counter(count: u32) -> u64 {
        Self::frame_bits(Pfn::new(count))
    }

    /// The count in a word made by [`PteWord::counter`].
    #[inline]
    fn count_of(word: u64) -> u32 {
        Self::frame_of(word).get()
    }

    /// The word that ends a list of free system entries after a run of this shape.
    #[inline]
    fn list_end(shape: RunShape) -> u64 {
        Self::encode_list(ListEntry { next: ListLink::End, shape })
    }
}

impl<F: PteFormat> PteWord for F {}

/// The bits each protection adds to a valid word, by its mask.
// Computed by the compiler, which refuses an index that is out of bounds.
#[allow(clippy::indexing_slicing)]
const HARDWARE_BITS: [u64; 1 << Protection::BITS] = {
    let mut table = [0; 1 << Protection::BITS];
    let mut mask = 0;
    while mask < table.len() {
        table[mask] = rights(Protection::from_low_bits(mask as u64));
        mask += 1;
    }
    table
};

/// The bits a protection adds to a valid word that has a no-execute bit.
const fn rights(protection: Protection) -> u64 {
    let write = if protection.is_write_copy() {
        COPY_ON_WRITE
    } else if protection.is_writable() {
        WRITE
    } else {
        0
    };
    let execute =
        if protection.bits() & 7 != 0 && !protection.is_executable() { NO_EXECUTE } else { 0 };
    let cache = match protection.modifier() {
        Modifier::Cached | Modifier::Guard => 0,
        Modifier::NoCache => CACHE_DISABLE | WRITE_THROUGH,
        Modifier::WriteCombine => CACHE_DISABLE,
    };
    write | execute | cache
}

/// What all valid words have in common.
#[inline]
fn valid<F: PteFormat>(pfn: Pfn, protection: Protection, dirtiness: Dirtiness) -> u64 {
    debug_assert!(protection.is_mappable(), "{protection:?} must never be made valid");
    let word = VALID | ACCESSED | F::frame_bits(pfn) | F::hardware_bits(protection);
    match dirtiness {
        Dirtiness::Dirty if word & WRITE != 0 => word | DIRTY,
        _ => word,
    }
}
