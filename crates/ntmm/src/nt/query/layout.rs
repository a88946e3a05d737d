//! The classes of information, their sizes, and the structures of fixed size (nt-api 7.2, 7.5,
//! 7.7, 7.8).

use super::super::PointerWidth;
use super::super::constants::{
    MEM_COMMIT, MEM_FREE, MEM_IMAGE, MEM_MAPPED, MEM_PRIVATE, MEM_RESERVE,
};
use super::super::profile::Behaviour;
use crate::vad::{Placeholder, VadKind};
use crate::virtual_memory::{AllocationInformation, MemoryInformation, MemoryState};
use ntmm_pte::protection::PAGE_NOACCESS;

/// A class of information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Basic,
    WorkingSet,
    MappedFilename,
    Region,
    WorkingSetEx,
    SharedCommit,
    Image,
    RegionEx,
    PrivilegedBasic,
}

impl Class {
    /// The class with this number, if the version knows it.
    pub(super) fn parse(number: u32, behaviour: &Behaviour) -> Option<Self> {
        if number > behaviour.newest_class {
            return None;
        }
        match number {
            0 => Some(Self::Basic),
            1 => Some(Self::WorkingSet),
            2 => Some(Self::MappedFilename),
            3 => Some(Self::Region),
            4 => Some(Self::WorkingSetEx),
            5 => Some(Self::SharedCommit),
            6 => Some(Self::Image),
            7 => Some(Self::RegionEx),
            8 => Some(Self::PrivilegedBasic),
            _ => None,
        }
    }

    /// Bytes the buffer must have at least.
    pub(super) const fn shortest(self, width: PointerWidth) -> u64 {
        match (self, width) {
            (Self::Basic | Self::PrivilegedBasic, PointerWidth::Bits64) => 0x30,
            (Self::Basic | Self::PrivilegedBasic, PointerWidth::Bits32) => 0x1C,
            // A count and one entry.
            (Self::WorkingSet, _) => 2 * width.bytes(),
            (Self::MappedFilename, _) => 2 * width.bytes(),
            (Self::Region | Self::RegionEx, PointerWidth::Bits64) => 0x18,
            (Self::Region | Self::RegionEx, PointerWidth::Bits32) => 0x10,
            (Self::WorkingSetEx, _) => 2 * width.bytes(),
            (Self::SharedCommit, _) => width.bytes(),
            (Self::Image, PointerWidth::Bits64) => 0x18,
            (Self::Image, PointerWidth::Bits32) => 0xC,
        }
    }
}

/// Size of MEMORY_REGION_INFORMATION in full.
pub(super) const fn region_bytes(width: PointerWidth) -> u64 {
    match width {
        PointerWidth::Bits64 => 0x30,
        PointerWidth::Bits32 => 0x20,
    }
}

/// MEMORY_BASIC_INFORMATION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BasicInformation {
    /// BaseAddress: the page asked about.
    pub base: u64,
    /// AllocationBase; 0 for free memory.
    pub allocation_base: u64,
    /// AllocationProtect, PAGE_* bits; 0 for free memory.
    pub allocation_protection: u32,
    /// RegionSize, in bytes from the base on.
    pub size: u64,
    /// State: MEM_FREE, MEM_RESERVE or MEM_COMMIT.
    pub state: u32,
    /// Protect, PAGE_* bits; 0 for reserved memory.
    pub protection: u32,
    /// Type: 0, MEM_PRIVATE, MEM_MAPPED or MEM_IMAGE.
    pub kind: u32,
}

impl BasicInformation {
    pub(super) fn new(found: &MemoryInformation) -> Self {
        let (allocation_base, allocation_protection) = found
            .allocation
            .map_or((0, 0), |(base, protection)| (base.get(), protection.to_page_flags()));
        let committed = found.protection.map_or(0, |protection| protection.to_page_flags());
        let (state, protection) = match found.state {
            MemoryState::Free => (MEM_FREE, PAGE_NOACCESS),
            MemoryState::Reserved => (MEM_RESERVE, 0),
            MemoryState::Committed => (MEM_COMMIT, committed),
        };
        Self {
            base: found.base.get(),
            allocation_base,
            allocation_protection,
            size: found.size.get(),
            state,
            protection,
            kind: found.kind.map_or(0, memory_type),
        }
    }
}

/// The type a query reports for memory of a kind.
const fn memory_type(kind: VadKind) -> u32 {
    match kind {
        VadKind::ImageView => MEM_IMAGE,
        VadKind::View | VadKind::LargePageView | VadKind::Rotate => MEM_MAPPED,
        VadKind::Private
        | VadKind::PhysicalMapping
        | VadKind::AddressWindow
        | VadKind::WriteWatch
        | VadKind::LargePages => MEM_PRIVATE,
    }
}

/// MEMORY_REGION_INFORMATION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionInformation {
    /// AllocationBase.
    pub allocation_base: u64,
    /// AllocationProtect, PAGE_* bits.
    pub allocation_protection: u32,
    /// RegionType; none of its bits is set but in the extended form.
    pub kind: u32,
    /// RegionSize: of the whole allocation, in bytes.
    pub size: u64,
    /// CommitSize: what is committed of it, in bytes.
    pub committed: u64,
}

impl RegionInformation {
    /// The information of class 3.
    pub(super) fn plain(found: &AllocationInformation) -> Self {
        Self {
            allocation_base: found.region.base.get(),
            allocation_protection: found.protection.to_page_flags(),
            kind: 0,
            size: found.region.size.get(),
            committed: found.committed.get(),
        }
    }

    /// The information of class 7.
    pub(super) fn extended(found: &AllocationInformation) -> Self {
        const PRIVATE: u32 = 1;
        const MAPPED_DATA_FILE: u32 = 2;
        const MAPPED_IMAGE: u32 = 4;
        const MAPPED_PHYSICAL: u32 = 0x10;
        const PLACEHOLDER: u32 = 0x100;
        let kind = match found.kind {
            VadKind::ImageView => MAPPED_IMAGE,
            VadKind::View | VadKind::LargePageView | VadKind::Rotate => MAPPED_DATA_FILE,
            VadKind::PhysicalMapping => MAPPED_PHYSICAL,
            VadKind::Private
            | VadKind::AddressWindow
            | VadKind::WriteWatch
            | VadKind::LargePages => PRIVATE,
        };
        let placeholder = if found.placeholder == Placeholder::Empty { PLACEHOLDER } else { 0 };
        Self { kind: kind | placeholder, ..Self::plain(found) }
    }
}

/// MEMORY_IMAGE_INFORMATION; all zero for memory that is no image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageInformation {
    /// ImageBase.
    pub base: u64,
    /// SizeOfImage, in bytes.
    pub size: u64,
    /// ImageFlags.
    pub flags: u32,
}

impl ImageInformation {
    /// The information of class 6: an image whose view shows less than all of it is said to be
    /// mapped in part.
    pub(super) fn new(found: &AllocationInformation) -> Self {
        const PARTIAL_MAP: u32 = 1;
        match found.mapped {
            Some(mapped) if found.kind == VadKind::ImageView => Self {
                base: found.region.base.get(),
                size: mapped.size.get(),
                flags: if found.region.size < mapped.size { PARTIAL_MAP } else { 0 },
            },
            _ => Self::default(),
        }
    }
}
