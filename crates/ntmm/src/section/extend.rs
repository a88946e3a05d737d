//! Making sections of files longer (NtExtendSection, MmExtendSection, spec 8.6; API 13).
//!
//! A section of the new size is made beside the one there is: that makes the file and its control
//! area as long as they have to be. Then the old object takes its size over and the new one is
//! closed. Views that exist keep their size.

use ntmm_pte::Protection;

use super::attributes::SectionAttributes;
use super::control_area::{ControlAreaFlags, ControlAreaId, Holder, SectionId};
use super::create::{CreateSection, SectionKind, SectionRequest};
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::{FileId, Platform};
use crate::status::NtStatus;

/// The extending call. Yields the size that the section has then, in bytes, which is never smaller
/// than it was.
///
/// Raises, with nothing changed, [`NtStatus::INVALID_HANDLE`] when there is no such section,
/// [`NtStatus::SECTION_NOT_EXTENDED`] when it is not of the data of a file, does not allow to write
/// them or its file cannot be made longer, and what [`CreateSection`] raises.
#[derive(Debug)]
#[must_use]
pub struct ExtendSection {
    section: SectionId,
    size: u64,
    longer: Option<CreateSection>,
}

impl ExtendSection {
    /// Makes `section` `size` bytes long, or leaves it as it is when it has as many.
    pub const fn new(section: SectionId, size: u64) -> Self {
        Self { section, size, longer: None }
    }

    /// What to make, or the size that the section has already.
    fn start<P: Platform>(
        &self,
        manager: &Manager<P>,
    ) -> Result<Result<u64, CreateSection>, NtStatus> {
        let mut entry = manager.enter();
        let sections = manager.lock_sections(entry.token());
        let object = sections.find(self.section).ok_or(NtStatus::INVALID_HANDLE)?;
        let area = manager.control_area(ControlAreaId(object.control_area()));
        let state = area.state();
        if !state.contains(ControlAreaFlags::FILE) || state.contains(ControlAreaFlags::IMAGE) {
            return Err(NtStatus::SECTION_NOT_EXTENDED);
        }
        if self.size <= object.size() {
            return Ok(Ok(object.size()));
        }
        let protection = Protection::from_low_bits(u64::from(object.protection()));
        if !protection.is_writable() || protection.is_write_copy() {
            return Err(NtStatus::SECTION_NOT_EXTENDED);
        }
        Ok(Err(CreateSection::new(SectionRequest {
            kind: SectionKind::File(FileId(area.file())),
            size: self.size,
            protection,
            attributes: SectionAttributes::FILE.bits(),
            holder: Holder::System,
        })))
    }

    /// The section takes over the size of `longer`.
    fn take_over<P: Platform>(
        &self,
        manager: &Manager<P>,
        longer: SectionId,
    ) -> Result<u64, NtStatus> {
        let taken = {
            let mut entry = manager.enter();
            let sections = manager.lock_sections(entry.token());
            let object = sections.find(self.section).ok_or(NtStatus::INVALID_HANDLE);
            object.map(|object| {
                object.set_size(self.size.max(object.size()));
                object.size()
            })
        };
        manager.close_section(longer)?;
        taken
    }
}

impl<P: Platform> Operation<P> for ExtendSection {
    type Output = u64;

    fn step(&mut self, manager: &Manager<P>) -> Step<u64> {
        if self.longer.is_none() {
            match self.start(manager) {
                Ok(Err(longer)) => self.longer = Some(longer),
                Ok(Ok(size)) => return Step::Done(size),
                Err(status) => return Step::Raise(status),
            }
        }
        let Some(longer) = &mut self.longer else {
            return Step::Raise(NtStatus::INVALID_PARAMETER);
        };
        match longer.step(manager) {
            Step::Done(longer) => match self.take_over(manager, longer) {
                Ok(size) => Step::Done(size),
                Err(status) => Step::Raise(status),
            },
            Step::Wait(wait) => Step::Wait(wait),
            Step::Raise(status) => Step::Raise(status),
        }
    }

    fn abandon(self, manager: &Manager<P>) {
        if let Some(longer) = self.longer {
            longer.abandon(manager);
        }
    }
}
