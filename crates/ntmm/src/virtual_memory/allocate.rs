//! Reserve and commit (NtAllocateVirtualMemory, spec 7.4, 7.5; API 3).

use ntmm_pte::{
    ALLOCATION_GRANULARITY, Bytes, PAGE_SIZE, Pages, PagingMode, Protection, PteWord, Va, Vpn,
};

use super::Stages;
use super::protect::change_protection;
use super::range::{MissingTables, RangeWalk, Visited, Visitor};
use crate::address_space::AddressSpaceId;
use crate::fault::Blocked;
use crate::flush::FlushBatch;
use crate::manager::Manager;
use crate::operation::{Operation, Pause, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::vad::tree::GapRequest;
use crate::vad::{Commitment, ProtectionChange, Vad, VadAttributes, VadKind};
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
    space: AddressSpaceId,
    placement: Placement,
    size: Bytes,
    kind: AllocationType,
    protection: Protection,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Parameters not checked yet.
    Start,
    /// Address creation is owned; the pages of the range that lack a charge are counted.
    Counting {
        walk: RangeWalk,
        vad: Vad,
        start: Vpn,
        end: Vpn,
        uncommitted: u64,
    },
    /// They are charged; entries are written.
    Committing {
        walk: RangeWalk,
        vad: Vad,
        start: Vpn,
        end: Vpn,
        charged: u64,
    },
    Finished,
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
        Self { space, placement, size, kind, protection, stage: Stage::Start }
    }

    /// First and last page of an explicit range, rounded to `unit` at its start.
    fn explicit_range<M: PagingMode>(
        base: Va,
        size: Bytes,
        unit: u64,
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
        if start < ntmm_pte::mode::LOWEST_USER_ADDRESS {
            return Err(NtStatus::INVALID_PARAMETER_2);
        }
        Ok((start.vpn(), last.vpn()))
    }

    /// Checks the parameters and reserves; none when pages of an existing allocation are to be
    /// committed, which takes further stages.
    fn start<P: Platform>(&mut self, manager: &Manager<P>) -> Result<Option<Region>, Pause> {
        if self.size.is_zero() {
            return Err(NtStatus::INVALID_PARAMETER_4.into());
        }
        if self.protection.is_write_copy() || self.protection.is_decommitted() {
            return Err(NtStatus::INVALID_PAGE_PROTECTION.into());
        }
        let mut entry = manager.enter();
        let mut set = manager.lock_live_space(entry.token(), self.space)?;
        let (AllocationType::Commit, Placement::At(base)) = (self.kind, self.placement) else {
            set.own_address_creation()?;
            let outcome = self.reserve(&mut set);
            set.disown_address_creation();
            return outcome.map(Some);
        };
        let (start, end) = Self::explicit_range::<P::Paging>(base, self.size, PAGE_SIZE)?;
        set.own_address_creation()?;
        let inside = |vad: &Vad| vad.end >= end && vad.attributes.kind == VadKind::Private;
        let Some(vad) = set.find_vad(start).filter(inside) else {
            set.disown_address_creation();
            return Err(NtStatus::CONFLICTING_ADDRESSES.into());
        };
        let walk = RangeWalk::new(start, end);
        self.stage = Stage::Counting { walk, vad, start, end, uncommitted: 0 };
        Ok(None)
    }

    fn reserve<P: Platform>(&self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<Region, Pause> {
        let manager = set.manager();
        let mut tree = set.vads();
        let (start, end) = match self.placement {
            Placement::At(base) => {
                let range =
                    Self::explicit_range::<P::Paging>(base, self.size, ALLOCATION_GRANULARITY);
                range?
            }
            Placement::Lowest | Placement::Highest => {
                let pages = self.size.to_pages_rounded_up();
                let request = GapRequest {
                    pages,
                    alignment: Pages::new(ALLOCATION_GRANULARITY / PAGE_SIZE),
                    low: ntmm_pte::mode::LOWEST_USER_ADDRESS.vpn(),
                    high: P::Paging::HIGHEST_VAD_ADDRESS.vpn(),
                };
                let nodes = manager.nodes();
                let gap = match self.placement {
                    Placement::Highest => tree.highest_gap(&nodes, request),
                    _ => tree.lowest_gap(&nodes, request),
                };
                let start = gap.ok_or(NtStatus::NO_MEMORY)?;
                (start, start.checked_add(pages.saturating_sub(Pages::new(1))).unwrap_or(start))
            }
        };
        if tree.first_overlap(&manager.nodes(), start, end).is_some() {
            return Err(NtStatus::CONFLICTING_ADDRESSES.into());
        }
        let pages = Pages::new(end.get() - start.get() + 1);
        let committed = match self.kind {
            AllocationType::Reserve => Pages::new(0),
            AllocationType::Commit | AllocationType::ReserveAndCommit => pages,
        };
        let (before, after) = set.vad_neighbours(start, end);
        let tables = Manager::<P>::tables_of_range(start, end, before, after);
        let charge = manager.charge_commitment(committed.saturating_add(tables))?;
        let nodes = set.stock_nodes(start)?;
        let vad = Vad {
            start,
            end,
            attributes: VadAttributes {
                kind: VadKind::Private,
                protection: self.protection,
                commitment: if committed.is_zero() {
                    Commitment::Reserved
                } else {
                    Commitment::Committed
                },
                protection_change: ProtectionChange::Allowed,
                commit_charge: committed,
            },
        };
        let inserted = tree.insert(&nodes, vad);
        set.set_vads(&tree, nodes);
        if inserted.is_err() {
            return Err(NtStatus::CONFLICTING_ADDRESSES.into());
        }
        set.add_commit(charge.keep());
        let header = set.header();
        header.set_virtual_size(header.virtual_size() + pages.to_bytes().get());
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

impl<P: Platform> Visitor<P> for CountCommitment {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        _batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        let (pages, committed) = match visited {
            Visited::Entry { entry, .. } => {
                let word = set.manager().load_entry(entry);
                (1, is_committed::<P>(&self.vad, word))
            }
            Visited::Nothing { first, last } => {
                (last.get() - first.get() + 1, is_committed::<P>(&self.vad, 0))
            }
        };
        if committed {
            self.committed += pages;
        } else {
            self.uncommitted += pages;
        }
        Ok(())
    }
}

/// Whether the page of an entry of `vad` that holds `word` is committed.
pub(crate) fn is_committed<P: Platform>(vad: &Vad, word: u64) -> bool {
    if word == 0 {
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

impl<P: Platform> Visitor<P> for Commit {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        let Visited::Entry { entry, page } = visited else { return Ok(()) };
        let manager = set.manager();
        let word = manager.load_entry(entry);
        if is_committed::<P>(&self.vad, word) {
            return change_protection(set, batch, &self.vad, entry, page, self.protection);
        }
        manager.store_software(entry, word, P::Paging::demand_zero(self.protection));
        self.charged = self.charged.saturating_sub(1);
        self.newly += 1;
        Ok(())
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

    fn proceed(&mut self, manager: &Manager<P>) -> Result<Region, Pause> {
        if matches!(self.stage, Stage::Start)
            && let Some(region) = self.start(manager)?
        {
            return Ok(region);
        }
        if let Stage::Counting { walk, vad, start, end, uncommitted } = &mut self.stage {
            let mut count = CountCommitment::new(*vad);
            let outcome = manager.walk_range(self.space, walk, MissingTables::Skip, &mut count);
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
        let protection = self.protection;
        let mut commit = Commit { vad: *vad, protection, charged: *charged, newly: 0 };
        // Pages without an entry are committed with the protection of the descriptor.
        let as_described = vad.attributes.commitment == Commitment::Committed
            && vad.attributes.protection == protection;
        let missing = if as_described { MissingTables::Skip } else { MissingTables::Create };
        let outcome = manager.walk_range(self.space, walk, missing, &mut commit);
        *charged = commit.charged;
        outcome?;
        Ok(Region::of_pages::<P::Paging>(*start, *end))
    }

    fn finish(&mut self, manager: &Manager<P>) {
        match core::mem::replace(&mut self.stage, Stage::Finished) {
            Stage::Counting { mut walk, .. } => walk.holds.release(manager),
            Stage::Committing { mut walk, charged, .. } => {
                walk.holds.release(manager);
                manager.return_commitment(Pages::new(charged));
            }
            Stage::Start | Stage::Finished => return,
        }
        manager.disown_address_creation(self.space);
    }
}

impl<P: Platform> Operation<P> for Allocate {
    type Output = Region;

    fn step(&mut self, manager: &Manager<P>) -> Step<Region> {
        self.step_stages(manager)
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.finish(manager);
    }
}
