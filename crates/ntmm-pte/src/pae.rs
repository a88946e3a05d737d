//! PAE: three levels, entries of 64 bits; 4 GiB of virtual, 64 GiB of physical memory.
//!
//! The top table has four entries and is not a page of its own: several may share one.
//! Its entries have no write, owner, Accessed or Dirty bit (spec 1.4), so they are built
//! with [`crate::PteWord::valid_pdpt`].
//!
//! | form              | 0 | 1-4              | 5-9        | 8         | 10 | 11-15            | 12-37              | 32-63            |
//! |-------------------|---|------------------|------------|-----------|----|------------------|--------------------|------------------|
//! | demand zero       | 0 | 0                | protection |           | 0  | 11: 0            | 0                  | 0                |
//! | page file         | 0 | paging file      | protection |           | 0  | 11: 0            | 12-21 used entries | offset, not 0    |
//! | transition        | 0 | W, owner, WT, CD | protection |           | 0  | 11: 1            | frame              | 38-63: 0         |
//! | prototype lookup  | 0 | 0                | protection |           | 1  | 0                | 0                  | all ones         |
//! | prototype pointer | 0 | 0                |            | read-only | 1  | 11-15 protection | 0                  | prototype address |
//! | subsection        | 0 | 0                | protection |           | 1  | 0                | 0                  | subsection address |
//! | free system entry | 0 | 1: one entry     | 0          |           | 0  | 0                | 0                  | next index       |
//!
//! Valid: the common low bits (see [`crate::format`]), a frame of 26 bits in 12-37 and
//! no-execute in 63. NT leaves bits 12 to 31 of a page-file word unused here; the count of
//! used entries sits where amd64 has it, since nothing else does.

use crate::format::bits::{POINTER_READ_ONLY, PROTOTYPE, WIDE_POINTER_PROTECTION_SHIFT};
use crate::format::sealed::Sealed;
use crate::{
    Bytes, I386, Level, PagingMode, Protection, PrototypeAddress, PrototypePointer, PteFormat,
    Region, RegionUse, Slot, SubsectionAddress, Va,
};

/// First bit of a pointer in an invalid word.
const POINTER_SHIFT: u32 = 32;
/// Bytes in a 32-bit address space.
const ADDRESS_SPACE: u64 = 1 << 32;

/// The PAE mode: three levels of 64-bit entries under a four-entry top.
#[derive(Copy, Clone, Default, Eq, PartialEq, Debug)]
pub struct Pae;

impl Sealed for Pae {}

impl PteFormat for Pae {
    const ENTRY_BYTES: usize = 8;
    const FRAME_BITS: u32 = 26;
    const OFFSET_SHIFT: u32 = 32;
    const OFFSET_BITS: u32 = 32;
    const KEEPS_USED_ENTRIES: bool = true;
    const HAS_NO_EXECUTE: bool = true;
    const HAS_WORKING_SET_HINT: bool = false;

    fn prototype_address(va: Va) -> Option<PrototypeAddress> {
        // Alignment keeps out the all-ones address of a lookup.
        (va.get() < ADDRESS_SPACE && va.get() & 7 == 0)
            .then_some(PrototypeAddress::trusted(va.get()))
    }

    fn subsection_address(va: Va) -> Option<SubsectionAddress> {
        (va.get() < ADDRESS_SPACE && va.get() & 7 == 0)
            .then_some(SubsectionAddress::trusted(va.get()))
    }

    #[inline]
    fn decode_prototype_pointer(word: u64) -> PrototypePointer {
        PrototypePointer {
            address: PrototypeAddress::trusted(word >> POINTER_SHIFT),
            read_only: word & POINTER_READ_ONLY != 0,
            protection: Protection::from_low_bits(word >> WIDE_POINTER_PROTECTION_SHIFT),
        }
    }

    #[inline]
    fn encode_prototype_pointer(pointer: PrototypePointer) -> u64 {
        pointer.address.va().get() << POINTER_SHIFT
            | u64::from(pointer.protection.bits()) << WIDE_POINTER_PROTECTION_SHIFT
            | PROTOTYPE
            | (u64::from(pointer.read_only) * POINTER_READ_ONLY)
    }

    #[inline]
    fn decode_subsection(word: u64) -> SubsectionAddress {
        SubsectionAddress::trusted(word >> POINTER_SHIFT)
    }

    #[inline]
    fn encode_subsection(address: SubsectionAddress) -> u64 {
        address.va().get() << POINTER_SHIFT
    }
}

impl PagingMode for Pae {
    const NAME: &'static str = "pae";
    const TOP: Level = Level::Parent;
    const ADDRESS_BITS: u32 = 32;
    const TOP_ENTRIES: usize = 4;

    const HIGHEST_USER_ADDRESS: Va = I386::HIGHEST_USER_ADDRESS;
    const HIGHEST_VAD_ADDRESS: Va = I386::HIGHEST_VAD_ADDRESS;
    const USER_PROBE_ADDRESS: Va = I386::USER_PROBE_ADDRESS;
    const SYSTEM_RANGE_START: Va = I386::SYSTEM_RANGE_START;
    const KERNEL_SHARED_DATA: Va = I386::KERNEL_SHARED_DATA;

    const PTE_BASE: Va = Va::new(0xC000_0000);
    const PTE_TOP: Va = Va::new(0xC07F_FFFF);
    const PDE_BASE: Va = Va::new(0xC060_0000);
    const PPE_BASE: Va = Self::SELF_MAP_ADDRESS;
    const PXE_BASE: Va = Va::new(0xC060_3018);
    const SELF_MAP_LEVEL: Level = Level::Directory;
    const SELF_MAP_SLOT: Slot = Slot::from_low_bits(0);
    const SELF_MAP_ENTRIES: usize = 4;
    const SELF_MAP_ADDRESS: Va = Va::new(0xC060_3000);

    const HYPERSPACE_START: Va = Va::new(0xC080_0000);
    const HYPERSPACE_BYTES: Bytes = Bytes::new(0x40_0000);
    const PAGED_POOL_START: Va = I386::PAGED_POOL_START;
    const NONPAGED_POOL_START: Va = I386::NONPAGED_POOL_START;
    const LAYOUT: &'static [Region] = &[
        Region::new(RegionUse::NoAccess, 0x0000_0000, 0x0000_FFFF),
        Region::new(RegionUse::User, 0x0001_0000, 0x7FFD_FFFF),
        Region::new(RegionUse::SharedUserData, 0x7FFE_0000, 0x7FFE_0FFF),
        Region::new(RegionUse::NoAccess, 0x7FFE_1000, 0x7FFF_FFFF),
        Region::new(RegionUse::Kseg0, 0x8000_0000, 0x9FFF_FFFF),
        Region::new(RegionUse::SystemViews, 0xA000_0000, 0xBFFF_FFFF),
        Region::new(RegionUse::PageTables, 0xC000_0000, 0xC07F_FFFF),
        Region::new(RegionUse::Hyperspace, 0xC080_0000, 0xC0BF_FFFF),
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
