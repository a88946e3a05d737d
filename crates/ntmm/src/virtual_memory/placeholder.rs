//! Placeholders: address space that is held for an allocation to come (API 3.6, 4.3).
//!
//! A placeholder is a descriptor without pages. It is made by reserving
//! ([`MemoryUse::Placeholder`](super::MemoryUse)), replaced as a whole
//! ([`Placement::Replacing`](super::Placement)), released like other memory, and changed here:
//! cut out of a larger one, merged with its neighbours, or put back where an allocation has
//! replaced it. They are page-granular.

use ntmm_pte::{Bytes, Pages, PagingMode, Protection, Va, Vpn};

use super::allocate::Region;
use super::delete::Remains;
use super::free::Decommit;
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
use crate::status::NtStatus;
use crate::vad::{Commitment, Placeholder, SecuredChange, Vad, VadAttributes, VadKind};
use crate::working_set::WorkingSetGuard;

/// How placeholders change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceholderChange {
    /// The range, part of a larger placeholder, becomes one of its own; or it has replaced a
    /// placeholder and becomes one again (MEM_PRESERVE_PLACEHOLDER).
    Preserve,
    /// The placeholders of the range, at least two, become one (MEM_COALESCE_PLACEHOLDERS).
    Coalesce,
}

/// The call. Yields the range in whole pages.
///
/// Raises, as other calls that free memory (API 4.1), [`NtStatus::MEMORY_NOT_ALLOCATED`] when
/// nothing is at the start of the range, and [`NtStatus::UNABLE_TO_FREE_VM`] when a range to be
/// preserved leaves its allocation; [`NtStatus::UNABLE_TO_DELETE_SECTION`] when it is a view, and
/// [`NtStatus::CONFLICTING_ADDRESSES`] when it is not of placeholders in the way the change needs.
#[derive(Debug)]
#[must_use]
pub struct ChangePlaceholder {
    call: Call,
    base: Va,
    size: Bytes,
    change: PlaceholderChange,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Start,
    /// The range is cut out at its front, then at its back.
    Cutting,
    /// The pages of what replaced the placeholder are decommitted, then their entries cleared.
    Decommitting {
        walk: RangeWalk,
        vad: Vad,
    },
    Clearing {
        walk: RangeWalk,
        vad: Vad,
        leftovers: Leftovers,
    },
    /// Looking whether the range up to here consists of whole placeholders.
    Verifying {
        next: Vpn,
        found: u32,
    },
    /// They are merged into the one at the start of the range.
    Merging,
}

/// Descriptors looked at, or merged, under one hold of the lock.
const STRETCH: u32 = 32;

impl ChangePlaceholder {
    /// Changes the placeholders of the `size` bytes at `base`, which are more than none.
    pub const fn new(
        space: AddressSpaceId,
        base: Va,
        size: Bytes,
        change: PlaceholderChange,
    ) -> Self {
        Self { call: Call::new(space), base, size, change, stage: Stage::Start }
    }

    fn range<M: PagingMode>(&self) -> Result<(Vpn, Vpn), NtStatus> {
        page_range::<M>(self.base, self.size).ok_or(NtStatus::INVALID_PARAMETER_3)
    }

    /// Finds out what has to be done.
    fn start<P: Platform>(
        &self,
        set: &WorkingSetGuard<'_, '_, P>,
        (start, end): (Vpn, Vpn),
    ) -> Result<Stage, NtStatus> {
        let vad = set.find_vad(start).ok_or(NtStatus::MEMORY_NOT_ALLOCATED)?;
        if self.change == PlaceholderChange::Coalesce {
            return Ok(Stage::Verifying { next: start, found: 0 });
        }
        if end > vad.end {
            return Err(NtStatus::UNABLE_TO_FREE_VM);
        }
        let whole = (vad.start, vad.end) == (start, end);
        let VadAttributes { kind, placeholder, .. } = vad.attributes;
        match (kind, placeholder) {
            (VadKind::View | VadKind::ImageView | VadKind::PhysicalMapping, _) => {
                Err(NtStatus::UNABLE_TO_DELETE_SECTION)
            }
            (_, Placeholder::Empty) if !whole => Ok(Stage::Cutting),
            (_, Placeholder::Replaced) if whole => {
                set.check_secured(&vad, start, end, SecuredChange::Deletion)?;
                Ok(Stage::Decommitting { walk: RangeWalk::new(start, end), vad })
            }
            _ => Err(NtStatus::CONFLICTING_ADDRESSES),
        }
    }
}

/// Clears what decommitted entries say, in memory whose descriptor says the same.
struct Clear;

impl<P: Platform> Visitor<P> for Clear {
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

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Cuts the placeholder that `start..=end` is a part of, at both ends of that range.
    fn cut_placeholder(&mut self, start: Vpn, end: Vpn) -> Result<(), Pause> {
        let gone = NtStatus::CONFLICTING_ADDRESSES;
        let mut vad = self.find_vad(start).ok_or(gone)?;
        // The back first: when the front then fails, repeating the call makes up for it.
        if let Some(next) = end.checked_add(Pages::ONE).filter(|_| end < vad.end) {
            self.split_vad(&vad, next, Pages::ZERO)?;
            vad = self.find_vad(start).ok_or(gone)?;
        }
        if vad.start < start {
            self.split_vad(&vad, start, Pages::ZERO)?;
        }
        Ok(())
    }

    /// Looks at some descriptors from `next` on. None: all of them up to `end` are whole
    /// placeholders, or else the page to go on with and how many there were so far.
    fn verify_placeholders(
        &self,
        (mut next, mut found): (Vpn, u32),
        end: Vpn,
    ) -> Result<Option<(Vpn, u32)>, NtStatus> {
        for _ in 0..STRETCH {
            let whole = |vad: &Vad| {
                vad.start == next
                    && vad.end <= end
                    && vad.attributes.placeholder == Placeholder::Empty
            };
            let vad = self.find_vad(next).filter(whole).ok_or(NtStatus::CONFLICTING_ADDRESSES)?;
            found = found.saturating_add(1);
            if vad.end == end {
                return if found > 1 { Ok(None) } else { Err(NtStatus::CONFLICTING_ADDRESSES) };
            }
            next = vad.end.checked_add(Pages::ONE).ok_or(NtStatus::CONFLICTING_ADDRESSES)?;
        }
        Ok(Some((next, found)))
    }

    /// Merges some of the placeholders from `start` to `end` into the first of them; says whether
    /// that was all.
    fn merge_placeholders(&mut self, start: Vpn, end: Vpn) -> Result<Merged, Pause> {
        let first = self.find_vad(start).ok_or(NtStatus::CONFLICTING_ADDRESSES)?;
        if first.end >= end {
            return Ok(Merged::All);
        }
        let nodes = self.stock_nodes(start)?;
        let mut tree = self.vads();
        let mut merged = first;
        for _ in 0..STRETCH {
            let Some(next) = merged.end.checked_add(Pages::ONE).filter(|_| merged.end < end) else {
                break;
            };
            let Some(vad) = tree.remove(&nodes, next) else { break };
            merged.end = vad.end;
        }
        tree.remove(&nodes, start);
        let inserted = tree.insert(&nodes, merged);
        self.set_vads(&tree, nodes);
        if inserted.is_err() {
            self.manager().corrupt_entry(P::Paging::va_of_vpn(start));
        }
        Ok(if merged.end >= end { Merged::All } else { Merged::Some })
    }
}

/// How much of a range has been merged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Merged {
    Some,
    All,
}

impl<P: Platform> Stages<P> for ChangePlaceholder {
    type Output = Region;

    fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    fn check_parameters(&self) -> Result<(), NtStatus> {
        self.range::<P::Paging>().map(|_| ())
    }

    fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Start)
    }

    fn proceed(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<Region, Blocked> {
        let (start, end) = self.range::<P::Paging>()?;
        if matches!(self.stage, Stage::Start) {
            self.stage = self.start(set, (start, end))?;
        }
        let pending = &mut self.call.pending;
        if matches!(self.stage, Stage::Cutting) {
            set.cut_placeholder(start, end)?;
        }
        if let Stage::Decommitting { walk, vad } = &mut self.stage {
            let mut decommit = Decommit::new(*vad);
            let missing = match vad.attributes.commitment {
                Commitment::Committed => MissingTables::Create,
                Commitment::Reserved => MissingTables::Skip,
            };
            set.walk_stretch(pending, walk, missing, &mut decommit)?;
            let nodes = set.manager().nodes();
            set.vads().update(&nodes, vad.start, |old| old.commitment = Commitment::Reserved);
            let (walk, vad) = (RangeWalk::new(start, end), *vad);
            self.stage = Stage::Clearing { walk, vad, leftovers: Leftovers::Unknown };
        }
        if let Stage::Clearing { walk, vad, leftovers } = &mut self.stage {
            let is_window = vad.attributes.kind == VadKind::AddressWindow;
            if is_window {
                leftovers.flush(set, pending)?;
            }
            set.walk_stretch(pending, walk, MissingTables::Skip, &mut Clear)?;
            if is_window {
                set.set_windows_flushed();
            }
            let nodes = set.manager().nodes();
            set.vads().update(&nodes, vad.start, |old| {
                old.kind = VadKind::Private;
                old.protection = Protection::NO_ACCESS;
                old.placeholder = Placeholder::Empty;
            });
            if vad.attributes.kind == VadKind::WriteWatch {
                set.end_watch(start, end);
            }
        }
        if let Stage::Verifying { next, found } = &mut self.stage {
            if let Some((further, so_far)) = set.verify_placeholders((*next, *found), end)? {
                (*next, *found) = (further, so_far);
                return Err(Blocked::Restart);
            }
            self.stage = Stage::Merging;
        }
        if matches!(self.stage, Stage::Merging)
            && set.merge_placeholders(start, end)? == Merged::Some
        {
            return Err(Blocked::Restart);
        }
        Ok(Region::of_pages::<P::Paging>(start, end))
    }
}

impl<P: Platform> Operation<P> for ChangePlaceholder {
    type Output = Region;

    fn step(&mut self, manager: &Manager<P>) -> Step<Region> {
        self.step_stages(manager)
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.end(manager);
    }
}
