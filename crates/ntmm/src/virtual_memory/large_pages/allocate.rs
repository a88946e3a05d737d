//! The allocation of large pages.

use ntmm_pte::{
    ALLOCATION_GRANULARITY, Bytes, Dirtiness, Level, Pages, PagingMode, Pfn, Protection, PteWord,
    Va, Vpn,
};

use super::{ReleaseLargePages, STRETCH};
use crate::address_space::AddressSpaceId;
use crate::fault::Blocked;
use crate::frames::FrameUse;
use crate::frames::contiguous::RunSearch;
use crate::manager::Manager;
use crate::operation::{Operation, Pause, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::tables::EntryRef;
use crate::vad::{Commitment, Placeholder, ProtectionChange, Secured, Vad, VadAttributes, VadKind};
use crate::virtual_memory::{Call, Region, Stages, Window};
use crate::working_set::WorkingSetGuard;

/// Reserves and commits memory in large pages, all of which is there and reads as zeroes when the
/// call is done. Yields the range.
///
/// The frames come off the zeroed, free and standby lists, and as many available pages are left as
/// there have to be for memory not to be short (MmPlentyFreePages).
///
/// Raises, with nothing changed,
/// * [`NtStatus::INVALID_PAGE_PROTECTION`] for guards, for no access, and for copies on write;
/// * [`NtStatus::INVALID_PARAMETER_2`] and [`NtStatus::INVALID_PARAMETER_4`] when the address and the
///   size, which is not zero, are not multiples of a large page, or not of user space;
/// * [`NtStatus::CONFLICTING_ADDRESSES`] when part of the range is allocated,
///   [`NtStatus::NO_MEMORY`] when there is no hole;
/// * [`NtStatus::INSUFFICIENT_RESOURCES`] when there are not enough runs of available frames;
/// * [`NtStatus::COMMITMENT_LIMIT`];
/// * [`NtStatus::NO_MEMORY`] also when the working-set list has no room for the tables, and
///   [`NtStatus::IN_PAGE_ERROR`] when one of them could not be read.
#[derive(Debug)]
#[must_use]
pub struct AllocateLargePages {
    call: Call,
    place: Place,
    size: Bytes,
    protection: Protection,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    At(Va),
    Within(Window),
}

#[derive(Debug)]
enum Stage {
    Start,
    /// The descriptor is there; frames are collected.
    Gathering(Gathering),
    /// All are there. Pages from this one on are not mapped yet.
    Mapping(Vad, Vpn),
    /// The call fails with this status.
    Undoing(ReleaseLargePages, NtStatus),
    Finished,
}

/// What an entry names that keeps its tables while no run has been found for it: frames that it
/// has none of.
const NO_RUN: Pfn = Pfn::new(0);

/// Collecting the frames of one large page after the other.
#[derive(Debug)]
struct Gathering {
    vad: Vad,
    /// First page of the large page that is to get frames.
    page: Vpn,
    /// First frame that has not been looked at.
    search: Pfn,
    run: Run,
}

#[derive(Clone, Copy, Debug)]
enum Run {
    /// There is none yet.
    Wanted,
    /// This one is named by the entry, and its first `taken` frames are the page's.
    Taking { entry: EntryRef, first: Pfn, taken: u32 },
    /// Another frame of it belongs to somebody else: those taken go back, the last first.
    Dropping { first: Pfn, taken: u32 },
}

/// Why no more frames of a run were taken.
enum Refusal {
    /// The next one is not available any more.
    Lost,
    /// Memory would be short.
    Short,
}

impl AllocateLargePages {
    /// Allocates `size` bytes at `base` with `protection` in `space`.
    pub const fn at(space: AddressSpaceId, base: Va, size: Bytes, protection: Protection) -> Self {
        Self::new(space, Place::At(base), size, protection)
    }

    /// Allocates `size` bytes in a hole within bounds.
    pub const fn within(
        space: AddressSpaceId,
        window: Window,
        size: Bytes,
        protection: Protection,
    ) -> Self {
        Self::new(space, Place::Within(window), size, protection)
    }

    const fn new(space: AddressSpaceId, place: Place, size: Bytes, protection: Protection) -> Self {
        Self { call: Call::new(space), place, size, protection, stage: Stage::Start }
    }

    /// Where the memory goes: first and last page.
    fn range<P: Platform>(&self, set: &WorkingSetGuard<'_, '_, P>) -> Result<(Vpn, Vpn), NtStatus> {
        let pages = self.size.to_pages_rounded_up();
        let start = match self.place {
            Place::At(base) => base.vpn(),
            Place::Within(window) => {
                let large = P::Paging::LARGE_PAGE.to_bytes();
                let alignment = window.alignment.max(large);
                Window { alignment, ..window }.find(set, pages)?
            }
        };
        let end = start.checked_add(pages.saturating_sub(Pages::ONE)).unwrap_or(start);
        set.vacant(start, end)
    }

    /// Makes the descriptor.
    fn start<P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
    ) -> Result<Gathering, Pause> {
        let manager = set.manager();
        let (start, end) = self.range(set)?;
        let pages = Pages::new(end.get() - start.get() + 1);
        let available = &manager.available;
        let spare = available.unreserved().saturating_sub(available.thresholds().plenty);
        let search = manager.first_frame().filter(|_| pages.get() <= u64::from(spare));
        let search = search.ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        let charge = set.charge_allocation((start, end), pages)?;
        let attributes = VadAttributes {
            kind: VadKind::LargePages,
            protection: self.protection,
            commitment: Commitment::Committed,
            protection_change: ProtectionChange::Allowed,
            placeholder: Placeholder::Never,
            secured: Secured::No,
            commit_charge: pages,
            view: None,
        };
        let vad = Vad { start, end, attributes };
        set.insert_allocation(vad, charge)?;
        Ok(Gathering { vad, page: start, search, run: Run::Wanted })
    }
}

impl Gathering {
    /// Collects some frames; fine when all are there. After each large page the call returns to
    /// its caller, who may give it up.
    fn advance<P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        call: &mut Call,
    ) -> Result<(), Blocked> {
        let page = self.page;
        match self.run {
            Run::Wanted => self.find_run(set, call)?,
            Run::Taking { entry, first, taken } => self.take(set, entry, first, taken)?,
            Run::Dropping { first, taken } => {
                let rest = taken.saturating_sub(STRETCH);
                for number in rest..taken {
                    set.free_large_frame(Pfn::new(first.get() + number));
                }
                self.run = match rest {
                    0 => Run::Wanted,
                    taken => Run::Dropping { first, taken },
                };
            }
        }
        if self.page > self.vad.end {
            Ok(())
        } else if self.page > page {
            Err(set.wait_for_nothing().into())
        } else {
            Err(Blocked::Restart)
        }
    }

    /// Looks for a run, and names it in the entry of the page.
    fn find_run<P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        call: &mut Call,
    ) -> Result<(), Blocked> {
        let manager = set.manager();
        let va = P::Paging::va_of_vpn(self.page);
        let holds = &mut call.pending.holds;
        let entry = set.descend_to(Level::Directory, va, holds, &mut None, |_| Ok(()))?;
        let mut word = manager.load_entry(entry);
        if word == 0 {
            // Its tables come first, lest they take a frame of the run that is found.
            word = P::Paging::unmapped_large(NO_RUN);
            manager.store_software(entry, 0, word);
            manager.entry(entry.table).add_share(1);
        }
        let first = match manager.look_for_run(self.search) {
            RunSearch::Found(first) => first,
            RunSearch::Further(next) => {
                self.search = next;
                return Ok(());
            }
            RunSearch::Nowhere => return Err(NtStatus::INSUFFICIENT_RESOURCES.into()),
        };
        manager.store_software(entry, word, P::Paging::unmapped_large(first));
        self.search = Pfn::new(first.get().saturating_add(P::Paging::ENTRIES as u32));
        self.run = Run::Taking { entry, first, taken: 0 };
        Ok(())
    }

    /// Takes the next frames of a run.
    fn take<P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        entry: EntryRef,
        first: Pfn,
        mut taken: u32,
    ) -> Result<(), NtStatus> {
        let length = P::Paging::ENTRIES as u32;
        let count = STRETCH.min(length - taken);
        let frames = (taken..taken + count).map(|number| Pfn::new(first.get() + number));
        let protection = self.vad.attributes.protection;
        let refused = set.take_large_frames(entry, frames, protection, &mut taken).err();
        self.run = match refused {
            Some(Refusal::Short) => return Err(NtStatus::INSUFFICIENT_RESOURCES),
            Some(Refusal::Lost) => Run::Dropping { first, taken },
            None if taken < length => Run::Taking { entry, first, taken },
            None => {
                let next = self.page.checked_add(P::Paging::LARGE_PAGE);
                self.page = next.ok_or(NtStatus::INVALID_PARAMETER_4)?;
                Run::Wanted
            }
        };
        Ok(())
    }
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Takes these frames, zeroed, for the large page of an entry, and counts them in `taken`.
    fn take_large_frames(
        &mut self,
        entry: EntryRef,
        frames: impl ExactSizeIterator<Item = Pfn>,
        protection: Protection,
        taken: &mut u32,
    ) -> Result<(), Refusal> {
        let manager = self.manager();
        let reservation = manager.try_reserve_plentiful_pages(frames.len() as u32);
        let mut reservation = reservation.ok_or(Refusal::Short)?;
        for pfn in frames {
            let mut frame = manager.lock_frame(self.token(), pfn);
            if !frame.location().is_available() {
                return Err(Refusal::Lost);
            }
            manager.take_named(&mut frame, &mut reservation, FrameUse::LargePage);
            frame.entry().set_original(P::Paging::demand_zero(protection));
            frame.entry().set_container(entry.table, entry.slot);
            frame.map_first(0);
            *taken += 1;
        }
        Ok(())
    }

    /// Maps the large page at `va`, whose frames are all there.
    fn map_large(&mut self, va: Va, protection: Protection) {
        let manager = self.manager();
        let Some((entry, word)) = self.large_entry(va) else { manager.corrupt_entry(va) };
        let first = P::Paging::transition_pfn(word);
        let valid = P::Paging::valid_user_large(first, protection, Dirtiness::Dirty);
        manager.store_software(entry, word, valid);
        self.count_private(P::Paging::LARGE_PAGE, Pages::ZERO);
    }
}

impl<P: Platform> Stages<P> for AllocateLargePages {
    type Output = Region;

    fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    fn check_parameters(&self) -> Result<(), NtStatus> {
        if !self.protection.is_mappable() || self.protection.is_write_copy() {
            return Err(NtStatus::INVALID_PAGE_PROTECTION);
        }
        let large = P::Paging::LARGE_PAGE.to_bytes().get();
        let highest = P::Paging::HIGHEST_VAD_ADDRESS;
        let room = match self.place {
            Place::Within(_) => highest.get() + 1,
            Place::At(base)
                if base.get() >= ALLOCATION_GRANULARITY
                    && base <= highest
                    && base.get().is_multiple_of(large) =>
            {
                highest.get() - base.get() + 1
            }
            Place::At(_) => return Err(NtStatus::INVALID_PARAMETER_2),
        };
        let size = self.size.get();
        if size == 0 || size > room || !size.is_multiple_of(large) {
            return Err(NtStatus::INVALID_PARAMETER_4);
        }
        Ok(())
    }

    fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Start | Stage::Finished)
    }

    fn proceed(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<Region, Blocked> {
        if matches!(self.stage, Stage::Start) {
            self.stage = Stage::Gathering(self.start(set)?);
        }
        if let Stage::Gathering(gathering) = &mut self.stage {
            let vad = gathering.vad;
            match gathering.advance(set, &mut self.call) {
                Ok(()) => self.stage = Stage::Mapping(vad, vad.start),
                Err(Blocked::Pause(Pause::Raise(status))) => {
                    self.stage = Stage::Undoing(ReleaseLargePages::unreached(vad), status);
                }
                Err(blocked) => return Err(blocked),
            }
        }
        if let Stage::Undoing(release, status) = &mut self.stage {
            let status = *status;
            release.advance(set, &mut self.call.pending)?;
            self.stage = Stage::Finished;
            return Err(status.into());
        }
        let Stage::Mapping(vad, next) = &mut self.stage else {
            return Err(NtStatus::INVALID_PARAMETER.into());
        };
        for _ in 0..STRETCH {
            set.map_large(P::Paging::va_of_vpn(*next), self.protection);
            *next = next.checked_add(P::Paging::LARGE_PAGE).unwrap_or(vad.end);
            if *next >= vad.end {
                let region = Region::of_pages::<P::Paging>(vad.start, vad.end);
                self.stage = Stage::Finished;
                return Ok(region);
            }
        }
        Err(Blocked::Restart)
    }

    fn refuse(&mut self, status: NtStatus) -> Result<(), NtStatus> {
        let Stage::Gathering(Gathering { vad, .. }) = &self.stage else { return Err(status) };
        self.stage = Stage::Undoing(ReleaseLargePages::unreached(*vad), status);
        Ok(())
    }

    /// The call is given up between two steps, which is never in the middle of mapping. All frames
    /// go back at once. What else there is goes too, unless that would have to wait: then the range
    /// stays allocated, with nothing in it, until somebody frees it.
    fn give_back(&mut self, manager: &Manager<P>) {
        let mut release = match core::mem::replace(&mut self.stage, Stage::Finished) {
            Stage::Gathering(Gathering { vad, .. }) => ReleaseLargePages::unreached(vad),
            Stage::Undoing(release, _) => release,
            Stage::Start | Stage::Mapping(..) | Stage::Finished => return,
        };
        loop {
            let mut entry = manager.enter();
            let Some(mut set) = manager.lock_space(entry.token(), self.call.space) else { return };
            let outcome = release.advance(&mut set, &mut self.call.pending);
            if !matches!(outcome, Err(Blocked::Restart)) && !release.is_freeing() {
                return;
            }
        }
    }
}

impl<P: Platform> Operation<P> for AllocateLargePages {
    type Output = Region;

    fn step(&mut self, manager: &Manager<P>) -> Step<Region> {
        self.step_stages(manager)
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.end(manager);
    }
}
