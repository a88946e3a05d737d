//! Physical pages of a process put into its windows and taken out again (NtMapUserPhysicalPages,
//! NtMapUserPhysicalPagesScatter).
//!
//! First every address and every page of the lists is looked at, and each page claimed; from then
//! on only a page table that cannot be read can stop the call. What it has mapped by then is
//! unmapped, as if the call had been made without pages.
//!
//! A call that unmaps a run of pages names no page and so may be about any number of addresses: it
//! passes over those without tables, and returns to its caller between stretches.

use ntmm_pte::{Level, Pages, PagingMode, PteWord, Va, Vpn};

use super::{FrameNumbers, Replaced, Rest, STRETCH, WindowAddresses};
use crate::address_space::AddressSpaceId;
use crate::fault::{Blocked, Holds};
use crate::flush::{FlushBatch, NAMED_PAGES};
use crate::manager::Manager;
use crate::operation::{Operation, Pause, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::tables::{EntryRef, Walk};
use crate::vad::{Vad, VadKind};
use crate::virtual_memory::range::last_page_of;
use crate::virtual_memory::{Call, Stages};
use crate::working_set::WorkingSetGuard;
use arrayvec::ArrayVec;

/// Maps pages of a process into windows in place of what is mapped there, or unmaps what is
/// there.
///
/// Raises [`NtStatus::INVALID_PARAMETER_1`] when the addresses are not in a window, the addresses
/// of a run all in the same; [`NtStatus::CONFLICTING_ADDRESSES`] when a frame is no page of the
/// process, is named twice, or is mapped elsewhere: at an address that is not its own in the list,
/// or not in the run. Nothing changes then.
#[derive(Debug)]
#[must_use]
pub struct MapPhysicalPages<A, F> {
    call: Call,
    places: Places<A>,
    frames: Option<F>,
    stage: Stage,
    /// Places whose pages are claimed, or have been mapped or unmapped.
    checked: usize,
    done: usize,
    stale: Stale,
    scope: Scope,
}

/// What is flushed at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// What the call has taken away.
    Own,
    /// The whole space: a call before left it stale.
    Space,
}

/// Where pages are mapped.
#[derive(Debug)]
enum Places<A> {
    Run { base: Va, count: usize },
    List(A),
}

#[derive(Debug)]
enum Stage {
    Checking,
    /// All is in order.
    Changing,
    /// Only the flush is left.
    Flushing,
    /// The call fails; claims and mappings are taken back.
    Refusing(NtStatus),
}

/// Addresses whose translations have to be flushed: one more than are flushed by name, for then
/// it does not matter which.
type Stale = ArrayVec<Va, { NAMED_PAGES + 1 }>;

impl<A: WindowAddresses, F: FrameNumbers> MapPhysicalPages<A, F> {
    /// Maps `frames` at successive pages from that of `base` on, in one window.
    pub fn at(space: AddressSpaceId, base: Va, frames: F) -> Self {
        let count = frames.count();
        Self::new(space, Places::Run { base, count }, Some(frames))
    }

    /// Unmaps `pages` pages from that of `base` on, which lie in one window.
    pub fn unmap_at(space: AddressSpaceId, base: Va, pages: usize) -> Self {
        Self::new(space, Places::Run { base, count: pages }, None)
    }

    /// Maps each of `frames` at the address in its place of `addresses`; what one list has more
    /// than the other is ignored.
    pub fn scattered(space: AddressSpaceId, addresses: A, frames: F) -> Self {
        Self::new(space, Places::List(addresses), Some(frames))
    }

    /// Unmaps the pages at `addresses`.
    pub fn unmap_scattered(space: AddressSpaceId, addresses: A) -> Self {
        Self::new(space, Places::List(addresses), None)
    }

    fn new(space: AddressSpaceId, places: Places<A>, frames: Option<F>) -> Self {
        Self {
            call: Call::new(space),
            places,
            frames,
            stage: Stage::Checking,
            checked: 0,
            done: 0,
            stale: Stale::new(),
            scope: Scope::Own,
        }
    }

    /// Whether the call unmaps a run of pages.
    const fn unmaps_run(&self) -> bool {
        self.frames.is_none() && matches!(self.places, Places::Run { .. })
    }

    fn count(&self) -> usize {
        let places = match &self.places {
            Places::Run { count, .. } => *count,
            Places::List(addresses) => addresses.count(),
        };
        self.frames.as_ref().map_or(places, |frames| places.min(frames.count()))
    }

    /// The page at a place.
    fn page<M: PagingMode>(&self, place: usize) -> Result<Vpn, NtStatus> {
        let page = match &self.places {
            Places::Run { base, .. } => base.vpn().checked_add(Pages::new(place as u64)),
            Places::List(addresses) => addresses.address(place).map(Va::vpn),
        };
        let user = page.filter(|&page| page <= M::HIGHEST_USER_ADDRESS.vpn());
        user.ok_or(NtStatus::INVALID_PARAMETER_1)
    }

    /// Whether a page that is mapped at `mapped` may be mapped at a place, since the call takes
    /// it away from there.
    fn replaces<M: PagingMode>(&self, place: usize, mapped: Vpn) -> bool {
        match &self.places {
            Places::Run { base, count } => {
                let number = mapped.get().checked_sub(base.vpn().get());
                number.is_some_and(|number| number < *count as u64)
            }
            Places::List(_) => self.page::<M>(place) == Ok(mapped),
        }
    }

    /// Checks a stretch of places and claims their pages.
    fn check<P: Platform>(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<(), Blocked> {
        let end = self.count().min(self.checked + STRETCH);
        let mut window = None;
        if self.unmaps_run() && end > 0 {
            // With its first page the whole run is checked.
            self.check_place(set, &mut window, 0)?;
            self.checked = self.count();
            self.stage = Stage::Changing;
            return Ok(());
        }
        while self.checked < end {
            if let Err(status) = self.check_place(set, &mut window, self.checked) {
                self.stage = Stage::Refusing(status);
                return Err(Blocked::Restart);
            }
        }
        if end < self.count() {
            return Err(Blocked::Restart);
        }
        self.stage = Stage::Changing;
        Ok(())
    }

    /// Checks a place, whose window may be the one looked up last.
    fn check_place<P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        window: &mut Option<Vad>,
        place: usize,
    ) -> Result<(), NtStatus> {
        let page = self.page::<P::Paging>(place)?;
        let inside = window.filter(|vad| vad.start <= page && page <= vad.end);
        let vad = inside.or_else(|| set.find_vad(page));
        let vad = vad.filter(|vad| vad.attributes.kind == VadKind::AddressWindow);
        let vad = vad.ok_or(NtStatus::INVALID_PARAMETER_1)?;
        if let Places::Run { .. } = self.places
            && vad.end < self.page::<P::Paging>(self.count() - 1)?
        {
            return Err(NtStatus::INVALID_PARAMETER_1);
        }
        *window = Some(vad);
        if let Some(frames) = &self.frames {
            let pfn = set.claim_physical(frames.frame(place))?;
            self.checked = place + 1;
            if let Some(entry) = set.physical_mapping(pfn)
                && !self.replaces::<P::Paging>(place, set.address_of(entry).vpn())
            {
                return Err(NtStatus::CONFLICTING_ADDRESSES);
            }
        }
        self.checked = place + 1;
        Ok(())
    }

    /// Maps or unmaps a stretch of pages.
    fn change<P: Platform>(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<(), Blocked> {
        let count = self.count();
        for _ in 0..STRETCH {
            if self.done >= count {
                return Ok(());
            }
            let page = self.page::<P::Paging>(self.done)?;
            let va = P::Paging::va_of_vpn(page);
            let mut last = page;
            match self.frames.as_ref().and_then(|frames| frames.frame(self.done)) {
                None => last = self.unmap(set, va),
                Some(pfn) => {
                    let entry = set.window_entry(va, &mut self.call.pending.holds)?;
                    if let Some(other) = set.physical_mapping(pfn).filter(|&at| at != entry) {
                        self.note(set.address_of(other));
                        set.unmap_physical(other, P::Paging::DECOMMITTED);
                    }
                    if set.map_physical(entry, pfn) == Replaced::Page {
                        self.note(va);
                    }
                }
            }
            self.done = if self.unmaps_run() {
                let passed = (last.get() - page.get() + 1) as usize;
                count.min(self.done.saturating_add(passed))
            } else {
                self.done + 1
            };
        }
        if self.done >= count {
            Ok(())
        } else if self.unmaps_run() {
            Err(set.wait_for_nothing().into())
        } else {
            Err(Blocked::Restart)
        }
    }

    /// Takes the page out that is mapped at `va`, if there is one. A table that is not in memory
    /// maps none. The answer is the last page from `va` on that is certainly not mapped.
    fn unmap<P: Platform>(&mut self, set: &mut WorkingSetGuard<'_, '_, P>, va: Va) -> Vpn {
        let manager = set.manager();
        match manager.walk(set.root(), va, Level::Table) {
            Walk::Found(entry) => {
                if P::Paging::is_valid(manager.load_entry(entry)) {
                    set.unmap_physical(entry, P::Paging::DECOMMITTED);
                    self.note(va);
                }
                va.vpn()
            }
            Walk::Missing { level, .. } => {
                last_page_of(P::Paging::span_base(va, level), P::Paging::span(level))
            }
            Walk::Large(_) => manager.corrupt_entry(va),
        }
    }

    /// The translation of `va` has to be flushed.
    fn note(&mut self, va: Va) {
        // When there is no room everything is flushed anyway.
        let _ = self.stale.try_push(va);
    }

    /// Takes back a stretch of what the call has done, which fails.
    fn undo<P: Platform>(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Rest {
        if self.frames.is_none() {
            // What is unmapped stays so, and nothing is claimed.
            (self.done, self.checked) = (0, 0);
            return Rest::None;
        }
        let start = self.done.saturating_sub(STRETCH);
        for place in start..self.done {
            if let Ok(page) = self.page::<P::Paging>(place) {
                self.unmap(set, P::Paging::va_of_vpn(page));
            }
        }
        if self.done > 0 {
            self.done = start;
            return Rest::Some;
        }
        let start = self.checked.saturating_sub(STRETCH);
        if let Some(frames) = &self.frames {
            set.disclaim(frames, start..self.checked);
        }
        self.checked = start;
        if start > 0 { Rest::Some } else { Rest::None }
    }

    /// Starts the flush of what the call has taken away, and of what calls before it have left;
    /// says what to wait for. With nothing left to wait for the space is no longer stale.
    fn flush<P: Platform>(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<(), Blocked> {
        let mut batch = FlushBatch::new(set.manager(), set.space());
        for va in self.stale.drain(..) {
            batch.push_page(va);
        }
        if self.scope == Scope::Space {
            batch.push_space();
            self.scope = Scope::Own;
        }
        match batch.finish(set.token()) {
            Some(ticket) => Err(self.call.pending.await_flush(ticket).into()),
            None => {
                set.set_windows_flushed();
                Ok(())
            }
        }
    }
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// The entry of a page of a window; its tables are brought or made.
    fn window_entry(&mut self, va: Va, holds: &mut Holds) -> Result<EntryRef, Blocked> {
        match self.manager().walk(self.root(), va, Level::Table) {
            Walk::Found(entry) => Ok(entry),
            Walk::Missing { .. } | Walk::Large(_) => self.descend(va, holds, &mut None, |_| Ok(())),
        }
    }
}

impl<A: WindowAddresses, F: FrameNumbers, P: Platform> Stages<P> for MapPhysicalPages<A, F> {
    type Output = ();

    fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    fn check_parameters(&self) -> Result<(), NtStatus> {
        Ok(())
    }

    fn is_under_way(&self) -> bool {
        self.checked > 0 || !matches!(self.stage, Stage::Checking)
    }

    fn proceed(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<(), Blocked> {
        if matches!(self.stage, Stage::Checking) {
            if set.windows_are_stale() {
                // This call has changed nothing yet, so others did.
                self.scope = Scope::Space;
            }
            self.check(set)?;
        }
        if matches!(self.stage, Stage::Changing) {
            match self.change(set) {
                Ok(()) => self.stage = Stage::Flushing,
                Err(Blocked::Pause(Pause::Raise(status))) => self.stage = Stage::Refusing(status),
                Err(blocked) => return Err(blocked),
            }
        }
        if let Stage::Refusing(status) = self.stage {
            if self.undo(set) == Rest::Some {
                return Err(Blocked::Restart);
            }
            self.flush(set)?;
            return Err(status.into());
        }
        self.flush(set)
    }

    /// A table could not be read, or the call is given up.
    fn give_back(&mut self, manager: &Manager<P>) {
        while !matches!(self.stage, Stage::Flushing) && self.checked > 0 {
            let mut entry = manager.enter();
            let Some(mut set) = manager.lock_space(entry.token(), self.call.space) else { return };
            if self.undo(&mut set) == Rest::None {
                // Nobody waits for it. The space stays marked, so that the next call here waits
                // for a flush of its own, and so does whoever gives a page back.
                let _ = self.flush(&mut set);
            }
        }
    }
}

impl<A: WindowAddresses, F: FrameNumbers, P: Platform> Operation<P> for MapPhysicalPages<A, F> {
    type Output = ();

    fn step(&mut self, manager: &Manager<P>) -> Step<()> {
        self.step_stages(manager)
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.end(manager);
    }
}
