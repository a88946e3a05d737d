//! Reserve and commit (NtAllocateVirtualMemory, spec 7.4, 7.5; API 3).

use ntmm_pte::mode::LOWEST_USER_ADDRESS;
use ntmm_pte::{
    ALLOCATION_GRANULARITY, Bytes, PAGE_SIZE, Pages, PagingMode, Protection, PteWord, Va, Vpn,
};

use super::protect::{change_protection, longest_run_in};
use super::range::{MissingTables, RangeWalk, Visited, Visitor};
use super::{Call, Stages};
use crate::address_space::AddressSpaceId;
use crate::fault::Blocked;
use crate::flush::FlushBatch;
use crate::manager::Manager;
use crate::operation::{Operation, Pause, Step};
use crate::platform::Platform;
use crate::section::view::allows_change;
use crate::status::NtStatus;
use crate::vad::tree::GapRequest;
use crate::vad::{
    Commitment, Placeholder, ProtectionChange, Secured, SecuredChange, Vad, VadAttributes, VadKind,
};
use crate::working_set::WorkingSetGuard;

/// What is to be done with the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocationType {
    /// MEM_RESERVE: address space only.
    Reserve,
    /// MEM_COMMIT: pages of an allocation that exists; as [`AllocationType::ReserveAndCommit`]
    /// when the manager chooses the address.
    Commit,
    /// MEM_RESERVE and MEM_COMMIT.
    ReserveAndCommit,
}

/// Where an allocation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// At this address, rounded down: to 64 KiB when reserving, to a page when committing.
    At(Va),
    /// Into the lowest hole that fits.
    Lowest,
    /// Into the highest hole that fits (MEM_TOP_DOWN).
    Highest,
    /// As [`Placement::At`], and also in the 64 KiB at address zero, which systems before
    /// Windows 8 let a program have.
    AtAny(Va),
    /// Into a hole within bounds.
    Within(Window),
    /// In place of the placeholder that these pages, rounded outwards, are the whole of
    /// (MEM_REPLACE_PLACEHOLDER).
    Replacing(Va),
}

/// Bounds for an allocation whose address the manager chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// No byte lies below this; raised to the lowest user address.
    pub lowest: Va,
    /// No byte lies above this; lowered to the highest address of an allocation.
    pub highest: Va,
    /// What the start is a multiple of: a power of two, raised to 64 KiB.
    pub alignment: Bytes,
    /// Which of the holes that fit.
    pub direction: Direction,
}

/// Which of the holes that fit is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The lowest.
    Up,
    /// The highest.
    Down,
}

impl Window {
    /// All of user space.
    pub(crate) const fn everywhere<M: PagingMode>(direction: Direction) -> Self {
        Self {
            lowest: LOWEST_USER_ADDRESS,
            highest: M::HIGHEST_VAD_ADDRESS,
            alignment: Bytes::new(ALLOCATION_GRANULARITY),
            direction,
        }
    }

    /// The hole for `pages` pages.
    pub(crate) fn find<P: Platform>(
        self,
        set: &WorkingSetGuard<'_, '_, P>,
        pages: Pages,
    ) -> Result<Vpn, NtStatus> {
        // The last page must lie inside as a whole.
        let end = Va::new(self.highest.min(P::Paging::HIGHEST_VAD_ADDRESS).get() + 1);
        let low = self.lowest.max(LOWEST_USER_ADDRESS).get().div_ceil(PAGE_SIZE);
        let high = end.vpn().checked_sub(Pages::ONE).filter(|high| high.get() >= low);
        let request = GapRequest {
            pages,
            alignment: Pages::new(self.alignment.get().max(ALLOCATION_GRANULARITY) / PAGE_SIZE),
            low: Vpn::new(low),
            high: high.ok_or(NtStatus::NO_MEMORY)?,
        };
        set.find_gap(request, self.direction).ok_or(NtStatus::NO_MEMORY)
    }
}

/// What protection pages of a view may get when they are committed through it (API 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitInView {
    /// Any.
    Free,
    /// One that the view has been mapped with room for, as when it is changed.
    Bounded,
}

/// What address space is reserved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryUse {
    /// Memory of the program.
    Ordinary,
    /// The same, and which of its pages are written is recorded (MEM_WRITE_WATCH).
    WriteWatch,
    /// A window for physical pages of the program (MEM_PHYSICAL).
    AddressWindow,
    /// To be replaced by an allocation later (MEM_RESERVE_PLACEHOLDER).
    Placeholder,
}

impl MemoryUse {
    const fn vad_kind(self) -> VadKind {
        match self {
            Self::Ordinary | Self::Placeholder => VadKind::Private,
            Self::WriteWatch => VadKind::WriteWatch,
            Self::AddressWindow => VadKind::AddressWindow,
        }
    }
}

/// A range of whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub base: Va,
    /// Size.
    pub size: Bytes,
}

impl Region {
    /// The pages from `start` to `end`, both included.
    pub(crate) fn of_pages<M: PagingMode>(start: Vpn, end: Vpn) -> Self {
        let pages = end.get() - start.get() + 1;
        Self { base: M::va_of_vpn(start), size: Bytes::new(pages * PAGE_SIZE) }
    }
}

/// The allocation call. Yields the range with its rounding.
#[derive(Debug)]
#[must_use]
pub struct Allocate {
    call: Call,
    placement: Placement,
    size: Bytes,
    kind: AllocationType,
    protection: Protection,
    usage: MemoryUse,
    views: CommitInView,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Parameters not checked yet.
    Start,
    /// Address creation is owned; the pages of the range that lack a charge are counted.
    Counting { walk: RangeWalk, vad: Vad, start: Vpn, end: Vpn, uncommitted: u64 },
    /// They are charged; entries are written.
    Committing { walk: RangeWalk, vad: Vad, start: Vpn, end: Vpn, charged: u64 },
}

impl Allocate {
    /// Allocates `size` bytes with `protection` in `space`.
    pub const fn new(
        space: AddressSpaceId,
        placement: Placement,
        size: Bytes,
        kind: AllocationType,
        protection: Protection,
    ) -> Self {
        let call = Call::new(space);
        let usage = MemoryUse::Ordinary;
        let views = CommitInView::Free;
        Self { call, placement, size, kind, protection, usage, views, stage: Stage::Start }
    }

    /// The same, with a rule for pages that are committed through a view.
    pub const fn in_views(mut self, views: CommitInView) -> Self {
        self.views = views;
        self
    }

    /// The same, with the address space reserved for `usage`.
    pub const fn of(mut self, usage: MemoryUse) -> Self {
        self.usage = usage;
        self
    }

    /// First and last page of an explicit range, rounded to `unit` at its start, which is at
    /// least `lowest`.
    fn explicit_range<M: PagingMode>(
        base: Va,
        size: Bytes,
        unit: u64,
        lowest: Va,
    ) -> Result<(Vpn, Vpn), NtStatus> {
        if base > M::HIGHEST_VAD_ADDRESS {
            return Err(NtStatus::INVALID_PARAMETER_2);
        }
        let last = size
            .checked_sub(Bytes::new(1))
            .and_then(|rest| base.checked_add(rest))
            .filter(|&last| last <= M::HIGHEST_VAD_ADDRESS)
            .ok_or(NtStatus::INVALID_PARAMETER_4)?;
        let start = Va::new(base.get() & !(unit - 1));
        if start < lowest {
            return Err(NtStatus::INVALID_PARAMETER_2);
        }
        Ok((start.vpn(), last.vpn()))
    }

    /// Reserves; none when pages of an existing allocation are to be committed, which takes
    /// further stages.
    fn start<P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
    ) -> Result<Option<Region>, Pause> {
        let (base, lowest) = match (self.kind, self.placement) {
            (_, Placement::Replacing(base)) => return self.replace(set, base).map(Some),
            (AllocationType::Commit, Placement::At(base)) => (base, LOWEST_USER_ADDRESS),
            (AllocationType::Commit, Placement::AtAny(base)) => (base, Va::new(0)),
            _ => return self.reserve(set).map(Some),
        };
        let (start, end) = Self::explicit_range::<P::Paging>(base, self.size, PAGE_SIZE, lowest)?;
        let inside = |vad: &Vad| vad.end >= end;
        let vad = set.find_vad(start).filter(inside).ok_or(NtStatus::CONFLICTING_ADDRESSES)?;
        self.check_commit(&vad)?;
        set.check_commit_in_file(&vad, end)?;
        let mapped = vad.attributes.protection;
        if vad.attributes.kind == VadKind::View
            && self.views == CommitInView::Bounded
            && !allows_change(mapped, self.protection)
        {
            return Err(NtStatus::SECTION_PROTECTION.into());
        }
        set.check_secured(&vad, start, end, SecuredChange::Protection(self.protection))?;
        let walk = RangeWalk::new(start, end);
        self.stage = Stage::Counting { walk, vad, start, end, uncommitted: 0 };
        Ok(None)
    }

    /// Whether pages of `vad` can be committed this way (API 3.3).
    fn check_commit(&self, vad: &Vad) -> Result<(), NtStatus> {
        match vad.attributes.kind {
            VadKind::Private | VadKind::WriteWatch => {}
            VadKind::View => return Ok(()),
            VadKind::ImageView => return Err(NtStatus::ALREADY_COMMITTED),
            VadKind::PhysicalMapping
            | VadKind::AddressWindow
            | VadKind::LargePages
            | VadKind::Rotate
            | VadKind::LargePageView => return Err(NtStatus::CONFLICTING_ADDRESSES),
        }
        if vad.attributes.placeholder == Placeholder::Empty {
            return Err(NtStatus::CONFLICTING_ADDRESSES);
        }
        self.check_private_protection()
    }

    /// Private memory has no pages to copy on write.
    fn check_private_protection(&self) -> Result<(), NtStatus> {
        if self.protection.is_write_copy() {
            return Err(NtStatus::INVALID_PAGE_PROTECTION);
        }
        Ok(())
    }

    /// What is charged for a range that is reserved.
    const fn committed(&self, pages: Pages) -> Pages {
        match self.kind {
            AllocationType::Reserve => Pages::ZERO,
            AllocationType::Commit | AllocationType::ReserveAndCommit => pages,
        }
    }

    /// The attributes of a range that is reserved, with `committed` pages charged.
    const fn attributes(&self, committed: Pages, placeholder: Placeholder) -> VadAttributes {
        VadAttributes {
            kind: self.usage.vad_kind(),
            protection: self.protection,
            commitment: if committed.is_zero() {
                Commitment::Reserved
            } else {
                Commitment::Committed
            },
            protection_change: ProtectionChange::Allowed,
            placeholder,
            secured: Secured::No,
            commit_charge: committed,
            view: None,
        }
    }

    /// Puts an allocation in the place of a placeholder, whose page tables are charged already.
    fn replace<P: Platform>(
        &self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        base: Va,
    ) -> Result<Region, Pause> {
        let (size, lowest) = (self.size, LOWEST_USER_ADDRESS);
        let (start, end) = Self::explicit_range::<P::Paging>(base, size, PAGE_SIZE, lowest)?;
        self.check_private_protection()?;
        let exact = |vad: &Vad| {
            (vad.start, vad.end) == (start, end) && vad.attributes.placeholder == Placeholder::Empty
        };
        set.find_vad(start).filter(exact).ok_or(NtStatus::CONFLICTING_ADDRESSES)?;
        let committed = self.committed(Pages::new(end.get() - start.get() + 1));
        let charge = set.manager().charge_commitment(committed)?;
        if self.usage == MemoryUse::WriteWatch
            && let Err(pause) = set.begin_watch(start, end)
        {
            set.end_watch(start, end);
            return Err(pause);
        }
        let attributes = self.attributes(committed, Placeholder::Replaced);
        set.vads().update(&set.manager().nodes(), start, |old| *old = attributes);
        set.add_commit(charge.keep());
        Ok(Region::of_pages::<P::Paging>(start, end))
    }

    fn reserve<P: Platform>(&self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<Region, Pause> {
        self.check_private_protection()?;
        let pages = self.size.to_pages_rounded_up();
        let window = match self.placement {
            Placement::Highest => Window::everywhere::<P::Paging>(Direction::Down),
            Placement::Within(window) => window,
            _ => Window::everywhere::<P::Paging>(Direction::Up),
        };
        let (start, end) = match self.placement {
            Placement::At(base) | Placement::AtAny(base) | Placement::Replacing(base) => {
                let lowest = match self.placement {
                    Placement::AtAny(_) => Va::new(0),
                    _ => LOWEST_USER_ADDRESS,
                };
                let unit = ALLOCATION_GRANULARITY;
                let (start, end) =
                    Self::explicit_range::<P::Paging>(base, self.size, unit, lowest)?;
                set.vacant(start, end)?
            }
            Placement::Lowest | Placement::Highest | Placement::Within(_) => {
                let start = window.find(set, pages)?;
                (start, start.checked_add(pages.saturating_sub(Pages::new(1))).unwrap_or(start))
            }
        };
        let pages = Pages::new(end.get() - start.get() + 1);
        let committed = self.committed(pages);
        let charge = set.charge_allocation((start, end), committed)?;
        if self.usage == MemoryUse::WriteWatch
            && let Err(pause) = set.begin_watch(start, end)
        {
            set.end_watch(start, end);
            return Err(pause);
        }
        let placeholder = match self.usage {
            MemoryUse::Placeholder => Placeholder::Empty,
            _ => Placeholder::Never,
        };
        let vad = Vad { start, end, attributes: self.attributes(committed, placeholder) };
        if let Err(pause) = set.insert_allocation(vad, charge) {
            set.end_watch(start, end);
            return Err(pause);
        }
        Ok(Region::of_pages::<P::Paging>(start, end))
    }
}

/// Counts the pages of a range by whether they are committed.
pub(super) struct CountCommitment {
    vad: Vad,
    /// Committed pages: those that carry a charge.
    pub(super) committed: u64,
    /// The others.
    pub(super) uncommitted: u64,
}

impl CountCommitment {
    /// Nothing counted yet of `vad`.
    pub(super) const fn new(vad: Vad) -> Self {
        Self { vad, committed: 0, uncommitted: 0 }
    }
}

impl CountCommitment {
    const fn count(&mut self, pages: u64, committed: bool) {
        if committed {
            self.committed += pages;
        } else {
            self.uncommitted += pages;
        }
    }

    /// Counts pages without entries, all of them or, when that has to be tried again, none.
    fn count_untouched<P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        (first, last): (Vpn, Vpn),
    ) -> Result<(), Blocked> {
        let before = (self.committed, self.uncommitted);
        let mut next = Some(first);
        while let Some(page) = next {
            let run = match set.committed_run(&self.vad, page, last) {
                Ok(run) => run,
                Err(blocked) => {
                    (self.committed, self.uncommitted) = before;
                    return Err(blocked);
                }
            };
            let pages = run.last.get() - page.get() + 1;
            self.count(pages, run.commitment == Commitment::Committed);
            next = run.last.checked_add(Pages::ONE).filter(|&page| page <= last);
        }
        Ok(())
    }
}

impl<P: Platform> Visitor<P> for CountCommitment {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        _batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        match visited {
            Visited::Entry { word, .. } if word != 0 => {
                self.count(1, is_committed::<P>(&self.vad, word));
                Ok(())
            }
            Visited::Entry { page, .. } => self.count_untouched(set, (page, page)),
            Visited::Nothing { first, last } => self.count_untouched(set, (first, last)),
        }
    }

    fn longest_run(&self) -> Pages {
        longest_run_in(&self.vad)
    }
}

/// Whether the page of an entry of `vad` that holds `word` is committed. Physical pages of a
/// process are charged on their own, and their windows only reserve addresses.
pub(crate) fn is_committed<P: Platform>(vad: &Vad, word: u64) -> bool {
    if vad.attributes.kind == VadKind::AddressWindow {
        false
    } else if word == 0 {
        vad.attributes.commitment == Commitment::Committed
    } else {
        P::Paging::is_valid(word) || !P::Paging::software_protection(word).is_decommitted()
    }
}

/// Commits pages, from a charge taken before.
struct Commit {
    vad: Vad,
    protection: Protection,
    charged: u64,
    newly: u64,
}

impl Commit {
    /// Commits pages of a view in its section; those with entries get the protection here.
    fn commit_in_view<P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        let (first, last) = match visited {
            Visited::Entry { page, .. } => (page, page),
            Visited::Nothing { first, last } => (first, last),
        };
        for page in (first.get()..=last.get()).map(Vpn::new) {
            set.commit_in_section(&self.vad, page, &mut self.charged)?;
        }
        let Visited::Entry { entry, word, page } = visited else { return Ok(()) };
        change_protection(set, batch, &self.vad, (entry, word), page, self.protection)
    }
}

impl<P: Platform> Visitor<P> for Commit {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        if self.vad.attributes.view.is_some() {
            return self.commit_in_view(set, batch, visited);
        }
        let Visited::Entry { entry, word, page } = visited else { return Ok(()) };
        if is_committed::<P>(&self.vad, word) {
            let protection = self.protection;
            return change_protection(set, batch, &self.vad, (entry, word), page, protection);
        }
        set.manager().store_software(entry, word, P::Paging::demand_zero(self.protection));
        self.charged = self.charged.saturating_sub(1);
        self.newly += 1;
        Ok(())
    }

    fn longest_run(&self) -> Pages {
        longest_run_in(&self.vad)
    }

    fn end_stretch(&mut self, set: &mut WorkingSetGuard<'_, '_, P>, _next: Option<Vpn>) {
        let newly = core::mem::take(&mut self.newly);
        if newly == 0 {
            return;
        }
        let nodes = set.manager().nodes();
        let mut tree = set.vads();
        tree.update(&nodes, self.vad.start, |attributes| {
            attributes.commit_charge = attributes.commit_charge.saturating_add(Pages::new(newly));
        });
        set.add_commit(Pages::new(newly));
    }
}

impl<P: Platform> Stages<P> for Allocate {
    type Output = Region;

    fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    fn check_parameters(&self) -> Result<(), NtStatus> {
        if self.size.is_zero() {
            return Err(NtStatus::INVALID_PARAMETER_4);
        }
        if self.protection.is_decommitted() {
            return Err(NtStatus::INVALID_PAGE_PROTECTION);
        }
        Ok(())
    }

    fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Start)
    }

    fn proceed(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<Region, Blocked> {
        if matches!(self.stage, Stage::Start)
            && let Some(region) = self.start(set)?
        {
            return Ok(region);
        }
        let manager = set.manager();
        let pending = &mut self.call.pending;
        if let Stage::Counting { walk, vad, start, end, uncommitted } = &mut self.stage {
            let mut count = CountCommitment::new(*vad);
            let outcome = set.walk_stretch(pending, walk, MissingTables::Skip, &mut count);
            *uncommitted += count.uncommitted;
            outcome?;
            let charged = manager.charge_commitment(Pages::new(*uncommitted))?.keep().get();
            let (vad, start, end) = (*vad, *start, *end);
            let walk = RangeWalk::new(start, end);
            self.stage = Stage::Committing { walk, vad, start, end, charged };
        }
        let Stage::Committing { walk, vad, start, end, charged } = &mut self.stage else {
            return Err(NtStatus::INVALID_PARAMETER.into());
        };
        let protection = match vad.attributes.kind {
            VadKind::View => self.protection.cached_as(vad.attributes.protection),
            _ => self.protection,
        };
        let mut commit = Commit { vad: *vad, protection, charged: *charged, newly: 0 };
        // Pages without an entry are committed with the protection of the descriptor.
        let described =
            vad.attributes.commitment == Commitment::Committed || vad.attributes.view.is_some();
        let as_described = described && vad.attributes.protection == protection;
        let missing = if as_described { MissingTables::Skip } else { MissingTables::Create };
        let outcome = set.walk_stretch(pending, walk, missing, &mut commit);
        *charged = commit.charged;
        outcome?;
        Ok(Region::of_pages::<P::Paging>(*start, *end))
    }

    fn give_back(&mut self, manager: &Manager<P>) {
        if let Stage::Committing { charged, .. } = &mut self.stage {
            manager.return_commitment(Pages::new(core::mem::take(charged)));
        }
    }
}

impl<P: Platform> Operation<P> for Allocate {
    type Output = Region;

    fn step(&mut self, manager: &Manager<P>) -> Step<Region> {
        self.step_stages(manager)
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.end(manager);
    }
}
