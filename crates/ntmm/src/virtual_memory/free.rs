//! Release and decommit (NtFreeVirtualMemory, spec 7.6, 14.1; API 4).
//!
//! A release first splits the descriptor so that the range to go starts one; from then on each
//! stretch deletes pages and shortens the descriptor by them under one hold of the lock. So a
//! page that has been deleted is never described, and the call can stop after any stretch.

use ntmm_pte::{Bytes, Pages, PagingMode, Va, Vpn};

use super::Stages;
use super::allocate::{CountCommitment, Region, is_committed};
use super::delete::Remains;
use super::protect::page_range;
use super::range::{MissingTables, RangeWalk, Visited, Visitor};
use crate::address_space::AddressSpaceId;
use crate::fault::Blocked;
use crate::flush::FlushBatch;
use crate::manager::Manager;
use crate::operation::{Operation, Pause, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::vad::{Commitment, Vad, VadAttributes, VadKind};
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
    space: AddressSpaceId,
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
    },
    Finished,
}

impl Free {
    /// Frees `size` bytes at `base`; a size of zero means the whole allocation, whose start the
    /// page of `base` must be.
    pub const fn new(space: AddressSpaceId, base: Va, size: Bytes, kind: FreeType) -> Self {
        Self { space, base, size, kind, stage: Stage::Start }
    }

    fn start<P: Platform>(&mut self, manager: &Manager<P>) -> Result<(), Pause> {
        if self.base > P::Paging::HIGHEST_USER_ADDRESS {
            return Err(NtStatus::INVALID_PARAMETER_2.into());
        }
        let range = if self.size.is_zero() {
            Some((self.base.vpn(), self.base.vpn()))
        } else {
            page_range::<P::Paging>(self.base, self.size)
        };
        let (start, end) = range.ok_or(NtStatus::INVALID_PARAMETER_3)?;
        let mut entry = manager.enter();
        let mut set = manager.lock_live_space(entry.token(), self.space)?;
        set.own_address_creation()?;
        match check(set.find_vad(start), start, end, self.size) {
            Ok((vad, end)) => {
                self.stage = self.first_stage(vad, start, end);
                Ok(())
            }
            Err(status) => {
                set.disown_address_creation();
                Err(status.into())
            }
        }
    }

    fn first_stage(&self, vad: Vad, start: Vpn, end: Vpn) -> Stage {
        match start.checked_sub(Pages::new(1)) {
            Some(front_end) if self.kind == FreeType::Release && start > vad.start => {
                let walk = RangeWalk::new(vad.start, front_end);
                Stage::Splitting { walk, vad, start, end, front: 0 }
            }
            _ => Stage::Freeing { walk: RangeWalk::new(start, end), vad, start, end },
        }
    }
}

/// The descriptor to free from, and the last page.
fn check(vad: Option<Vad>, start: Vpn, end: Vpn, size: Bytes) -> Result<(Vad, Vpn), NtStatus> {
    let vad = vad.ok_or(NtStatus::MEMORY_NOT_ALLOCATED)?;
    if end > vad.end {
        return Err(NtStatus::UNABLE_TO_FREE_VM);
    }
    if vad.attributes.kind != VadKind::Private {
        return Err(NtStatus::UNABLE_TO_DELETE_SECTION);
    }
    if size.is_zero() {
        if start != vad.start {
            return Err(NtStatus::FREE_VM_NOT_AT_BASE);
        }
        return Ok((vad, vad.end));
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
            Visited::Entry { entry, page } => {
                let word = set.manager().load_entry(entry);
                let charged = u64::from(is_committed::<P>(&self.vad, word));
                if word != 0 {
                    let va = P::Paging::va_of_vpn(page);
                    set.delete_page(batch, entry, va, Remains::Nothing)?;
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
        let uncharged = Pages::new(core::mem::take(&mut self.uncharged));
        if released_end >= self.vad.end {
            tree.remove(&nodes, start);
        } else if let Some(new_start) = released_end.checked_add(Pages::new(1)) {
            tree.update(&nodes, start, |attributes| {
                attributes.commit_charge = attributes.commit_charge.saturating_sub(uncharged);
            });
            if let Ok(vad) = tree.resize(&nodes, start, new_start, self.vad.end) {
                self.vad = vad;
            }
        }
        set.set_vads(&tree, nodes);
        let (before, after) = set.vad_neighbours(start, released_end);
        let tables = Manager::<P>::tables_of_range(start, released_end, before, after);
        set.return_commit(uncharged.saturating_add(tables));
        let header = set.header();
        let bytes = Pages::new(released_end.get() - start.get() + 1).to_bytes();
        header.set_virtual_size(header.virtual_size().saturating_sub(bytes.get()));
    }
}

/// Decommits pages.
struct Decommit {
    vad: Vad,
    uncharged: u64,
}

impl<P: Platform> Visitor<P> for Decommit {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        let Visited::Entry { entry, page } = visited else { return Ok(()) };
        let word = set.manager().load_entry(entry);
        if !is_committed::<P>(&self.vad, word) {
            return Ok(());
        }
        set.delete_page(batch, entry, P::Paging::va_of_vpn(page), Remains::Decommitted)?;
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

impl<P: Platform> Manager<P> {
    /// Splits a descriptor in front of `start`, when `front` of its charged pages lie there.
    /// Returns the descriptor that now begins at `start`.
    fn split_vad(
        &self,
        space: AddressSpaceId,
        vad: &Vad,
        start: Vpn,
        front: Pages,
    ) -> Result<Vad, Pause> {
        let mut entry = self.enter();
        let mut set = self.lock_space(entry.token(), space).ok_or(NtStatus::INVALID_HANDLE)?;
        let nodes = set.stock_nodes(start)?;
        let mut tree = set.vads();
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
        set.set_vads(&tree, nodes);
        match outcome {
            Ok(()) => Ok(rest),
            Err(_) => self.corrupt_entry(P::Paging::va_of_vpn(start)),
        }
    }

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

    fn proceed(&mut self, manager: &Manager<P>) -> Result<Region, Pause> {
        if matches!(self.stage, Stage::Start) {
            self.start(manager)?;
        }
        if let Stage::Splitting { walk, vad, start, end, front } = &mut self.stage {
            let mut count = CountCommitment::new(*vad);
            let outcome = manager.walk_range(self.space, walk, MissingTables::Skip, &mut count);
            *front += count.committed;
            outcome?;
            let vad = manager.split_vad(self.space, vad, *start, Pages::new(*front))?;
            let (start, end) = (*start, *end);
            self.stage = Stage::Freeing { walk: RangeWalk::new(start, end), vad, start, end };
        }
        let Stage::Freeing { walk, vad, start, end } = &mut self.stage else {
            return Err(NtStatus::INVALID_PARAMETER.into());
        };
        match self.kind {
            FreeType::Release => {
                let mut release = Release::new(*vad, *end);
                let outcome =
                    manager.walk_range(self.space, walk, MissingTables::Skip, &mut release);
                *vad = release.vad();
                outcome?;
            }
            FreeType::Decommit => {
                let mut decommit = Decommit { vad: *vad, uncharged: 0 };
                // In a committed range a page that is not, needs an entry that says so.
                let missing = match vad.attributes.commitment {
                    Commitment::Committed => MissingTables::Create,
                    Commitment::Reserved => MissingTables::Skip,
                };
                manager.walk_range(self.space, walk, missing, &mut decommit)?;
            }
        }
        Ok(Region::of_pages::<P::Paging>(*start, *end))
    }

    fn finish(&mut self, manager: &Manager<P>) {
        match core::mem::replace(&mut self.stage, Stage::Finished) {
            Stage::Splitting { mut walk, .. } | Stage::Freeing { mut walk, .. } => {
                walk.holds.release(manager);
                manager.disown_address_creation(self.space);
            }
            Stage::Start | Stage::Finished => {}
        }
    }
}

impl<P: Platform> Operation<P> for Free {
    type Output = Region;

    fn step(&mut self, manager: &Manager<P>) -> Step<Region> {
        self.step_stages(manager)
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.finish(manager);
    }
}
