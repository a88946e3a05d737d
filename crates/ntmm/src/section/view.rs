//! Views: mapping and unmapping (NtMapViewOfSection, NtUnmapViewOfSection, spec 8.7; API 14).
//!
//! Mapping inserts a descriptor that names the control area and the page it begins with; no entry
//! is touched. The control area's counts go up before that, and down again when it fails. A view
//! whose pages are copied when they are written is charged for all of them.
//!
//! Unmapping deletes the entries from the front on and shortens the descriptor, as a release
//! does; with the last page the view's count goes.

use ntmm_pte::{ALLOCATION_GRANULARITY, Access, Bytes, PAGE_SIZE, Pages, PagingMode, Protection};
use ntmm_pte::{Va, Vpn};

use super::attributes::SectionAttributes;
use super::control_area::{ControlAreaFlags, ControlAreaId, Holder, SectionId};
use crate::address_space::AddressSpaceId;
use crate::fault::Blocked;
use crate::flush::FlushBatch;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::vad::{
    Commitment, Placeholder, ProtectionChange, Secured, SecuredChange, Vad, VadAttributes, VadKind,
    View,
};
use crate::virtual_memory::delete::Remains;
use crate::virtual_memory::free::Release;
use crate::virtual_memory::range::{MissingTables, RangeWalk, Visited, Visitor};
use crate::virtual_memory::{Call, Direction, Placement, Region, Stages, Window};
use crate::working_set::WorkingSetGuard;

pub use crate::vad::Inherit;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewRequest {
    /// The section.
    pub section: SectionId,
    /// Where the view goes: at an address that is a multiple of 64 KiB, or where there is room.
    pub placement: Placement,
    /// Byte of the section that it begins with, a multiple of 64 KiB.
    pub offset: u64,
    /// Bytes; zero for the rest of the section.
    pub size: Bytes,
    /// What its pages may be used for.
    pub protection: Protection,
    /// Whether that may be changed.
    pub protection_change: ProtectionChange,
    /// What becomes of it when its process is duplicated.
    pub inherit: Inherit,
}

/// A view that has been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedView {
    /// Its pages.
    pub region: Region,
    /// Byte of the section that it begins with.
    pub offset: u64,
    /// Whether it lies where it wants to.
    pub place: ViewPlace,
}

/// Whether a view lies where it wants to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewPlace {
    /// It does, or it does not matter.
    AsWanted,
    /// An image lies elsewhere than its base, or begins with another page than its first
    /// (STATUS_IMAGE_NOT_AT_BASE).
    NotAtBase,
}

/// The mapping call. Yields the view.
///
/// Raises, with nothing changed: [`NtStatus::INVALID_HANDLE`] when there is no such section,
/// [`NtStatus::MAPPED_ALIGNMENT`] for an offset or address that is no multiple of 64 KiB,
/// [`NtStatus::SECTION_PROTECTION`] when the section does not allow the protection,
/// [`NtStatus::INVALID_VIEW_SIZE`] for bytes behind its end, [`NtStatus::CONFLICTING_ADDRESSES`]
/// or [`NtStatus::NO_MEMORY`] when there is no room, [`NtStatus::COMMITMENT_LIMIT`].
#[derive(Debug)]
#[must_use]
pub struct MapView {
    call: Call,
    request: ViewRequest,
    extent: Extent,
    /// What its address and offset are multiples of, in bytes.
    alignment: u64,
    /// The section, whose control area counts the view to be.
    found: Option<Found>,
}

/// How far a view may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// To the end of its section.
    OfSection,
    /// Further: what lies behind that end is reserved for data to come (MEM_RESERVE).
    Reserving,
}

/// What is known of the section to be mapped.
#[derive(Clone, Copy, Debug)]
struct Found {
    area: ControlAreaId,
    state: ControlAreaFlags,
    size: u64,
    protection: Protection,
    attributes: SectionAttributes,
    base: Option<Va>,
}

/// Whether a view with `view` shows no more than a section with `section` allows (API 14.3).
pub(crate) const fn allows(section: Protection, view: Protection) -> bool {
    rights(view) & !rights(section) == 0
}

/// Whether a page of a view that was mapped with `mapped` may get `new` (API 5.3).
pub(crate) const fn allows_change(mapped: Protection, new: Protection) -> bool {
    // Whoever may execute a page may read it.
    let reads = if rights(mapped) & EXECUTE != 0 { READ } else { 0 };
    rights(new) & !(rights(mapped) | reads) == 0
}

const READ: u8 = 1;
const WRITE: u8 = 2;
const EXECUTE: u8 = 4;

/// What a protection lets one do; copying counts as reading.
const fn rights(protection: Protection) -> u8 {
    if protection.is_no_access() {
        return 0;
    }
    match protection.access() {
        Access::None => 0,
        Access::ReadOnly | Access::WriteCopy => READ,
        Access::Execute => EXECUTE,
        Access::ExecuteRead | Access::ExecuteWriteCopy => READ | EXECUTE,
        Access::ReadWrite => READ | WRITE,
        Access::ExecuteReadWrite => READ | WRITE | EXECUTE,
    }
}

impl MapView {
    /// Maps a view into `space`.
    pub const fn new(space: AddressSpaceId, request: ViewRequest) -> Self {
        Self {
            call: Call::new(space),
            request,
            extent: Extent::OfSection,
            alignment: ALLOCATION_GRANULARITY,
            found: None,
        }
    }

    /// The same, with an address and an offset that are multiples of a page (AT_ROUND_TO_PAGE).
    /// So are those of a view that takes the place of a placeholder.
    pub const fn aligned_to_pages(mut self) -> Self {
        self.alignment = PAGE_SIZE;
        self
    }

    /// The same, with another reach.
    pub const fn reaching(mut self, extent: Extent) -> Self {
        self.extent = extent;
        self
    }

    /// Finds the section, and counts the view that is to be.
    fn find<P: Platform>(&mut self, manager: &Manager<P>) -> Result<Found, NtStatus> {
        if let Some(found) = self.found {
            return Ok(found);
        }
        let mut entry = manager.enter();
        let sections = manager.lock_sections(entry.token());
        let object = sections.find(self.request.section).ok_or(NtStatus::INVALID_HANDLE)?;
        let id = ControlAreaId(object.control_area());
        let area = manager.control_area(id);
        area.add_view(Holder::User);
        let found = Found {
            area: id,
            state: area.state(),
            size: object.size(),
            protection: Protection::from_low_bits(u64::from(object.protection())),
            attributes: SectionAttributes::from_bits_retain(object.attributes()),
            base: Some(Va::new(object.base())).filter(|base| base.get() != 0),
        };
        self.found = Some(found);
        Ok(found)
    }

    /// The size of the view, as its section allows it.
    fn size(&self, found: Found) -> Result<Bytes, NtStatus> {
        let ViewRequest { offset, size, protection, .. } = self.request;
        let (unit, given) = match self.request.placement {
            Placement::Replacing(base) => (PAGE_SIZE, base.get()),
            Placement::At(base) | Placement::AtAny(base) => (self.alignment, base.get()),
            Placement::Lowest | Placement::Highest | Placement::Within(_) => (self.alignment, 0),
        };
        if offset % unit != 0 || given % unit != 0 {
            return Err(NtStatus::MAPPED_ALIGNMENT);
        }
        let is_image = found.state.contains(ControlAreaFlags::IMAGE);
        if !is_image && !allows(found.protection, protection) {
            return Err(NtStatus::SECTION_PROTECTION);
        }
        let rest = found.size.checked_sub(offset).filter(|&rest| rest > 0);
        let rest = rest.ok_or(NtStatus::INVALID_VIEW_SIZE)?;
        if size.get() > rest && self.extent == Extent::OfSection {
            return Err(NtStatus::INVALID_VIEW_SIZE);
        }
        Ok(if size.is_zero() { Bytes::new(rest) } else { size })
    }

    fn insert<P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
    ) -> Result<MappedView, Blocked> {
        let found = self.found.ok_or(NtStatus::INVALID_PARAMETER)?;
        let size = self.size(found)?;
        let request = self.request;
        let image = found.state.contains(ControlAreaFlags::IMAGE);
        let area = set.manager().control_area(found.area);
        let wanted = Va::new(area.base());
        let placement = self.placement(found)?;
        let (start, end) = if image {
            placement.find_range_for_image(set, size, wanted, request.offset)?
        } else {
            placement.find_range(set, size)?
        };
        let pages = Pages::new(end.get() - start.get() + 1);
        let (kind, protection) = if image {
            (VadKind::ImageView, Protection::EXECUTE_WRITECOPY)
        } else {
            (VadKind::View, request.protection)
        };
        let charge = match kind {
            VadKind::ImageView => Pages::new(u64::from(area.image_commitment())).min(pages),
            _ if protection.is_write_copy() => pages,
            _ => Pages::ZERO,
        };
        let at_base = P::Paging::va_of_vpn(start) == wanted && request.offset == 0;
        let place = if image && !at_base { ViewPlace::NotAtBase } else { ViewPlace::AsWanted };
        let reserves = self.extent == Extent::Reserving && !image;
        let commitment = if reserves || found.state.contains(ControlAreaFlags::RESERVE) {
            Commitment::Reserved
        } else {
            Commitment::Committed
        };
        let refuses = found.attributes.contains(SectionAttributes::NO_CHANGE);
        let replaces = matches!(placement, Placement::Replacing(_));
        let attributes = VadAttributes {
            kind,
            protection,
            commitment,
            protection_change: if refuses {
                ProtectionChange::Refused
            } else {
                request.protection_change
            },
            placeholder: if replaces { Placeholder::Replaced } else { Placeholder::Never },
            secured: Secured::No,
            commit_charge: charge,
            view: Some(View {
                area: found.area,
                first: Pages::new(request.offset / PAGE_SIZE),
                inherit: request.inherit,
            }),
        };
        if replaces {
            let charge = set.manager().charge_commitment(charge)?;
            set.vads().update(&set.manager().nodes(), start, |old| *old = attributes);
            set.add_commit(charge.keep());
        } else {
            let charge = set.charge_allocation((start, end), charge)?;
            set.insert_allocation(Vad { start, end, attributes }, charge)?;
        }
        // The count is the descriptor's now.
        self.found = None;
        let region = Region::of_pages::<P::Paging>(start, end);
        Ok(MappedView { region, offset: request.offset, place })
    }

    /// Where it goes: a view of a based section only to where that is.
    fn placement(&self, found: Found) -> Result<Placement, NtStatus> {
        let placement = self.request.placement;
        let Some(base) = found.base else { return Ok(placement) };
        let place = base.checked_add(Bytes::new(self.request.offset));
        let place = place.ok_or(NtStatus::CONFLICTING_ADDRESSES)?;
        match placement {
            Placement::At(base) | Placement::AtAny(base) if base == place => Ok(placement),
            Placement::Lowest | Placement::Highest | Placement::Within(_) => {
                Ok(Placement::At(place))
            }
            _ => Err(NtStatus::CONFLICTING_ADDRESSES),
        }
    }
}

impl Placement {
    /// The pages for a view of an image that wants to lie at `base`: there if it may choose and
    /// there is room.
    fn find_range_for_image<P: Platform>(
        self,
        set: &WorkingSetGuard<'_, '_, P>,
        size: Bytes,
        base: Va,
        offset: u64,
    ) -> Result<(Vpn, Vpn), NtStatus> {
        let fits = |highest: Va| {
            base.checked_add(size).is_some_and(|end| end.get() <= highest.get().saturating_add(1))
        };
        let may_choose = match self {
            Self::Lowest | Self::Highest => fits(P::Paging::HIGHEST_VAD_ADDRESS),
            Self::Within(window) => base >= window.lowest && fits(window.highest),
            Self::At(_) | Self::AtAny(_) | Self::Replacing(_) => false,
        };
        let usable = base.get() != 0 && base.get().is_multiple_of(ALLOCATION_GRANULARITY);
        if may_choose
            && usable
            && offset == 0
            && fits(P::Paging::HIGHEST_VAD_ADDRESS)
            && let Ok(range) = Self::At(base).find_range(set, size)
        {
            return Ok(range);
        }
        self.find_range(set, size)
    }

    /// The pages for an allocation of `size` bytes.
    fn find_range<P: Platform>(
        self,
        set: &WorkingSetGuard<'_, '_, P>,
        size: Bytes,
    ) -> Result<(Vpn, Vpn), NtStatus> {
        let pages = size.to_pages_rounded_up();
        let start = match self {
            Self::At(base) | Self::AtAny(base) | Self::Replacing(base) => base.vpn(),
            Self::Lowest => Window::everywhere::<P::Paging>(Direction::Up).find(set, pages)?,
            Self::Highest => Window::everywhere::<P::Paging>(Direction::Down).find(set, pages)?,
            Self::Within(window) => window.find(set, pages)?,
        };
        let end = start.checked_add(pages.saturating_sub(Pages::ONE));
        let last = end.map(|end| end.get()).unwrap_or(u64::MAX);
        if last > P::Paging::HIGHEST_VAD_ADDRESS.vpn().get() {
            return Err(NtStatus::NO_MEMORY);
        }
        let end = Vpn::new(last);
        if let Self::Replacing(_) = self {
            let placeholder = set.find_vad(start).filter(|vad| {
                (vad.start, vad.end) == (start, end)
                    && vad.attributes.placeholder == Placeholder::Empty
            });
            placeholder.ok_or(NtStatus::CONFLICTING_ADDRESSES)?;
            return Ok((start, end));
        }
        set.vacant(start, end)?;
        Ok((start, end))
    }
}

impl<P: Platform> Stages<P> for MapView {
    type Output = MappedView;

    fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    fn check_parameters(&self) -> Result<(), NtStatus> {
        if self.request.protection.is_decommitted() {
            return Err(NtStatus::INVALID_PAGE_PROTECTION);
        }
        Ok(())
    }

    fn is_under_way(&self) -> bool {
        false
    }

    fn proceed(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<MappedView, Blocked> {
        self.insert(set)
    }

    fn give_back(&mut self, manager: &Manager<P>) {
        if let Some(found) = self.found.take() {
            manager.drop_view(found.area, Holder::User);
        }
    }
}

impl<P: Platform> Operation<P> for MapView {
    type Output = MappedView;

    fn step(&mut self, manager: &Manager<P>) -> Step<MappedView> {
        if let Err(status) = self.find(manager) {
            return Step::Raise(status);
        }
        self.step_stages(manager)
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.end(manager);
    }
}

/// The unmapping call: the view that an address lies in. Yields its pages.
///
/// Raises [`NtStatus::NOT_MAPPED_VIEW`] where there is no view.
#[derive(Debug)]
#[must_use]
pub struct UnmapView {
    call: Call,
    address: Va,
    remainder: Remainder,
    under_way: Option<(RangeWalk, Work, Region)>,
}

/// What is left where a view was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remainder {
    Nothing,
    Placeholder,
}

/// How far unmapping has come.
#[derive(Debug)]
enum Work {
    Release(Release),
    /// Its entries are deleted; then it is a placeholder.
    Vacate(Vad),
}

/// Deletes the entries of a view and leaves its descriptor.
struct Vacate;

impl<P: Platform> Visitor<P> for Vacate {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        match visited {
            Visited::Entry { entry, word, page } if word != 0 => {
                let va = P::Paging::va_of_vpn(page);
                set.delete_page(batch, (entry, word), va, Remains::Nothing)
            }
            _ => Ok(()),
        }
    }
}

impl UnmapView {
    /// Unmaps the view of `space` that `address` lies in.
    pub const fn new(space: AddressSpaceId, address: Va) -> Self {
        let call = Call::new(space);
        Self { call, address, remainder: Remainder::Nothing, under_way: None }
    }

    /// The same, and leaves the placeholder that the view has replaced (MEM_PRESERVE_PLACEHOLDER).
    /// Raises [`NtStatus::CONFLICTING_ADDRESSES`] when it has replaced none.
    pub const fn leaving_placeholder(mut self) -> Self {
        self.remainder = Remainder::Placeholder;
        self
    }

    /// Finds the view.
    fn start<P: Platform>(
        &self,
        set: &WorkingSetGuard<'_, '_, P>,
    ) -> Result<(RangeWalk, Work, Region), NtStatus> {
        let found = set.find_vad(self.address.vpn());
        let found = found.filter(|vad| vad.attributes.view.is_some());
        let vad = found.ok_or(NtStatus::NOT_MAPPED_VIEW)?;
        set.check_secured(&vad, vad.start, vad.end, SecuredChange::Deletion)?;
        let region = Region::of_pages::<P::Paging>(vad.start, vad.end);
        let walk = RangeWalk::new(vad.start, vad.end);
        let work = match self.remainder {
            Remainder::Nothing => Work::Release(Release::new(vad, vad.end)),
            Remainder::Placeholder if vad.attributes.placeholder == Placeholder::Replaced => {
                // Nobody is to touch pages behind the walk.
                set.vads().update(&set.manager().nodes(), vad.start, |old| {
                    old.protection = Protection::NO_ACCESS;
                });
                Work::Vacate(vad)
            }
            Remainder::Placeholder => return Err(NtStatus::CONFLICTING_ADDRESSES),
        };
        Ok((walk, work, region))
    }
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// A view without entries becomes the placeholder that it has replaced.
    fn leave_placeholder(&mut self, vad: &Vad) {
        self.vads().update(&self.manager().nodes(), vad.start, |old| {
            *old = VadAttributes {
                kind: VadKind::Private,
                protection: Protection::NO_ACCESS,
                commitment: Commitment::Reserved,
                protection_change: ProtectionChange::Allowed,
                placeholder: Placeholder::Empty,
                secured: old.secured,
                commit_charge: Pages::ZERO,
                view: None,
            };
        });
        if let Some(view) = vad.attributes.view {
            self.manager().drop_view(view.area, Holder::User);
        }
        self.return_commit(vad.attributes.commit_charge);
    }
}

impl<P: Platform> Stages<P> for UnmapView {
    type Output = Region;

    fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    fn check_parameters(&self) -> Result<(), NtStatus> {
        if P::Paging::is_user(self.address) { Ok(()) } else { Err(NtStatus::NOT_MAPPED_VIEW) }
    }

    fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    fn proceed(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<Region, Blocked> {
        if self.under_way.is_none() {
            self.under_way = Some(self.start(set)?);
        }
        let Some((walk, work, region)) = &mut self.under_way else {
            return Err(NtStatus::NOT_MAPPED_VIEW.into());
        };
        let (region, pending) = (*region, &mut self.call.pending);
        match work {
            Work::Release(release) => {
                set.walk_stretch(pending, walk, MissingTables::Skip, release)?;
            }
            Work::Vacate(vad) => {
                set.walk_stretch(pending, walk, MissingTables::Skip, &mut Vacate)?;
                set.leave_placeholder(vad);
            }
        }
        Ok(region)
    }
}

impl<P: Platform> Operation<P> for UnmapView {
    type Output = Region;

    fn step(&mut self, manager: &Manager<P>) -> Step<Region> {
        self.step_stages(manager)
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.end(manager);
    }
}
