//! NtMapViewOfSection, NtMapViewOfSectionEx and MmMapViewOfSection (nt-api 14, 21.2).
//!
//! A view of a section whose pages are reserved may be committed in part as it is mapped: that is a
//! second call on the pages of the view, and when it fails the view goes again.

use ntmm_pte::mode::LOWEST_USER_ADDRESS;
use ntmm_pte::{ALLOCATION_GRANULARITY, Bytes, Modifier, PAGE_SIZE, PagingMode, Protection, Va};

use super::access::{Section, SectionAccess, open as open_section};
use crate::address_space::AddressSpaceId;
use crate::manager::Manager;
use crate::nt::constants::{
    AT_ROUND_TO_PAGE, MEM_LARGE_PAGES, MEM_REPLACE_PLACEHOLDER, MEM_RESERVE, MEM_TOP_DOWN,
    SEC_NO_CHANGE,
};
use crate::nt::profile::Placeholders;
use crate::nt::requirements::{ExtendedParameter, Requirements, Wishes, requirements_of};
use crate::nt::target::open;
use crate::nt::{AddressLimit, Caller, Captured, Outcome, Process, ProcessAccess};
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::section::view::allows;
use crate::section::{
    Extent, Inherit, MapView, MappedView, SectionAttributes, SectionId, SectionInformation,
    UnmapView, ViewPlace, ViewRequest,
};
use crate::status::NtStatus;
use crate::vad::ProtectionChange;
use crate::virtual_memory::{Allocate, AllocationType, Direction, Placement, Window};

/// The parameters of the call as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapViewParameters {
    /// SectionHandle.
    pub section: Section,
    /// ProcessHandle.
    pub process: Process,
    /// What BaseAddress points to.
    pub base: Captured,
    /// ZeroBits; the extended call has none.
    pub zero_bits: u64,
    /// CommitSize, in bytes; the extended call has none.
    pub commit_size: u64,
    /// What SectionOffset points to, in bytes; none for the null pointer.
    pub offset: Captured<Option<u64>>,
    /// What ViewSize points to, in bytes.
    pub view_size: Captured,
    /// InheritDisposition; the extended call has none.
    pub inherit: u32,
    /// AllocationType, MEM_* bits and SEC_NO_CHANGE.
    pub kind: u32,
    /// Win32Protect, PAGE_* bits.
    pub protection: u32,
}

/// What is written back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedRange {
    /// What to write through the base pointer.
    pub base: u64,
    /// What to write through the size pointer: whole pages.
    pub size: u64,
    /// What to write through the pointer to the offset, if there is one.
    pub offset: u64,
}

/// Which of the calls it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain,
    Extended(Result<Requirements, NtStatus>),
    Kernel,
}

/// The call. Yields the view.
#[derive(Debug)]
#[must_use]
pub struct MapViewOfSection {
    caller: Caller,
    parameters: MapViewParameters,
    form: Form,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Unchecked,
    /// The view is made; so many bytes of it are to be committed.
    Mapping(MapView, Bytes),
    /// Pages of the view are committed.
    Committing(Allocate, MappedView),
    /// They could not be.
    Unmapping(UnmapView, NtStatus),
    Finished,
}

impl MapViewOfSection {
    /// NtMapViewOfSection.
    pub const fn new(caller: Caller, parameters: MapViewParameters) -> Self {
        Self { caller, parameters, form: Form::Plain, stage: Stage::Unchecked }
    }

    /// NtMapViewOfSectionEx with `count` parameters at an address that could be read as
    /// `extended`, of which the first eight suffice; none for the null pointer.
    pub fn extended(
        caller: Caller,
        parameters: MapViewParameters,
        extended: Option<&[ExtendedParameter]>,
        count: u64,
    ) -> Self {
        let given = extended.unwrap_or_default();
        let wanted = usize::try_from(count).ok().and_then(|count| given.get(..count));
        let extended = wanted.ok_or(NtStatus::INVALID_PARAMETER).and_then(requirements_of);
        Self { caller, parameters, form: Form::Extended(extended), stage: Stage::Unchecked }
    }

    /// MmMapViewOfSection: handles are not asked for rights, parameters not checked by number, and
    /// page boundaries will do.
    pub const fn of_kernel(caller: Caller, parameters: MapViewParameters) -> Self {
        Self { caller, parameters, form: Form::Kernel, stage: Stage::Unchecked }
    }

    const fn inherit(parameters: &MapViewParameters, form: Form) -> Inherit {
        match form {
            Form::Extended(_) => Inherit::Unmap,
            Form::Plain | Form::Kernel => {
                if parameters.inherit == VIEW_SHARE {
                    Inherit::Share
                } else {
                    Inherit::Unmap
                }
            }
        }
    }
}

/// ViewShare.
const VIEW_SHARE: u32 = 1;
/// ViewUnmap.
const VIEW_UNMAP: u32 = 2;

/// The parameters, as far as they can be checked without looking at the section.
struct Request {
    space: AddressSpaceId,
    section: SectionId,
    base: u64,
    size: u64,
    offset: u64,
    limit: AddressLimit,
    wishes: Wishes,
    kind: u32,
    protection: Protection,
    commit_size: u64,
    /// What base and offset must be multiples of.
    base_unit: u64,
    offset_unit: u64,
}

impl Request {
    const fn has(&self, bits: u32) -> bool {
        self.kind & bits != 0
    }

    /// Rows 1 to 9 of 14.1, and those of 14.6 that are about the same parameters.
    fn parse<M: PagingMode>(
        caller: &Caller,
        parameters: &MapViewParameters,
        form: Form,
    ) -> Result<Self, NtStatus> {
        let MapViewParameters { inherit, kind, zero_bits, commit_size, .. } = *parameters;
        let narrow = M::ADDRESS_BITS == 32;
        let mut known = MEM_TOP_DOWN | MEM_LARGE_PAGES | MEM_RESERVE | SEC_NO_CHANGE;
        let mut wishes = Wishes::NONE;
        match form {
            Form::Extended(_) if caller.behaviour().placeholders == Placeholders::Unknown => {
                return Err(NtStatus::NOT_IMPLEMENTED);
            }
            Form::Extended(extended) => {
                let requirements = extended?;
                if let Some(Ok(asked)) = requirements
                    && asked.alignment != 0
                {
                    return Err(NtStatus::INVALID_PARAMETER);
                }
                wishes = Wishes::of::<M>(requirements, parameters.base.unwrap_or_default())?;
                known |= MEM_REPLACE_PLACEHOLDER;
            }
            Form::Plain if inherit != VIEW_SHARE && inherit != VIEW_UNMAP => {
                return Err(NtStatus::INVALID_PARAMETER_8);
            }
            Form::Plain | Form::Kernel => known |= if narrow { AT_ROUND_TO_PAGE } else { 0 },
        }
        if kind & !known != 0 {
            return Err(NtStatus::INVALID_PARAMETER_9);
        }
        let protection = Protection::from_page_flags(parameters.protection)
            .map_err(|_| NtStatus::INVALID_PAGE_PROTECTION)?;
        let (base, size) = (parameters.base?, parameters.view_size?);
        let offset = parameters.offset?.unwrap_or(0);
        let highest = M::HIGHEST_USER_ADDRESS.get();
        if form == Form::Kernel {
            if size > highest {
                return Err(NtStatus::INVALID_VIEW_SIZE);
            }
        } else if base > highest || size > highest + 1 - base {
            return Err(NtStatus::INVALID_PARAMETER_3);
        }
        let illegal = NtStatus::INVALID_PARAMETER_4;
        let limit = AddressLimit::parse::<M>(zero_bits, caller.behaviour(), illegal)?;
        if let AddressLimit::Last(last) = limit
            && base != 0
            && base.saturating_add(size.max(1) - 1) > last.get()
        {
            return Err(NtStatus::INVALID_PARAMETER_4);
        }
        let (space, section) = if form == Form::Kernel {
            (parameters.process?.space, parameters.section?.section)
        } else {
            let space = open(caller, parameters.process, &[ProcessAccess::VM_OPERATION])?;
            let wanted = SectionAccess::for_view(protection);
            (space, open_section(caller, parameters.section, wanted)?)
        };
        let by_page = form == Form::Kernel || kind & MEM_REPLACE_PLACEHOLDER != 0;
        let rounded = kind & AT_ROUND_TO_PAGE != 0 && narrow;
        Ok(Self {
            space,
            section,
            base: if rounded { base - base % PAGE_SIZE } else { base },
            size,
            offset,
            limit,
            wishes,
            kind,
            protection,
            commit_size,
            base_unit: if by_page || rounded { PAGE_SIZE } else { ALLOCATION_GRANULARITY },
            offset_unit: match form {
                Form::Kernel => 1,
                _ if by_page => PAGE_SIZE,
                _ => ALLOCATION_GRANULARITY,
            },
        })
    }

    /// Rows 10 to 16 of 14.1. Yields the size of the view.
    fn check_against(&self, caller: &Caller, known: &SectionInformation) -> Result<u64, NtStatus> {
        let attributes = SectionAttributes::from_bits_retain(known.attributes);
        let small = !attributes.contains(SectionAttributes::LARGE_PAGES);
        if self.has(MEM_LARGE_PAGES)
            && small
            && let Some(status) = caller.behaviour().view_in_large_pages
        {
            return Err(status);
        }
        let aligned = self.offset.is_multiple_of(self.offset_unit)
            && self.base.is_multiple_of(self.base_unit);
        if !aligned {
            return Err(NtStatus::MAPPED_ALIGNMENT);
        }
        let image = attributes.contains(SectionAttributes::IMAGE);
        if !image && !allows(known.protection, self.protection) {
            return Err(NtStatus::SECTION_PROTECTION);
        }
        let reserving = self.has(MEM_RESERVE);
        if reserving {
            if !attributes.contains(SectionAttributes::FILE) || image {
                return Err(NtStatus::INVALID_PARAMETER_9);
            }
            if !known.protection.is_writable() || known.protection.is_write_copy() {
                return Err(NtStatus::SECTION_PROTECTION);
            }
        }
        let rest = known.size.checked_sub(self.offset).filter(|&rest| rest > 0);
        let rest = rest.ok_or(NtStatus::INVALID_VIEW_SIZE)?;
        let size = if self.size == 0 { rest } else { self.size };
        if !reserving {
            if size > rest {
                return Err(NtStatus::INVALID_VIEW_SIZE);
            }
            if self.commit_size > size {
                return Err(NtStatus::INVALID_PARAMETER_5);
            }
        }
        Ok(size)
    }

    /// Where it goes.
    fn placement<M: PagingMode>(&self) -> Placement {
        let base = Va::new(self.base);
        if self.has(MEM_REPLACE_PLACEHOLDER) {
            return Placement::Replacing(base);
        }
        if self.base != 0 {
            return Placement::At(base);
        }
        let highest = match self.limit {
            AddressLimit::None => self.wishes.highest.unwrap_or(M::HIGHEST_VAD_ADDRESS),
            AddressLimit::Last(last) => last,
        };
        Placement::Within(Window {
            lowest: self.wishes.lowest.unwrap_or(LOWEST_USER_ADDRESS),
            highest: highest.min(M::HIGHEST_VAD_ADDRESS),
            alignment: self.wishes.alignment,
            direction: if self.has(MEM_TOP_DOWN) { Direction::Down } else { Direction::Up },
        })
    }
}

/// The protection of a view whose section says how the processor caches it.
const fn cached_as(protection: Protection, attributes: SectionAttributes) -> Protection {
    if protection.is_no_access() || protection.is_guard() {
        return protection;
    }
    if attributes.contains(SectionAttributes::NO_CACHE) {
        Protection::new(protection.access(), Modifier::NoCache)
    } else if attributes.contains(SectionAttributes::WRITE_COMBINE) {
        Protection::new(protection.access(), Modifier::WriteCombine)
    } else {
        protection
    }
}

/// Rows 1 to 16 of 14.1, the typed call, and how much is to be committed then.
fn check<P: Platform>(
    manager: &Manager<P>,
    caller: &Caller,
    parameters: &MapViewParameters,
    form: Form,
) -> Result<(MapView, Bytes), NtStatus> {
    let request = Request::parse::<P::Paging>(caller, parameters, form)?;
    let known = manager.section_information(request.section)?;
    let size = request.check_against(caller, &known)?;
    let attributes = SectionAttributes::from_bits_retain(known.attributes);
    let misplaced = request.offset % PAGE_SIZE;
    let view = MapView::new(
        request.space,
        ViewRequest {
            section: request.section,
            placement: request.placement::<P::Paging>(),
            offset: request.offset - misplaced,
            size: Bytes::new(size.saturating_add(misplaced)),
            protection: cached_as(request.protection, attributes),
            protection_change: if request.has(SEC_NO_CHANGE) {
                ProtectionChange::Refused
            } else {
                ProtectionChange::Allowed
            },
            inherit: MapViewOfSection::inherit(parameters, form),
        },
    );
    let view = if request.base_unit == PAGE_SIZE { view.aligned_to_pages() } else { view };
    let extent = if request.has(MEM_RESERVE) { Extent::Reserving } else { Extent::OfSection };
    let in_part = attributes.contains(SectionAttributes::RESERVE);
    let commit = Bytes::new(if in_part { request.commit_size } else { 0 });
    Ok((view.reaching(extent), commit))
}

impl MapViewOfSection {
    /// Goes on as far as it goes without waiting.
    fn advance<P: Platform>(&mut self, manager: &Manager<P>) -> Step<MappedView> {
        loop {
            self.stage = match &mut self.stage {
                Stage::Unchecked => {
                    match check(manager, &self.caller, &self.parameters, self.form) {
                        Ok((view, commit)) => Stage::Mapping(view, commit),
                        Err(status) => return Step::Raise(status),
                    }
                }
                Stage::Mapping(view, commit) => {
                    let mapped = match view.step(manager) {
                        Step::Done(mapped) => mapped,
                        other => return other,
                    };
                    if commit.is_zero() {
                        return Step::Done(mapped);
                    }
                    let Ok(target) = self.parameters.process else {
                        return Step::Done(mapped);
                    };
                    // The view has this protection already.
                    let protection = Protection::from_page_flags(self.parameters.protection);
                    let place = Placement::At(mapped.region.base);
                    let commit = Allocate::new(
                        target.space,
                        place,
                        *commit,
                        AllocationType::Commit,
                        protection.unwrap_or(Protection::NO_ACCESS),
                    );
                    Stage::Committing(commit, mapped)
                }
                Stage::Committing(commit, mapped) => match commit.step(manager) {
                    Step::Done(_) => return Step::Done(*mapped),
                    Step::Wait(wait) => return Step::Wait(wait),
                    Step::Raise(status) => match self.parameters.process {
                        Ok(target) => {
                            let unmap = UnmapView::new(target.space, mapped.region.base);
                            Stage::Unmapping(unmap, status)
                        }
                        Err(status) => return Step::Raise(status),
                    },
                },
                Stage::Unmapping(unmap, status) => match unmap.step(manager) {
                    Step::Wait(wait) => return Step::Wait(wait),
                    Step::Done(_) | Step::Raise(_) => return Step::Raise(*status),
                },
                Stage::Finished => return Step::Raise(NtStatus::INVALID_PARAMETER),
            };
        }
    }
}

impl<P: Platform> Operation<P> for MapViewOfSection {
    type Output = Outcome<MappedRange>;

    fn step(&mut self, manager: &Manager<P>) -> Step<Self::Output> {
        let result = match self.advance(manager) {
            Step::Wait(wait) => return Step::Wait(wait),
            Step::Done(mapped) => Outcome {
                status: match mapped.place {
                    ViewPlace::AsWanted => NtStatus::SUCCESS,
                    ViewPlace::NotAtBase => NtStatus::IMAGE_NOT_AT_BASE,
                },
                output: Some(MappedRange {
                    base: mapped.region.base.get(),
                    size: mapped.region.size.get(),
                    offset: mapped.offset,
                }),
            },
            Step::Raise(status) => Outcome::failure(status),
        };
        self.stage = Stage::Finished;
        Step::Done(result)
    }

    fn abandon(self, manager: &Manager<P>) {
        match self.stage {
            Stage::Mapping(view, _) => view.abandon(manager),
            Stage::Committing(commit, _) => commit.abandon(manager),
            Stage::Unmapping(unmap, _) => unmap.abandon(manager),
            Stage::Unchecked | Stage::Finished => {}
        }
    }
}
