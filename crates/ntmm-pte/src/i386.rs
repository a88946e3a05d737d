//! i386: two levels of 1024 entries of 32 bits; 4 GiB of virtual, 4 GiB of physical memory.
//!
//! | form              | 0 | 1-4                | 5-9        | 10 | 11          | 12-31              |
//! |-------------------|---|--------------------|------------|----|-------------|--------------------|
//! | demand zero       | 0 | 0                  | protection | 0  | 0           | 0                  |
//! | page file         | 0 | paging file        | protection | 0  | 0           | offset, not 0      |
//! | transition        | 0 | W, owner, WT, CD   | protection | 0  | 1           | frame              |
//! | prototype lookup  | 0 | 0                  | protection | 1  | 0           | all ones           |
//! | subsection        | 0 | delta bits 3-6     | protection | 1  | delta bits 7-26 in 11-30; 31: pool |
//! | free system entry | 0 | 1: one entry       | 0          | 0  | 0           | next index         |
//!
//! | form              | 0 | 1-7              | 8         | 9 | 10 | 11-31            |
//! |-------------------|---|------------------|-----------|---|----|------------------|
//! | prototype pointer | 0 | offset bits 2-8  | read-only | 0 | 1  | offset bits 9-29 |
//!
//! Valid: the common low bits (see [`crate::format`]) and a frame of 20 bits. No word
//! has room for a no-execute bit, a working-set hint or a count of used entries, and
//! prototype pointers carry no protection.
//!
//! A prototype pointer counts bytes from the start of paged pool (1 GiB of reach). A
//! subsection is a delta in steps of 8 bytes, 128 MiB of reach, upwards from
//! [`SUBSECTION_BASE`] when bit 31 is set and downwards from [`NONPAGED_POOL_END`] when
//! it is clear (spec 2.5 to 2.8).

use crate::format::bits::{POINTER_READ_ONLY, PROTOTYPE};
use crate::format::sealed::Sealed;
use crate::{
    Bytes, Level, PagingMode, Protection, PrototypeAddress, PrototypePointer, PteFormat, Region,
    RegionUse, Slot, SubsectionAddress, Va,
};

/// Where the lower part of nonpaged pool is counted from: the start of the direct map.
const SUBSECTION_BASE: u64 = 0x8000_0000;
/// One past the last byte of nonpaged pool. NT's `MmNonPagedPoolEnd`.
const NONPAGED_POOL_END: u64 = 0xFFBE_0000;
/// Start of paged pool. NT's `MmPagedPoolStart`.
const PAGED_POOL_START: u64 = 0xE100_0000;
/// Bytes a subsection delta can span.
const SUBSECTION_REACH: u64 = 1 << 27;
/// Set when a subsection is counted from [`SUBSECTION_BASE`]. NT's `WhichPool`.
const WHICH_POOL: u64 = 1 << 31;
/// Bytes in a 32-bit address space.
const ADDRESS_SPACE: u64 = 1 << 32;
/// The offset bits a prototype pointer holds.
const POINTER_OFFSET: u64 = 0x3FFF_FFFC;

/// The i386 mode: two levels of 32-bit entries.
#[derive(Copy, Clone, Default, Eq, PartialEq, Debug)]
pub struct I386;

impl Sealed for I386 {}

impl PteFormat for I386 {
    const ENTRY_BYTES: usize = 4;
    const FRAME_BITS: u32 = 20;
    const OFFSET_SHIFT: u32 = 12;
    const OFFSET_BITS: u32 = 20;
    const KEEPS_USED_ENTRIES: bool = false;
    const HAS_NO_EXECUTE: bool = false;
    const HAS_WORKING_SET_HINT: bool = false;

    fn prototype_address(va: Va) -> Option<PrototypeAddress> {
        let address = va.get();
        // The address space ends before the offsets that would read as a lookup.
        ((PAGED_POOL_START..ADDRESS_SPACE).contains(&address) && address & 3 == 0)
            .then_some(PrototypeAddress::trusted(address))
    }

    fn subsection_address(va: Va) -> Option<SubsectionAddress> {
        let address = va.get();
        let from_base = SUBSECTION_BASE..SUBSECTION_BASE + SUBSECTION_REACH;
        let below_end = NONPAGED_POOL_END - SUBSECTION_REACH + 8..=NONPAGED_POOL_END;
        ((from_base.contains(&address) || below_end.contains(&address)) && address & 7 == 0)
            .then_some(SubsectionAddress::trusted(address))
    }

    #[inline]
    fn decode_prototype_pointer(word: u64) -> PrototypePointer {
        let offset = (word >> 11) << 9 | (word & 0xFE) << 1;
        PrototypePointer {
            address: PrototypeAddress::trusted((PAGED_POOL_START + offset) & (ADDRESS_SPACE - 1)),
            read_only: word & POINTER_READ_ONLY != 0,
            protection: Protection::ZERO_ACCESS,
        }
    }

    #[inline]
    fn encode_prototype_pointer(pointer: PrototypePointer) -> u64 {
        let offset = pointer.address.va().get().wrapping_sub(PAGED_POOL_START) & POINTER_OFFSET;
        (offset >> 9) << 11
            | (offset & 0x1FC) >> 1
            | PROTOTYPE
            | (u64::from(pointer.read_only) * POINTER_READ_ONLY)
    }

    #[inline]
    fn decode_subsection(word: u64) -> SubsectionAddress {
        let delta = (word >> 11 & 0xF_FFFF) << 7 | (word >> 1 & 0xF) << 3;
        SubsectionAddress::trusted(if word & WHICH_POOL != 0 {
            SUBSECTION_BASE + delta
        } else {
            NONPAGED_POOL_END - delta
        })
    }

    #[inline]
    fn encode_subsection(address: SubsectionAddress) -> u64 {
        let address = address.va().get();
        let (delta, pool) = if address < SUBSECTION_BASE + SUBSECTION_REACH {
            (address - SUBSECTION_BASE, WHICH_POOL)
        } else {
            (NONPAGED_POOL_END - address, 0)
        };
        (delta >> 7) << 11 | (delta >> 3 & 0xF) << 1 | pool
    }
}

impl PagingMode for I386 {
    const NAME: &'static str = "i386";
    const TOP: Level = Level::Directory;
    const ADDRESS_BITS: u32 = 32;
    const TOP_ENTRIES: usize = 1024;

    const HIGHEST_USER_ADDRESS: Va = Va::new(0x7FFE_FFFF);
    const HIGHEST_VAD_ADDRESS: Va = Va::new(0x7FFD_FFFF);
    const USER_PROBE_ADDRESS: Va = Va::new(0x7FFF_0000);
    const SYSTEM_RANGE_START: Va = Va::new(0x8000_0000);
    const KERNEL_SHARED_DATA: Va = Va::new(0xFFDF_0000);

    const PTE_BASE: Va = Va::new(0xC000_0000);
    const PTE_TOP: Va = Va::new(0xC03F_FFFF);
    const PDE_BASE: Va = Va::new(0xC030_0000);
    const PPE_BASE: Va = Self::SELF_MAP_ADDRESS;
    const PXE_BASE: Va = Self::SELF_MAP_ADDRESS;
    const SELF_MAP_LEVEL: Level = Level::Directory;
    const SELF_MAP_SLOT: Slot = Slot::from_low_bits(0x300);
    const SELF_MAP_ENTRIES: usize = 1;
    const SELF_MAP_ADDRESS: Va = Va::new(0xC030_0C00);

    const HYPERSPACE_START: Va = Va::new(0xC040_0000);
    const HYPERSPACE_BYTES: Bytes = Bytes::new(0x40_0000);
    const PAGED_POOL_START: Va = Va::new(PAGED_POOL_START);
    const NONPAGED_POOL_START: Va = Va::new(0x8100_0000);
    const LAYOUT: &'static [Region] = &[
        Region::new(RegionUse::NoAccess, 0x0000_0000, 0x0000_FFFF),
        Region::new(RegionUse::User, 0x0001_0000, 0x7FFD_FFFF),
        Region::new(RegionUse::SharedUserData, 0x7FFE_0000, 0x7FFE_0FFF),
        Region::new(RegionUse::NoAccess, 0x7FFE_1000, 0x7FFF_FFFF),
        Region::new(RegionUse::Kseg0, 0x8000_0000, 0x9FFF_FFFF),
        Region::new(RegionUse::SystemViews, 0xA000_0000, 0xBFFF_FFFF),
        Region::new(RegionUse::PageTables, 0xC000_0000, 0xC03F_FFFF),
        Region::new(RegionUse::Hyperspace, 0xC040_0000, 0xC07F_FFFF),
        Region::new(RegionUse::SystemCacheWorkingSet, 0xC0C0_0000, 0xC0FF_FFFF),
        Region::new(RegionUse::SystemCache, 0xC100_0000, 0xE0FF_FFFF),
        Region::new(RegionUse::PagedPool, 0xE100_0000, 0xEAFF_FFFF),
        Region::new(RegionUse::SystemPtes, 0xEB00_0000, 0xFFBD_FFFF),
        Region::new(RegionUse::CrashDump, 0xFFBE_0000, 0xFFBF_EFFF),
        Region::new(RegionUse::Debugger, 0xFFBF_F000, 0xFFBF_FFFF),
        Region::new(RegionUse::Hal, 0xFFC0_0000, 0xFFFF_FFFF),
    ];

    #[inline]
    fn canonical(address: u64) -> Va {
        Va::new(address & (ADDRESS_SPACE - 1))
    }
}
