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
    pub information: Option<SectionBasicInformation>,
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
    ) -> Result<(SectionBasicInformation, u64), NtStatus> {
        let (class, section) = self.check()?;
        let known = manager.section_information(section)?;
        if class == Class::Image {
            return Err(NtStatus::SECTION_NOT_IMAGE);
        }
        let attributes = SectionAttributes::from_bits_retain(known.attributes);
        let basic = SectionBasicInformation {
            base: known.base.map_or(0, |base| base.get()),
            attributes: attributes.difference(SectionAttributes::NO_CHANGE).bits(),
            size: known.size,
        };
        Ok((basic, class.size(self.caller.width)))
    }
}

impl<P: Platform> Operation<P> for QuerySection {
    type Output = QuerySectionOutcome;

    fn step(&mut self, manager: &Manager<P>) -> Step<QuerySectionOutcome> {
        Step::Done(match self.run(manager) {
            Ok((basic, length)) => QuerySectionOutcome {
                status: NtStatus::SUCCESS,
                information: Some(basic),
                return_length: Some(length),
            },
            Err(status) => QuerySectionOutcome { status, information: None, return_length: None },
        })
    }

    fn abandon(self, _manager: &Manager<P>) {}
}
