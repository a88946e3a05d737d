//! NtCreateSection and MmCreateSection (nt-api 11, 21.1).
//!
//! Both yield a section object. The host makes a handle for it, after
//! [`name_section`](super::name_section) has had its say.

use ntmm_pte::protection::{
    PAGE_EXECUTE, PAGE_EXECUTE_READ, PAGE_EXECUTE_READWRITE, PAGE_EXECUTE_WRITECOPY, PAGE_READONLY,
    PAGE_READWRITE, PAGE_WRITECOPY,
};
use ntmm_pte::{Level, PagingMode, Protection};

use super::access::{File, open_file};
use crate::manager::Manager;
use crate::nt::profile::SparseChecks;
use crate::nt::{Caller, Captured, Privileges, Stage};
use crate::operation::{Operation, Step};
use crate::platform::{FileId, Platform};
use crate::section::{
    CreateSection, Holder, SectionAttributes, SectionId, SectionKind, SectionRequest,
};
use crate::status::NtStatus;

/// The parameters of NtCreateSection as they come. Name and desired access are the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateSectionParameters {
    /// Whether SectionHandle can be written.
    pub handle: Captured<()>,
    /// What MaximumSize points to, in bytes; none for the null pointer.
    pub maximum_size: Captured<Option<u64>>,
    /// SectionPageProtection, PAGE_* bits.
    pub protection: u32,
    /// AllocationAttributes, SEC_* bits.
    pub attributes: u32,
    /// FileHandle; none for null.
    pub file: Option<File>,
}

/// How the call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateSectionOutcome {
    /// The status to return.
    pub status: NtStatus,
    /// The section that was made. Whoever does not keep it closes it.
    pub section: Option<SectionId>,
    /// What becomes of the variable for the handle when there is none.
    pub handle: HandleVariable,
}

/// What becomes of a variable that no handle is stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandleVariable {
    /// It keeps its value.
    Untouched,
    /// It is zero.
    Cleared,
}

/// NtCreateSection.
#[derive(Debug)]
#[must_use]
pub struct CreateSectionCall {
    caller: Caller,
    parameters: CreateSectionParameters,
    stage: Stage<CreateSection>,
}

impl CreateSectionCall {
    /// The call with these parameters.
    pub const fn new(caller: Caller, parameters: CreateSectionParameters) -> Self {
        Self { caller, parameters, stage: Stage::Unchecked }
    }
}

const ATTRIBUTES: SectionAttributes = SectionAttributes::all().difference(SectionAttributes::FILE);

/// Rows 1 to 5 of 11.1.
fn check_attributes(
    caller: &Caller,
    attributes: u32,
    of_file: Option<File>,
) -> Result<SectionAttributes, NtStatus> {
    type Is = SectionAttributes;
    let unknown = attributes & !ATTRIBUTES.bits() != 0;
    let given = Is::from_bits_truncate(attributes);
    let backing = given & (Is::COMMIT | Is::RESERVE | Is::IMAGE);
    let beside_image = given & !Is::IMAGE & !caller.behaviour().image_attributes;
    let wrong_image = backing == Is::IMAGE && !beside_image.is_empty();
    let wrong_large =
        given.contains(Is::LARGE_PAGES) && (backing != Is::COMMIT || of_file.is_some());
    let one = backing.bits().is_power_of_two();
    if unknown || !one || wrong_image || wrong_large {
        return Err(NtStatus::INVALID_PARAMETER_6);
    }
    Ok(given)
}

/// Row 6 of 11.1.
fn check_protection(protection: u32) -> Result<Protection, NtStatus> {
    match protection {
        PAGE_READONLY
        | PAGE_READWRITE
        | PAGE_WRITECOPY
        | PAGE_EXECUTE
        | PAGE_EXECUTE_READ
        | PAGE_EXECUTE_READWRITE
        | PAGE_EXECUTE_WRITECOPY => {
            Protection::from_page_flags(protection).map_err(|_| NtStatus::INVALID_PAGE_PROTECTION)
        }
        _ => Err(NtStatus::INVALID_PAGE_PROTECTION),
    }
}

/// What the section has, as far as it is in the paging files: rows 9 and 10 of 11.1.
fn in_paging_files<M: PagingMode>(
    caller: &Caller,
    attributes: SectionAttributes,
    size: u64,
) -> Result<SectionKind, NtStatus> {
    if size == 0 {
        return Err(NtStatus::INVALID_PARAMETER_4);
    }
    if attributes.contains(SectionAttributes::LARGE_PAGES) {
        if !size.is_multiple_of(M::span(Level::Directory).get()) {
            return Err(NtStatus::INVALID_PARAMETER_4);
        }
        if !caller.holds(Privileges::LOCK_MEMORY) {
            return Err(NtStatus::PRIVILEGE_NOT_HELD);
        }
        return Err(NtStatus::NOT_SUPPORTED);
    }
    Ok(if attributes.contains(SectionAttributes::RESERVE) {
        SectionKind::Reserved
    } else {
        SectionKind::Committed
    })
}

/// Row 19 of 11.1, as far as it goes without the headers of the image.
fn of_image<P: Platform>(manager: &Manager<P>, file: FileId) -> Result<SectionKind, NtStatus> {
    if manager.platform().file_size(file)? == 0 {
        return Err(NtStatus::INVALID_FILE_FOR_SECTION);
    }
    Err(NtStatus::NOT_SUPPORTED)
}

/// The typed call.
fn typed(
    kind: SectionKind,
    size: u64,
    protection: Protection,
    attributes: SectionAttributes,
    holder: Holder,
) -> CreateSection {
    // What is said of a file is not how its pages are committed (11.3).
    let committing = SectionAttributes::COMMIT | SectionAttributes::RESERVE;
    let attributes = match kind {
        SectionKind::Committed | SectionKind::Reserved => attributes,
        SectionKind::File(_) => attributes.difference(committing) | SectionAttributes::FILE,
    };
    let attributes = attributes.bits();
    CreateSection::new(SectionRequest { kind, size, protection, attributes, holder })
}

/// Rows 8 to 19 of 11.1; what depends on the size of a file is the typed call's.
fn check_backing<P: Platform>(
    manager: &Manager<P>,
    caller: &Caller,
    (attributes, protection): (SectionAttributes, Protection),
    maximum_size: Option<u64>,
    file: Option<File>,
) -> Result<CreateSection, NtStatus> {
    let size = maximum_size.unwrap_or(0);
    let image = attributes.contains(SectionAttributes::IMAGE);
    let kind = match file {
        None if image => return Err(NtStatus::INVALID_FILE_FOR_SECTION),
        None => in_paging_files::<P::Paging>(caller, attributes, size)?,
        Some(file) => match open_file(caller, file, protection)? {
            file if image => of_image(manager, file)?,
            file => SectionKind::File(file),
        },
    };
    Ok(typed(kind, size, protection, attributes, Holder::User))
}

fn check<P: Platform>(
    manager: &Manager<P>,
    caller: &Caller,
    parameters: &CreateSectionParameters,
) -> Result<CreateSection, NtStatus> {
    let CreateSectionParameters { maximum_size, file, .. } = *parameters;
    let attributes = check_attributes(caller, parameters.attributes, file)?;
    let protection = check_protection(parameters.protection)?;
    parameters.handle?;
    check_backing(manager, caller, (attributes, protection), maximum_size?, file)
}

impl<P: Platform> Operation<P> for CreateSectionCall {
    type Output = CreateSectionOutcome;

    fn step(&mut self, manager: &Manager<P>) -> Step<CreateSectionOutcome> {
        let Self { caller, parameters, stage } = self;
        let file = parameters.file;
        // The variable is cleared as soon as it is known that it can be written.
        let reached = check_attributes(caller, parameters.attributes, file).is_ok()
            && check_protection(parameters.protection).is_ok()
            && parameters.handle.is_ok();
        let handle = if reached { HandleVariable::Cleared } else { HandleVariable::Untouched };
        let step = stage.step(manager, || check(manager, caller, parameters));
        step.map(|result| CreateSectionOutcome {
            status: result.err().unwrap_or(NtStatus::SUCCESS),
            section: result.ok(),
            handle,
        })
    }

    fn abandon(self, manager: &Manager<P>) {
        self.stage.abandon(manager);
    }
}

/// The parameters of MmCreateSection. Nothing is probed: a pointer that is an error is
/// dereferenced, which raises it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelSectionParameters {
    /// Whether SectionObject can be written.
    pub object: Captured<()>,
    /// What MaximumSize points to, in bytes.
    pub maximum_size: Captured,
    /// SectionPageProtection, PAGE_* bits.
    pub protection: u32,
    /// AllocationAttributes, SEC_* bits.
    pub attributes: u32,
    /// FileHandle; none for null.
    pub file: Option<File>,
    /// FileObject, which wins over the handle; none for null.
    pub file_object: Option<FileId>,
}

/// How a status came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// The call returned it.
    Returned,
    /// The call raised it as an exception.
    Raised,
}

/// MmCreateSection. Yields the section, or the status and how it came.
#[derive(Debug)]
#[must_use]
pub struct KernelCreateSection {
    caller: Caller,
    parameters: KernelSectionParameters,
    stage: Stage<CreateSection>,
    manner: Manner,
}

impl KernelCreateSection {
    /// The call with these parameters.
    pub const fn new(caller: Caller, parameters: KernelSectionParameters) -> Self {
        Self { caller, parameters, stage: Stage::Unchecked, manner: Manner::Returned }
    }
}

/// The rules of 21.1.
fn check_kernel<P: Platform>(
    manager: &Manager<P>,
    caller: &Caller,
    parameters: &KernelSectionParameters,
    manner: &mut Manner,
) -> Result<CreateSection, NtStatus> {
    type Is = SectionAttributes;
    let KernelSectionParameters { file, file_object, .. } = *parameters;
    let mut attributes = Is::from_bits_truncate(parameters.attributes);
    let behaviour = caller.behaviour();
    if behaviour.sparse_checks == SparseChecks::BeforePointers {
        check_protection(parameters.protection)?;
        if attributes.contains(Is::LARGE_PAGES) && !attributes.contains(Is::COMMIT) {
            return Err(NtStatus::INVALID_PARAMETER_6);
        }
    }
    let size = parameters.maximum_size.inspect_err(|_| *manner = Manner::Raised)?;
    let protection = check_protection(parameters.protection)?;
    if let Some(file) = file_object {
        if attributes.contains(Is::IMAGE) && behaviour.sparse_checks == SparseChecks::BehindPointers
        {
            return Err(NtStatus::INVALID_PARAMETER_6);
        }
        attributes.remove(Is::IMAGE);
        let kind = SectionKind::File(file);
        return Ok(typed(kind, size, protection, attributes, Holder::System));
    }
    check_backing(manager, caller, (attributes, protection), Some(size), file)
}

impl<P: Platform> Operation<P> for KernelCreateSection {
    type Output = Result<SectionId, (NtStatus, Manner)>;

    fn step(&mut self, manager: &Manager<P>) -> Step<Self::Output> {
        let Self { caller, parameters, stage, manner } = self;
        let step = stage.step(manager, || check_kernel(manager, caller, parameters, manner));
        // The object is written last.
        step.map(|result| match (result, parameters.object) {
            (Ok(section), Ok(())) => Ok(section),
            (Ok(section), Err(status)) => {
                // It was made a moment ago and nobody else knows it.
                let _ = manager.close_section(section);
                Err((status, Manner::Raised))
            }
            (Err(status), _) => Err((status, *manner)),
        })
    }

    fn abandon(self, manager: &Manager<P>) {
        self.stage.abandon(manager);
    }
}
