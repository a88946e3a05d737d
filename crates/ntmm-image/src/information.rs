//! What a query of an image section reports: `SECTION_IMAGE_INFORMATION` (spec API 12).

use bitflags::bitflags;
use object::LittleEndian as LE;
use object::pe::{
    COMIMAGE_FLAGS_32BITPREFERRED, COMIMAGE_FLAGS_32BITREQUIRED, COMIMAGE_FLAGS_ILONLY, CorFlags,
    IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE, ImageCor20Header,
};

use crate::headers::{Format, Headers};
use crate::host::Profile;
use crate::layout::Mapping;
use crate::subsection::Subsection;

/// A version as headers write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// What comes before the dot.
    pub major: u16,
    /// What comes after it.
    pub minor: u16,
}

/// The oldest runtime whose images can consist of intermediate language alone.
const FIRST_IL_ONLY_RUNTIME: Version = Version { major: 2, minor: 5 };

bitflags! {
    /// `ImageFlags`: how an image is mapped, and what its CLR header asks for.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct ImageFlags: u8 {
        /// `ComPlusNativeReady`: language-neutral code in a PE32 image that does not insist on
        /// 32 bits.
        const COM_PLUS_NATIVE_READY = 0x01;
        /// `ComPlusILOnly`: no code of any processor.
        const COM_PLUS_IL_ONLY = 0x02;
        /// `ImageDynamicallyRelocated`: code that may be put at an address of the system's
        /// choice.
        const DYNAMICALLY_RELOCATED = 0x04;
        /// `ImageMappedFlat`: sections are aligned to less than a page.
        const MAPPED_FLAT = 0x08;
        /// `BaseBelow4gb`. No image has been seen to have it.
        const BASE_BELOW_4GB = 0x10;
        /// `ComPlusPrefer32bit`: language-neutral code that prefers 32 bits.
        const COM_PLUS_PREFER_32BIT = 0x20;
    }
}

/// Everything of `SECTION_IMAGE_INFORMATION`.
///
/// A 32-bit program on a 64-bit system that asks about a 64-bit image gets fixed values instead of
/// some of these; that is up to who answers the query. `ZeroBits` is always zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageInformation {
    /// Preferred base plus entry point.
    pub transfer_address: u64,
    /// Bytes of address space for the first thread's stack.
    pub maximum_stack_size: u64,
    /// Bytes of it to commit.
    pub committed_stack_size: u64,
    /// What the program needs to run in, `IMAGE_SUBSYSTEM_*`.
    pub subsystem: u16,
    /// The version of that.
    pub subsystem_version: Version,
    /// The version of the system it was made for.
    pub operating_system_version: Version,
    /// `IMAGE_FILE_*`.
    pub image_characteristics: u16,
    /// `IMAGE_DLLCHARACTERISTICS_*`.
    pub dll_characteristics: u16,
    /// `IMAGE_FILE_MACHINE_*`.
    pub machine: u16,
    /// `ImageContainsCode`.
    pub contains_code: bool,
    /// `ImageFlags`.
    pub flags: ImageFlags,
    /// 1 when the image names a CLR header, or else 0.
    pub loader_flags: u32,
    /// Bytes of the file, its low 32 bits.
    pub image_file_size: u32,
    /// The header's checksum; nobody has compared it with the file.
    pub check_sum: u32,
}

impl ImageInformation {
    /// Bytes of the structure as a 64-bit system stores it.
    pub const SIZE_64: usize = 0x40;
    /// Bytes of the structure as a 32-bit system stores it.
    pub const SIZE_32: usize = 0x30;

    pub(crate) fn new(
        headers: &Headers,
        profile: Profile,
        file_size: u64,
        subsections: &[Subsection],
        clr: Option<ImageCor20Header>,
    ) -> Self {
        let mapping = Mapping::of(headers);
        let contains_code = contains_code(headers, profile, mapping, subsections);
        Self {
            transfer_address: headers.image_base.wrapping_add(headers.entry_point.into()),
            maximum_stack_size: headers.stack_reserve,
            committed_stack_size: headers.stack_commit,
            subsystem: headers.subsystem.0,
            subsystem_version: headers.subsystem_version,
            operating_system_version: headers.operating_system_version,
            image_characteristics: headers.characteristics.0,
            dll_characteristics: headers.dll_characteristics.0,
            machine: headers.machine.0,
            contains_code,
            flags: mapping_flags(headers, mapping, contains_code)
                | clr.map_or(ImageFlags::empty(), |clr| clr_flags(&clr, headers.format, profile)),
            loader_flags: u32::from(headers.clr.is_present()),
            image_file_size: file_size as u32,
            check_sum: headers.check_sum,
        }
    }
}

fn contains_code(
    headers: &Headers,
    profile: Profile,
    mapping: Mapping,
    subsections: &[Subsection],
) -> bool {
    let says_so = headers.size_of_code != 0 || headers.entry_point != 0;
    match profile {
        Profile::Legacy => says_so,
        Profile::Modern => {
            let executable = || subsections.iter().any(|part| part.protection().is_executable());
            says_so || mapping == Mapping::Flat || executable()
        }
    }
}

fn mapping_flags(headers: &Headers, mapping: Mapping, contains_code: bool) -> ImageFlags {
    let dynamic = headers.dll_characteristics.0 & IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE.0 != 0;
    match mapping {
        Mapping::Flat => ImageFlags::MAPPED_FLAT,
        Mapping::BySection if dynamic && contains_code && !headers.clr.is_present() => {
            ImageFlags::DYNAMICALLY_RELOCATED
        }
        Mapping::BySection => ImageFlags::empty(),
    }
}

fn clr_flags(clr: &ImageCor20Header, format: Format, profile: Profile) -> ImageFlags {
    let has = |CorFlags(flag): CorFlags| clr.flags.get(LE).0 & flag != 0;
    let runtime = Version {
        major: clr.major_runtime_version.get(LE),
        minor: clr.minor_runtime_version.get(LE),
    };
    let mut flags = ImageFlags::empty();
    if !has(COMIMAGE_FLAGS_ILONLY) || runtime < FIRST_IL_ONLY_RUNTIME {
        return flags;
    }
    flags |= ImageFlags::COM_PLUS_IL_ONLY;
    if format == Format::Pe32 {
        flags.set(ImageFlags::COM_PLUS_NATIVE_READY, !has(COMIMAGE_FLAGS_32BITREQUIRED));
        let prefers = profile == Profile::Modern && has(COMIMAGE_FLAGS_32BITPREFERRED);
        flags.set(ImageFlags::COM_PLUS_PREFER_32BIT, prefers);
    }
    flags
}
