//! Rights to sections and to the files they are made of (nt-api 1.4, 11.2, 14.2).

use ntmm_pte::{Access, Protection};

use crate::fault::ProcessorMode;
use crate::nt::{Caller, Captured};
use crate::platform::FileId;
use crate::section::SectionId;
use crate::status::NtStatus;

bitflags::bitflags! {
    /// Rights to a section that a handle grants.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SectionAccess: u32 {
        /// SECTION_QUERY.
        const QUERY = 0x1;
        /// SECTION_MAP_WRITE.
        const MAP_WRITE = 0x2;
        /// SECTION_MAP_READ.
        const MAP_READ = 0x4;
        /// SECTION_MAP_EXECUTE.
        const MAP_EXECUTE = 0x8;
        /// SECTION_EXTEND_SIZE.
        const EXTEND_SIZE = 0x10;
        /// Whatever else a handle may grant.
        const _ = !0;
    }
}

const GENERIC_READ: u32 = 1 << 31;
const GENERIC_WRITE: u32 = 1 << 30;
const GENERIC_EXECUTE: u32 = 1 << 29;
const GENERIC_ALL: u32 = 1 << 28;
const MAXIMUM_ALLOWED: u32 = 1 << 25;

const STANDARD_RIGHTS: u32 = 0x2_0000;
const ALL_ACCESS: u32 = 0xF_001F;

impl SectionAccess {
    /// SECTION_ALL_ACCESS.
    pub const ALL: Self = Self::from_bits_retain(ALL_ACCESS);

    /// The rights that a DesiredAccess asks for, generic ones mapped.
    #[must_use]
    pub const fn of_desired(desired: u32) -> Self {
        const fn mapped(desired: u32, generic: u32, rights: u32) -> u32 {
            if desired & generic != 0 { rights } else { 0 }
        }
        let plain = desired & !(0xF << 28 | MAXIMUM_ALLOWED);
        Self::from_bits_retain(
            plain
                | mapped(desired, GENERIC_READ, STANDARD_RIGHTS | 0x5)
                | mapped(desired, GENERIC_WRITE, STANDARD_RIGHTS | 0x2)
                | mapped(desired, GENERIC_EXECUTE, STANDARD_RIGHTS | 0x8)
                | mapped(desired, GENERIC_ALL | MAXIMUM_ALLOWED, ALL_ACCESS),
        )
    }

    /// What a view with `protection` needs: 14.2.
    pub(super) fn for_view(protection: Protection) -> Self {
        match protection.access() {
            Access::None | Access::ReadOnly | Access::WriteCopy => Self::MAP_READ,
            Access::ReadWrite => Self::MAP_WRITE,
            Access::Execute => Self::MAP_EXECUTE,
            Access::ExecuteRead | Access::ExecuteWriteCopy => Self::MAP_READ | Self::MAP_EXECUTE,
            Access::ExecuteReadWrite => Self::MAP_WRITE | Self::MAP_EXECUTE,
        }
    }
}

/// A section and what may be done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionTarget {
    /// The section.
    pub section: SectionId,
    /// The rights of the handle.
    pub access: SectionAccess,
}

/// What a section handle stands for, or the status that says why it stands for none
/// ([`NtStatus::INVALID_HANDLE`], [`NtStatus::OBJECT_TYPE_MISMATCH`]).
pub type Section = Result<SectionTarget, NtStatus>;

/// The section behind a handle, if it grants `wanted`.
pub(super) fn open(
    caller: &Caller,
    section: Section,
    wanted: SectionAccess,
) -> Result<SectionId, NtStatus> {
    let target = section?;
    if caller.mode == ProcessorMode::Kernel || target.access.contains(wanted) {
        Ok(target.section)
    } else {
        Err(NtStatus::ACCESS_DENIED)
    }
}

bitflags::bitflags! {
    /// Rights to a file that a handle grants.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct FileAccess: u32 {
        /// FILE_READ_DATA.
        const READ_DATA = 0x1;
        /// FILE_WRITE_DATA.
        const WRITE_DATA = 0x2;
        /// FILE_EXECUTE.
        const EXECUTE = 0x20;
        /// Whatever else a handle may grant.
        const _ = !0;
    }
}

impl FileAccess {
    /// What a section with `protection` needs: 11.2.
    fn for_section(protection: Protection) -> Self {
        match protection.access() {
            Access::None | Access::ReadOnly | Access::WriteCopy => Self::READ_DATA,
            Access::ReadWrite => Self::READ_DATA | Self::WRITE_DATA,
            Access::Execute => Self::EXECUTE,
            Access::ExecuteRead | Access::ExecuteWriteCopy => Self::READ_DATA | Self::EXECUTE,
            Access::ExecuteReadWrite => Self::READ_DATA | Self::WRITE_DATA | Self::EXECUTE,
        }
    }
}

/// A file and what may be done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileTarget {
    /// The name that the manager knows it by, or [`NtStatus::INVALID_FILE_FOR_SECTION`] when it
    /// cannot be mapped: a device, a pipe.
    pub file: Captured<FileId>,
    /// The rights of the handle.
    pub access: FileAccess,
}

/// What a file handle stands for, or the status that says why it stands for none.
pub type File = Result<FileTarget, NtStatus>;

/// The file behind a handle, if it grants what a section with `protection` needs.
pub(super) fn open_file(
    caller: &Caller,
    file: File,
    protection: Protection,
) -> Result<FileId, NtStatus> {
    let target = file?;
    let wanted = FileAccess::for_section(protection);
    if caller.mode != ProcessorMode::Kernel && !target.access.contains(wanted) {
        return Err(NtStatus::ACCESS_DENIED);
    }
    target.file
}
