//! Release and decommit (NtFreeVirtualMemory, spec 7.6, 14.1; API 4).
//!
//! A release first splits the descriptor so that the range to go starts one; from then on each
//! stretch deletes pages and shortens the descriptor by them under one hold of the lock. So a
//! page that has been deleted is never described, and the call can stop after any stretch.

use ntmm_pte::{Bytes, Pages, PagingMode, Va, Vpn};

use super::allocate::{CountCommitment, Region, is_committed};
use super::delete::Remains;
use super::large_pages::ReleaseLargePages;
use super::physical_pages::Leftovers;
use super::protect::page_range;
use super::range::{MissingTables, RangeWalk, Visited, Visitor};
use super::{Call, Stages};
use crate::address_space::AddressSpaceId;
use crate::fault::Blocked;
use crate::flush::FlushBatch;
use crate::manager::Manager;
use crate::operation::{Operation, Pause, Step};
use crate::platform::Platform;
use crate::section::Holder;
use crate::status::NtStatus;
use crate::vad::{Commitment, SecuredChange, Vad, VadAttributes, VadKind};
use crate::working_set::WorkingSetGuard;

/// How memory is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeType {
    /// MEM_DECOMMIT: the pages go, the address space stays reserved.
    Decommit,
    /// MEM_RELEASE: the address space goes too.
    Release,
}

/// The free call. Yields the range, in whole pages.
#[derive(Debug)]
#[must_use]
pub struct Free {
    call: Call,
    base: Va,
    size: Bytes,
    kind: FreeType,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Start,
    /// Counting the charged pages in front of the range, which becomes a descriptor of its own.
    Splitting {
        walk: RangeWalk,
        vad: Vad,
        start: Vpn,
        end: Vpn,
        front: u64,
    },
    Freeing {
        walk: RangeWalk,
        vad: Vad,
        start: Vpn,
        end: Vpn,
        leftovers: Leftovers,
    },
    /// Large pages, all of which go.
    FreeingLarge(ReleaseLargePages, Region),
}

impl Stage {
    /// Freeing the pages of `vad` from `start` to `end`.
    const fn freeing(vad: Vad, start: Vpn, end: Vpn) -> Self {
        let (walk, leftovers) = (RangeWalk::new(start, end), Leftovers::Unknown);
        Self::Freeing { walk, vad, start, end, leftovers }
    }
}

impl Free {
    /// Frees `size` bytes at `base`; a size of zero means the whole allocation, whose start the
    /// page of `base` must be.
    pub const fn new(space: AddressSpaceId, base: Va, size: Bytes, kind: FreeType) -> Self {
        Self { call: Call::new(space), base, size, kind, stage: Stage::Start }
    }

    /// Finds the range and its descriptor.
    fn start<P: Platform>(&mut self, set: &WorkingSetGuard<'_, '_, P>) -> Result<(), NtStatus> {
        let (start, end) = self.range::<P::Paging>()?;
        let (vad, end) = check(set.find_vad(start), (start, end), self.size, self.kind)?;
        set.check_secured(&vad, start, end, SecuredChange::Deletion)?;
        if vad.attributes.kind == VadKind::LargePages {
            let region = Region::of_pages::<P::Paging>(start, end);
            self.stage = Stage::FreeingLarge(ReleaseLargePages::new(vad), region);
            return Ok(());
        }
        self.stage = match start.checked_sub(Pages::new(1)) {
            Some(front_end) if self.kind == FreeType::Release && start > vad.start => {
                let walk = RangeWalk::new(vad.start, front_end);
                Stage::Splitting { walk, vad, start, end, front: 0 }
            }
            _ => Stage::freeing(vad, start, end),
        };
        Ok(())
    }

    fn range<M: PagingMode>(&self) -> Result<(Vpn, Vpn), NtStatus> {
        if self.size.is_zero() {
            return Ok((self.base.vpn(), self.base.vpn()));
        }
        page_range::<M>(self.base, self.size).ok_or(NtStatus::INVALID_PARAMETER_3)
    }
}

/// The descriptor to free from, and the last page.
fn check(
    vad: Option<Vad>,
    (start, end): (Vpn, Vpn),
    size: Bytes,
    kind: FreeType,
) -> Result<(Vad, Vpn), NtStatus> {
    let vad = vad.ok_or(NtStatus::MEMORY_NOT_ALLOCATED)?;
    if end > vad.end {
        return Err(NtStatus::UNABLE_TO_FREE_VM);
    }
    match vad.attributes.kind {
        VadKind::Private | VadKind::WriteWatch | VadKind::AddressWindow | VadKind::LargePages => {}
        VadKind::PhysicalMapping
        | VadKind::ImageView
        | VadKind::View
        | VadKind::Rotate
        | VadKind::LargePageView => return Err(NtStatus::UNABLE_TO_DELETE_SECTION),
    }
    if size.is_zero() && start != vad.start {
        return Err(NtStatus::FREE_VM_NOT_AT_BASE);
    }
    let end = if size.is_zero() { vad.end } else { end };
    if matches!(vad.attributes.kind, VadKind::AddressWindow | VadKind::LargePages) {
        if kind == FreeType::Decommit {
            return Err(NtStatus::MEMORY_NOT_ALLOCATED);
        }
        if (start, end) != (vad.start, vad.end) {
            return Err(NtStatus::UNABLE_TO_FREE_VM);
        }
    }
    Ok((vad, end))
}

/// Charged pages among `first..=last` of `vad` that have no entries.
fn charged_without_entries(vad: &Vad, first: Vpn, last: Vpn) -> u64 {
    match vad.attributes.commitment {
        Commitment::Committed => last.get() - first.get() + 1,
        Commitment::Reserved => 0,
    }
}

/// Deletes pages from the front of a descriptor and shortens it by them.
#[derive(Debug)]
pub(crate) struct Release {
    vad: Vad,
    last: Vpn,
    uncharged: u64,
}

impl<P: Platform> Visitor<P> for Release {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        self.uncharged += match visited {
            Visited::Entry { entry, word, page } => {
                set.clear_prototypes(word, page)?;
                let charged = u64::from(is_committed::<P>(&self.vad, word));
                if word != 0 {
                    let va = P::Paging::va_of_vpn(page);
                    set.delete_page(batch, (entry, word), va, Remains::Nothing)?;
                }
                charged
            }
            Visited::Nothing { first, last } => charged_without_entries(&self.vad, first, last),
        };
        Ok(())
    }

    fn end_stretch(&mut self, set: &mut WorkingSetGuard<'_, '_, P>, next: Option<Vpn>) {
        let released_end = match next {
            Some(next) if next == self.vad.start => return,
            Some(next) => next.checked_sub(Pages::new(1)).unwrap_or(next),
            None => self.last,
        };
        self.shorten(set, released_end);
    }
}

impl Release {
    /// Releases the pages of `vad` from its start to `last`.
    pub(crate) const fn new(vad: Vad, last: Vpn) -> Self {
        Self { vad, last, uncharged: 0 }
    }

    /// The descriptor as it is now.
    pub(crate) const fn vad(&self) -> Vad {
        self.vad
    }

    /// Takes the pages up to `released_end`, which are deleted, off the front of the descriptor
    /// and returns what they were charged, with the tables only they needed.
    fn shorten<P: Platform>(&mut self, set: &mut WorkingSetGuard<'_, '_, P>, released_end: Vpn) {
        let nodes = set.manager().nodes();
        let mut tree = set.vads();
        let start = self.vad.start;
        let mut uncharged = Pages::new(core::mem::take(&mut self.uncharged));
        if self.vad.attributes.view.is_some() {
            // Which of its pages a view is charged for is not known, only how many.
            let charge = self.vad.attributes.commit_charge;
            let released = Pages::new(released_end.get() - start.get() + 1);
            uncharged = if released_end >= self.vad.end { charge } else { charge.min(released) };
        }
        if released_end >= self.vad.end {
            tree.remove(&nodes, start);
            if let Some(view) = self.vad.attributes.view {
                set.manager().drop_view(view.area, Holder::User);
            }
        } else if let Some(new_start) = released_end.checked_add(Pages::new(1)) {
            tree.update(&nodes, start, |attributes| {
                attributes.commit_charge = attributes.commit_charge.saturating_sub(uncharged);
            });
            tree.update(&nodes, start, |attributes| {
                if let Some(view) = &mut attributes.view {
                    let gone = Pages::new(new_start.get() - start.get());
                    view.first = view.first.saturating_add(gone);
                }
            });
            if let Ok(vad) = tree.resize(&nodes, start, new_start, self.vad.end) {
                self.vad = vad;
            }
        }
        set.set_vads(&tree, nodes);
        if self.vad.attributes.kind == VadKind::WriteWatch {
            set.end_watch(start, released_end);
        }
        let (before, after) = set.vad_neighbours(start, released_end);
        let tables = Manager::<P>::tables_of_range(start, released_end, before, after);
        set.return_commit(uncharged.saturating_add(tables));
        let header = set.header();
        let bytes = Pages::new(released_end.get() - start.get() + 1).to_bytes();
        header.set_virtual_size(header.virtual_size().saturating_sub(bytes.get()));
    }
}

/// Decommits pages.
pub(super) struct Decommit {
    vad: Vad,
    uncharged: u64,
}

impl Decommit {
    /// Decommits pages of `vad`.
    pub(super) const fn new(vad: Vad) -> Self {
        Self { vad, uncharged: 0 }
    }
}

impl<P: Platform> Visitor<P> for Decommit {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        let Visited::Entry { entry, word, page } = visited else { return Ok(()) };
        if !is_committed::<P>(&self.vad, word) {
            return Ok(());
        }
        set.delete_page(batch, (entry, word), P::Paging::va_of_vpn(page), Remains::Decommitted)?;
        self.uncharged += 1;
        Ok(())
    }

    fn end_stretch(&mut self, set: &mut WorkingSetGuard<'_, '_, P>, _next: Option<Vpn>) {
        let uncharged = Pages::new(core::mem::take(&mut self.uncharged));
        if uncharged.is_zero() {
            return;
        }
        let nodes = set.manager().nodes();
        set.vads().update(&nodes, self.vad.start, |attributes| {
            attributes.commit_charge = attributes.commit_charge.saturating_sub(uncharged);
        });
        set.return_commit(uncharged);
    }
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Takes a descriptor away none of whose pages has an entry, with all that it is charged.
    pub(super) fn release_descriptor(&mut self, vad: Vad) {
        let uncharged = vad.attributes.commit_charge.get();
        Release { vad, last: vad.end, uncharged }.shorten(self, vad.end);
    }

    /// Splits a descriptor in front of `start`, when `front` of its charged pages lie there.
    /// Returns the descriptor that now begins at `start`.
    pub(super) fn split_vad(&mut self, vad: &Vad, start: Vpn, front: Pages) -> Result<Vad, Pause> {
        let nodes = self.stock_nodes(start)?;
        let mut tree = self.vads();
        let rest = Vad {
            start,
            end: vad.end,
            attributes: VadAttributes {
                commit_charge: vad.attributes.commit_charge.saturating_sub(front),
                ..vad.attributes
            },
        };
        let front_end = start.checked_sub(Pages::new(1)).unwrap_or(start);
        let mut outcome = tree.resize(&nodes, vad.start, vad.start, front_end).map(|_| ());
        if outcome.is_ok() {
            tree.update(&nodes, vad.start, |attributes| attributes.commit_charge = front);
            if tree.insert(&nodes, rest).is_err() {
                outcome = Err(crate::vad::tree::ResizeError::NotFound);
            }
        }
        self.set_vads(&tree, nodes);
        if self.has_secured_ranges() {
            self.recount_secured(vad.start);
            self.recount_secured(start);
        }
        match outcome {
            Ok(()) => Ok(rest),
            Err(_) => self.manager().corrupt_entry(P::Paging::va_of_vpn(start)),
        }
    }
}

impl<P: Platform> Manager<P> {
    /// Gives up ownership of address creation in `space`, if the space still exists.
    pub(crate) fn disown_address_creation(&self, space: AddressSpaceId) {
        let mut entry = self.enter();
        if let Some(mut set) = self.lock_space(entry.token(), space) {
            set.disown_address_creation();
        }
    }
}

impl<P: Platform> Stages<P> for Free {
    type Output = Region;

    fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    fn check_parameters(&self) -> Result<(), NtStatus> {
        if self.base > P::Paging::HIGHEST_USER_ADDRESS {
            return Err(NtStatus::INVALID_PARAMETER_2);
        }
        self.range::<P::Paging>().map(|_| ())
    }

    fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Start)
    }

    fn proceed(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<Region, Blocked> {
        if matches!(self.stage, Stage::Start) {
            self.start(set)?;
        }
        let pending = &mut self.call.pending;
        if let Stage::FreeingLarge(release, region) = &mut self.stage {
            release.advance(set, pending)?;
            return Ok(*region);
        }
        if let Stage::Splitting { walk, vad, start, end, front } = &mut self.stage {
            let mut count = CountCommitment::new(*vad);
            let outcome = set.walk_stretch(pending, walk, MissingTables::Skip, &mut count);
            *front += count.committed;
            outcome?;
            let vad = set.split_vad(vad, *start, Pages::new(*front))?;
            self.stage = Stage::freeing(vad, *start, *end);
        }
        let Stage::Freeing { walk, vad, start, end, leftovers } = &mut self.stage else {
            return Err(NtStatus::INVALID_PARAMETER.into());
        };
        match self.kind {
            FreeType::Release => {
                let is_window = vad.attributes.kind == VadKind::AddressWindow;
                if is_window {
                    leftovers.flush(set, pending)?;
                }
                let mut release = Release::new(*vad, *end);
                let outcome = set.walk_stretch(pending, walk, MissingTables::Skip, &mut release);
                *vad = release.vad();
                outcome?;
                if is_window {
                    set.set_windows_flushed();
                }
            }
            FreeType::Decommit => {
                let mut decommit = Decommit::new(*vad);
                // In a committed range a page that is not, needs an entry that says so.
                let missing = match vad.attributes.commitment {
                    Commitment::Committed => MissingTables::Create,
                    Commitment::Reserved => MissingTables::Skip,
                };
                set.walk_stretch(pending, walk, missing, &mut decommit)?;
            }
        }
        Ok(Region::of_pages::<P::Paging>(*start, *end))
    }
}

impl<P: Platform> Operation<P> for Free {
    type Output = Region;

    fn step(&mut self, manager: &Manager<P>) -> Step<Region> {
        self.step_stages(manager)
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.end(manager);
    }
}
