//! A paging mode: where things are in the address space, and the self-map.
//!
//! **Self-map.** One top-level entry names the top-level table itself, so every page
//! table is seen as memory, entry after entry, from [`PagingMode::PTE_BASE`] on (spec
//! 1.2). The entry of an address is found by arithmetic alone, and since that entry is
//! memory too it has an entry of its own, which is the directory entry of the first
//! address; and so on up.
//!
//! **Above the top.** PAE's four-entry top table is not self-mapped. Taking the step
//! once more from a directory entry ends at one of the four directory entries, 0x600 to
//! 0x603, that make the self-map: they name the same four directories as the top table
//! does. So [`PagingMode::entry_address`] at [`Level::Parent`] answers, in PAE, the
//! address of that stand-in; in i386 it is the self-map entry 0xC0300C00, which names
//! the one directory. Higher levels answer the stand-in for the page before. This makes
//! "the entry that names this table" defined for every table of every mode.
//!
//! Everything here is constant or arithmetic: nothing is shared.

use crate::{Bytes, Level, PAGE_SHIFT, Pages, Pfn, PteWord, Region, Slot, Va, Vpn};

/// Lowest address a VAD may use (spec 1.1).
pub const LOWEST_USER_ADDRESS: Va = Va::new(0x1_0000);

/// The page of times and counters that every process may read (spec 1.1).
pub const SHARED_USER_DATA: Va = Va::new(0x7FFE_0000);

/// Offset of the working-set list from the start of hyperspace (spec 1.7).
const WORKING_SET_LIST_OFFSET: u64 = 0x10_2000;

/// A paging mode: the layout of its address spaces, over the words of [`PteWord`].
pub trait PagingMode: PteWord {
    /// The mode's name: `i386`, `pae` or `amd64`.
    const NAME: &'static str;
    /// Levels of tables that hardware walks.
    const LEVELS: usize = Self::TOP as usize;
    /// The level hardware starts at.
    const TOP: Level;
    /// Bits of an address that hardware translates: 32 or 48.
    const ADDRESS_BITS: u32;
    /// Entries in a table page.
    const ENTRIES: usize = 4096 / Self::ENTRY_BYTES;
    /// Pages of a large page, of which its first frame's number is a multiple.
    const LARGE_PAGE: Pages = Pages::new(Self::ENTRIES as u64);
    /// Entries in the table of level [`PagingMode::TOP`].
    const TOP_ENTRIES: usize;

    /// Last byte user mode may use. NT's `MmHighestUserAddress`.
    const HIGHEST_USER_ADDRESS: Va;
    /// Last byte a VAD may cover.
    const HIGHEST_VAD_ADDRESS: Va;
    /// First address that a probe of user memory refuses. NT's `MmUserProbeAddress`.
    const USER_PROBE_ADDRESS: Va;
    /// First address of system space. NT's `MmSystemRangeStart`, which in amd64 is not
    /// canonical.
    const SYSTEM_RANGE_START: Va;
    /// The kernel's view of [`SHARED_USER_DATA`].
    const KERNEL_SHARED_DATA: Va;

    /// The entry of address 0.
    const PTE_BASE: Va;
    /// Last byte of the page tables.
    const PTE_TOP: Va;
    /// The directory entry of address 0.
    const PDE_BASE: Va;
    /// The parent entry of address 0, or its stand-in.
    const PPE_BASE: Va;
    /// The top entry of address 0, or its stand-in.
    const PXE_BASE: Va;
    /// The level of the entries that make the self-map.
    const SELF_MAP_LEVEL: Level;
    /// Where the first entry of the self-map is in its table: in PAE, of the fourth directory.
    const SELF_MAP_SLOT: Slot;
    /// The entries that make the self-map: four in PAE, one elsewhere.
    const SELF_MAP_ENTRIES: usize;
    /// The first entry of the self-map, seen through the self-map.
    const SELF_MAP_ADDRESS: Va;

    /// First byte of hyperspace.
    const HYPERSPACE_START: Va;
    /// Size of hyperspace.
    const HYPERSPACE_BYTES: Bytes;
    /// The working-set list of the current process. NT's `MmWorkingSetList`.
    const WORKING_SET_LIST: Va = Va::new(Self::HYPERSPACE_START.get() + WORKING_SET_LIST_OFFSET);
    /// First address of paged pool. NT's `MmPagedPoolStart`.
    const PAGED_POOL_START: Va;
    /// Where the records of subsections are counted from. NT's `MmNonPagedPoolStart`.
    const NONPAGED_POOL_START: Va;
    /// The named ranges, lowest first.
    const LAYOUT: &'static [Region];

    /// The address whose translated bits are the low bits of `address`, the others being
    /// what the mode demands: copies of bit 47 in amd64, zero elsewhere.
    fn canonical(address: u64) -> Va;

    /// log2 of the bytes that one entry of `level` maps. Above the top it is past
    /// [`PagingMode::ADDRESS_BITS`].
    #[inline]
    fn shift(level: Level) -> u32 {
        PAGE_SHIFT + (level.number() - 1) * Self::ENTRIES.trailing_zeros()
    }

    /// Bytes that one entry of `level` maps.
    #[inline]
    fn span(level: Level) -> Bytes {
        Bytes::new(1 << Self::shift(level))
    }

    /// Entries in the table of `level`: [`PagingMode::TOP_ENTRIES`] at the top.
    #[inline]
    fn entries(level: Level) -> usize {
        if level == Self::TOP { Self::TOP_ENTRIES } else { Self::ENTRIES }
    }

    /// The slots of a table of `level`, in order.
    #[inline]
    fn slots(level: Level) -> impl Iterator<Item = Slot> {
        (0..Self::entries(level) as u64).map(Slot::from_low_bits)
    }

    /// The slot of `va` in the table of `level` that covers it. Above the top it is 0
    /// for addresses of the 32-bit modes.
    #[inline]
    fn slot(va: Va, level: Level) -> Slot {
        Slot::from_low_bits((va.get() >> Self::shift(level)) & (Self::ENTRIES as u64 - 1))
    }

    /// The frame of the page at `va`, which the directory word `word` maps as part of a large
    /// page.
    #[inline]
    fn frame_in_large_page(word: u64, va: Va) -> Pfn {
        // The lowest bit of the frame field belongs to the attribute table.
        let first = Self::valid_pfn(word).get() & !(Self::ENTRIES as u32 - 1);
        Pfn::new(first | u32::from(Self::slot(va, Level::Table).get()))
    }

    /// The first address that the entry of `va` at `level` maps.
    #[inline]
    fn span_base(va: Va, level: Level) -> Va {
        let shift = Self::shift(level);
        Self::canonical(address_bits::<Self>(va) >> shift << shift)
    }

    /// Where the entry of address 0 at `level` is seen.
    #[inline]
    fn entry_base(level: Level) -> Va {
        match level {
            Level::Table => Self::PTE_BASE,
            Level::Directory => Self::PDE_BASE,
            Level::Parent => Self::PPE_BASE,
            Level::Top => Self::PXE_BASE,
        }
    }

    /// Where the entry of `va` at `level` is seen: the address of its PTE, PDE, PPE or
    /// PXE, or above the top of its stand-in.
    #[inline]
    fn entry_address(va: Va, level: Level) -> Va {
        let index = address_bits::<Self>(va) >> Self::shift(level);
        Va::new(Self::entry_base(level).get() + index * Self::ENTRY_BYTES as u64)
    }

    /// The first address that the entry of `level` seen at `entry` maps: the inverse of
    /// [`PagingMode::entry_address`]. `entry` must be seen among entries of that level.
    #[inline]
    fn va_of_entry(entry: Va, level: Level) -> Va {
        let bytes = entry.get().wrapping_sub(Self::entry_base(level).get());
        Self::canonical(bytes / Self::ENTRY_BYTES as u64 * Self::span(level).get())
    }

    /// Where the page of the table of `level` that covers `va` is seen. PAE's top table
    /// is not: there the answer is the fourth directory, which holds the stand-ins.
    #[inline]
    fn table_address(va: Va, level: Level) -> Va {
        Self::entry_address(va, level).page_base()
    }

    /// The first address of page `vpn`.
    #[inline]
    fn va_of_vpn(vpn: Vpn) -> Va {
        Self::canonical(vpn.get() << PAGE_SHIFT)
    }

    /// Whether hardware accepts `va` as an address.
    #[inline]
    fn is_canonical(va: Va) -> bool {
        Self::canonical(va.get()) == va
    }

    /// Whether `va` is at or below [`PagingMode::HIGHEST_USER_ADDRESS`].
    #[inline]
    fn is_user(va: Va) -> bool {
        va <= Self::HIGHEST_USER_ADDRESS
    }

    /// Whether page tables are seen at `va`.
    #[inline]
    fn is_page_table_address(va: Va) -> bool {
        Self::PTE_BASE <= va && va <= Self::PTE_TOP
    }

    /// Whether `va` is in hyperspace.
    #[inline]
    fn is_hyperspace(va: Va) -> bool {
        va.get().wrapping_sub(Self::HYPERSPACE_START.get()) < Self::HYPERSPACE_BYTES.get()
    }

    /// The named range `va` is in, if any.
    fn region(va: Va) -> Option<&'static Region> {
        Self::LAYOUT.iter().find(|region| region.contains(va))
    }
}

/// The bits of `va` that hardware translates.
#[inline]
fn address_bits<M: PagingMode>(va: Va) -> u64 {
    va.get() & ((1 << M::ADDRESS_BITS) - 1)
}
