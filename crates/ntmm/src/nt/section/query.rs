//! NtQuerySection (nt-api 12).

use super::access::{Section, SectionAccess, open};
use crate::manager::Manager;
use crate::nt::{Caller, Captured, PointerWidth};
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::section::{SectionAttributes, SectionId};
use crate::status::NtStatus;

/// The parameters of the call as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuerySectionParameters {
    /// SectionHandle.
    pub section: Section,
    /// SectionInformationClass.
    pub class: u32,
    /// Whether SectionInformation can be written, all the length of it.
    pub buffer: Captured<()>,
    /// SectionInformationLength, in bytes.
    pub length: u64,
    /// Whether ReturnLength, if it is given, can be written.
    pub return_length: Captured<()>,
    /// What the host has noted of the section's image; none when the section is of none.
    pub image: Option<SectionImageInformation>,
}

/// SECTION_IMAGE_INFORMATION. The host takes it from the headers when it makes the section and
/// keeps it beside the object. ZeroBits is always zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SectionImageInformation {
    /// TransferAddress: preferred base plus entry point.
    pub transfer_address: u64,
    /// MaximumStackSize, in bytes.
    pub maximum_stack_size: u64,
    /// CommittedStackSize, in bytes.
    pub committed_stack_size: u64,
    /// SubSystemType, IMAGE_SUBSYSTEM_*.
    pub subsystem: u32,
    /// SubSystemMinorVersion, then SubSystemMajorVersion.
    pub subsystem_version: [u16; 2],
    /// The same of the system it was made for: OperatingSystemVersion.
    pub system_version: [u16; 2],
    /// ImageCharacteristics, IMAGE_FILE_*.
    pub characteristics: u16,
    /// DllCharacteristics.
    pub dll_characteristics: u16,
    /// Machine, IMAGE_FILE_MACHINE_*.
    pub machine: u16,
    /// ImageContainsCode.
    pub contains_code: bool,
    /// ImageFlags.
    pub flags: u8,
    /// LoaderFlags.
    pub loader_flags: u32,
    /// ImageFileSize, in bytes.
    pub file_size: u32,
    /// CheckSum.
    pub check_sum: u32,
}

/// What to write into the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionInformation {
    /// SectionBasicInformation.
    Basic(SectionBasicInformation),
    /// SectionImageInformation.
    Image(SectionImageInformation),
}

/// SECTION_BASIC_INFORMATION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionBasicInformation {
    /// BaseAddress: where all views of a based section lie, zero for others.
    pub base: u64,
    /// AllocationAttributes, SEC_* bits.
    pub attributes: u32,
    /// MaximumSize, in bytes.
    pub size: u64,
}

/// How the call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuerySectionOutcome {
    /// The status to return.
    pub status: NtStatus,
    /// What to write into the buffer.
    pub information: Option<SectionInformation>,
    /// What to write into ReturnLength, if it is given: bytes of the information.
    pub return_length: Option<u64>,
}

/// The call.
#[derive(Debug)]
#[must_use]
pub struct QuerySection {
    caller: Caller,
    parameters: QuerySectionParameters,
}

/// A class of information.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Basic,
    Image,
}

impl Class {
    const fn parse(class: u32) -> Option<Self> {
        match class {
            0 => Some(Self::Basic),
            1 => Some(Self::Image),
            _ => None,
        }
    }

    const fn size(self, width: PointerWidth) -> u64 {
        match (self, width) {
            (Self::Basic, PointerWidth::Bits32) => 0x10,
            (Self::Basic, PointerWidth::Bits64) => 0x18,
            (Self::Image, PointerWidth::Bits32) => 0x30,
            (Self::Image, PointerWidth::Bits64) => 0x40,
        }
    }
}

impl QuerySection {
    /// The call with these parameters.
    pub const fn new(caller: Caller, parameters: QuerySectionParameters) -> Self {
        Self { caller, parameters }
    }

    /// Rows 1 to 4 of 12.
    fn check(&self) -> Result<(Class, SectionId), NtStatus> {
        let Self { caller, parameters } = self;
        parameters.buffer?;
        parameters.return_length?;
        let class = Class::parse(parameters.class).ok_or(NtStatus::INVALID_INFO_CLASS)?;
        if parameters.length < class.size(caller.width) {
            return Err(NtStatus::INFO_LENGTH_MISMATCH);
        }
        Ok((class, open(caller, parameters.section, SectionAccess::QUERY)?))
    }

    fn run<P: Platform>(
        &self,
        manager: &Manager<P>,
    ) -> Result<(SectionInformation, u64), NtStatus> {
        let (class, section) = self.check()?;
        let length = class.size(self.caller.width);
        let known = manager.section_information(section)?;
        let attributes = SectionAttributes::from_bits_retain(known.attributes);
        if class == Class::Image {
            let image = self.parameters.image;
            let image = image.filter(|_| attributes.contains(SectionAttributes::IMAGE));
            let image = image.ok_or(NtStatus::SECTION_NOT_IMAGE)?;
            return Ok((SectionInformation::Image(image), length));
        }
        let basic = SectionBasicInformation {
            base: known.base.map_or(0, |base| base.get()),
            attributes: attributes.difference(SectionAttributes::NO_CHANGE).bits(),
            size: known.size,
        };
        Ok((SectionInformation::Basic(basic), length))
    }
}

impl<P: Platform> Operation<P> for QuerySection {
    type Output = QuerySectionOutcome;

    fn step(&mut self, manager: &Manager<P>) -> Step<QuerySectionOutcome> {
        Step::Done(match self.run(manager) {
            Ok((information, length)) => QuerySectionOutcome {
                status: NtStatus::SUCCESS,
                information: Some(information),
                return_length: Some(length),
            },
            Err(status) => QuerySectionOutcome { status, information: None, return_length: None },
        })
    }

    fn abandon(self, _manager: &Manager<P>) {}
}
