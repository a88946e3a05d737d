//! amd64: four levels of 512 entries of 64 bits; 8 TiB of user memory, 1 TiB of physical.
//!
//! | form              | 0 | 1-4              | 5-9        | 8         | 10 | 11-15            | 12-39              | 16-63 or 32-63            |
//! |-------------------|---|------------------|------------|-----------|----|------------------|--------------------|---------------------------|
//! | demand zero       | 0 | 0                | protection |           | 0  | 11: 0            | 0                  | 0                         |
//! | page file         | 0 | paging file      | protection |           | 0  | 11: 0            | 12-21 used entries | 32-63 offset, not 0       |
//! | transition        | 0 | W, owner, WT, CD | protection |           | 0  | 11: 1            | frame              | 40-63: 0                  |
//! | prototype lookup  | 0 | 0                | protection |           | 1  | 0                | 0                  | 32-63 all ones            |
//! | prototype pointer | 0 | 0                |            | read-only | 1  | 11-15 protection |                    | 16-63 signed address      |
//! | subsection        | 0 | 0                | protection |           | 1  | 0                |                    | 16-63 signed address      |
//! | free system entry | 0 | 1: one entry     | 0          |           | 0  | 0                | 0                  | 32-63 next index          |
//!
//! Valid: the common low bits (see [`crate::format`]), a frame of 28 bits in 12-39, a
//! working-set hint in 52-62 and no-execute in 63. The frame field is that of the systems
//! before Vista; later ones use 36 bits.

use crate::format::bits::{POINTER_READ_ONLY, PROTOTYPE, WIDE_POINTER_PROTECTION_SHIFT};
use crate::format::sealed::Sealed;
use crate::{
    Bytes, Level, PagingMode, Protection, PrototypeAddress, PrototypePointer, PteFormat, Region,
    RegionUse, Slot, SubsectionAddress, Va,
};

/// First bit of a pointer in an invalid word.
const POINTER_SHIFT: u32 = 16;
/// From here on a prototype pointer would read as a lookup.
const LOOKUP_ADDRESSES: u64 = 0xFFFF_FFFF_FFFF_0000;

/// The amd64 mode: four levels of 64-bit entries.
#[derive(Copy, Clone, Default, Eq, PartialEq, Debug)]
pub struct Amd64;

impl Sealed for Amd64 {}

impl PteFormat for Amd64 {
    const ENTRY_BYTES: usize = 8;
    const FRAME_BITS: u32 = 28;
    const OFFSET_SHIFT: u32 = 32;
    const OFFSET_BITS: u32 = 32;
    const KEEPS_USED_ENTRIES: bool = true;
    const HAS_NO_EXECUTE: bool = true;
    const HAS_WORKING_SET_HINT: bool = true;

    fn prototype_address(va: Va) -> Option<PrototypeAddress> {
        (Self::is_canonical(va) && va.get() & 7 == 0 && va.get() < LOOKUP_ADDRESSES)
            .then_some(PrototypeAddress::trusted(va.get()))
    }

    fn subsection_address(va: Va) -> Option<SubsectionAddress> {
        (Self::is_canonical(va) && va.get() & 7 == 0)
            .then_some(SubsectionAddress::trusted(va.get()))
    }

    #[inline]
    fn decode_prototype_pointer(word: u64) -> PrototypePointer {
        PrototypePointer {
            address: PrototypeAddress::trusted(signed_pointer(word)),
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
        SubsectionAddress::trusted(signed_pointer(word))
    }

    #[inline]
    fn encode_subsection(address: SubsectionAddress) -> u64 {
        address.va().get() << POINTER_SHIFT
    }
}

/// The address in bits 16 to 63, its sign extended.
#[inline]
const fn signed_pointer(word: u64) -> u64 {
    (word as i64 >> POINTER_SHIFT) as u64
}

impl PagingMode for Amd64 {
    const NAME: &'static str = "amd64";
    const TOP: Level = Level::Top;
    const ADDRESS_BITS: u32 = 48;
    const TOP_ENTRIES: usize = 512;

    const HIGHEST_USER_ADDRESS: Va = Va::new(0x0000_07FF_FFFE_FFFF);
    const HIGHEST_VAD_ADDRESS: Va = Va::new(0x0000_07FF_FFFD_FFFF);
    const USER_PROBE_ADDRESS: Va = Va::new(0x0000_07FF_FFFF_0000);
    const SYSTEM_RANGE_START: Va = Va::new(0xFFFF_0800_0000_0000);
    const KERNEL_SHARED_DATA: Va = Va::new(0xFFFF_F780_0000_0000);

    const PTE_BASE: Va = Va::new(0xFFFF_F680_0000_0000);
    const PTE_TOP: Va = Va::new(0xFFFF_F6FF_FFFF_FFFF);
    const PDE_BASE: Va = Va::new(0xFFFF_F6FB_4000_0000);
    const PPE_BASE: Va = Va::new(0xFFFF_F6FB_7DA0_0000);
    const PXE_BASE: Va = Va::new(0xFFFF_F6FB_7DBE_D000);
    const SELF_MAP_LEVEL: Level = Level::Top;
    const SELF_MAP_SLOT: Slot = Slot::from_low_bits(0x1ED);
    const SELF_MAP_ENTRIES: usize = 1;
    const SELF_MAP_ADDRESS: Va = Va::new(0xFFFF_F6FB_7DBE_DF68);

    const HYPERSPACE_START: Va = Va::new(0xFFFF_F700_0000_0000);
    const HYPERSPACE_BYTES: Bytes = Bytes::new(0x80_0000_0000);
    const PAGED_POOL_START: Va = Va::new(0xFFFF_F8A0_0000_0000);
    const NONPAGED_POOL_START: Va = Va::new(0xFFFF_FA80_0100_0000);
    const LAYOUT: &'static [Region] = &[
        Region::new(RegionUse::NoAccess, 0x0000_0000_0000_0000, 0x0000_0000_0000_FFFF),
        Region::new(RegionUse::User, 0x0000_0000_0001_0000, 0x0000_07FF_FFFD_FFFF),
        Region::new(RegionUse::NoAccess, 0x0000_07FF_FFFE_0000, 0x0000_07FF_FFFF_FFFF),
        Region::new(RegionUse::PageTables, 0xFFFF_F680_0000_0000, 0xFFFF_F6FF_FFFF_FFFF),
        Region::new(RegionUse::Hyperspace, 0xFFFF_F700_0000_0000, 0xFFFF_F77F_FFFF_FFFF),
        Region::new(RegionUse::KernelSharedData, 0xFFFF_F780_0000_0000, 0xFFFF_F780_0000_0FFF),
        Region::new(RegionUse::SystemCacheWorkingSet, 0xFFFF_F780_0000_1000, 0xFFFF_F7FF_FFFF_FFFF),
        Region::new(RegionUse::Kseg0, 0xFFFF_F800_0000_0000, 0xFFFF_F87F_FFFF_FFFF),
        Region::new(RegionUse::SystemPtes, 0xFFFF_F880_0000_0000, 0xFFFF_F89F_FFFF_FFFF),
        Region::new(RegionUse::PagedPool, 0xFFFF_F8A0_0000_0000, 0xFFFF_F8BF_FFFF_FFFF),
        Region::new(RegionUse::Session, 0xFFFF_F900_0000_0000, 0xFFFF_F97F_FFFF_FFFF),
        Region::new(RegionUse::SystemCache, 0xFFFF_F980_0000_0000, 0xFFFF_FA7F_FFFF_FFFF),
        Region::new(RegionUse::PfnDatabase, 0xFFFF_FA80_0000_0000, 0xFFFF_FFFF_FFBF_FFFF),
        Region::new(RegionUse::Hal, 0xFFFF_FFFF_FFC0_0000, 0xFFFF_FFFF_FFFF_FFFF),
    ];

    #[inline]
    fn canonical(address: u64) -> Va {
        Va::new(((address << 16) as i64 >> 16) as u64)
    }
}
