//! Flushing a view: what has been written through it is in its file afterwards
//! (NtFlushVirtualMemory, MmFlushVirtualMemory, spec 8.10; API 10).
//!
//! First the dirty bits of the view's own entries are taken over into the frames. What other
//! views have written is known of the pages that have left their working sets. Then the changed
//! pages of the range are written, in runs, and each write is waited for, also those that somebody
//! else has begun.

use ntmm_pte::{Bytes, Pages, PagingMode, PteWord, Va};
use ntmm_sync::atomic::Ordering;

use super::control_area::{ControlAreaFlags, ControlAreaId, Holder};
use crate::address_space::AddressSpaceId;
use crate::fault::Blocked;
use crate::flush::FlushBatch;
use crate::frames::FrameUse;
use crate::manager::Manager;
use crate::operation::{Epoch, Operation, Pause, Step, Wait, WaitKey};
use crate::paging_file::mapped_writer::Taken;
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::transfer::TransferId;
use crate::virtual_memory::range::{MissingTables, RangeWalk, Visited, Visitor};
use crate::virtual_memory::{Call, Region, Stages};
use crate::working_set::WorkingSetGuard;

/// The flushing call. Yields the range, in whole pages.
///
/// Raises [`NtStatus::NOT_MAPPED_VIEW`] where there is no view or the range leaves it,
/// [`NtStatus::NOT_MAPPED_DATA`] for a view that has no file, and what a failed write ended with:
/// the pages are modified then and written again later.
#[derive(Debug)]
#[must_use]
pub struct FlushView {
    capture: Capturing,
    write: Option<Writing>,
    region: Option<Region>,
}

/// Taking over the dirty bits of the view's entries.
#[derive(Debug)]
struct Capturing {
    call: Call,
    base: Va,
    size: Bytes,
    under_way: Option<(RangeWalk, Writing, Region)>,
}

/// Writing the changed pages of a section.
#[derive(Clone, Copy, Debug)]
struct Writing {
    area: ControlAreaId,
    next: u64,
    end: u64,
    in_flight: Option<TransferId>,
}

impl FlushView {
    /// Flushes what `size` bytes at `base` of `space` touch; zero bytes for all up to the end of
    /// the view.
    pub const fn new(space: AddressSpaceId, base: Va, size: Bytes) -> Self {
        let capture = Capturing { call: Call::new(space), base, size, under_way: None };
        Self { capture, write: None, region: None }
    }
}

/// Takes over the dirty bits of entries.
struct Capture;

impl<P: Platform> Visitor<P> for Capture {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        let Visited::Entry { entry, word, page } = visited else { return Ok(()) };
        if !P::Paging::is_valid(word) {
            return Ok(());
        }
        let manager = set.manager();
        let mut frame = manager.lock_frame(set.token(), P::Paging::valid_pfn(word));
        if frame.state().usage() != FrameUse::Section {
            return Ok(());
        }
        let mut seen = word;
        while let Err(actual) = manager.exchange_entry(entry, seen, P::Paging::clear_dirty(seen)) {
            // Only the hardware can have changed it: an accessed or dirty bit.
            seen = actual;
        }
        manager.capture_dirty_of_shared(&mut frame, seen);
        drop(frame);
        batch.push_page(P::Paging::va_of_vpn(page));
        Ok(())
    }
}

impl<P: Platform> Stages<P> for Capturing {
    type Output = (Writing, Region);

    fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    fn check_parameters(&self) -> Result<(), NtStatus> {
        let rest = self.size.checked_sub(Bytes::new(1)).unwrap_or(Bytes::new(0));
        let last = self.base.checked_add(rest).filter(|&last| P::Paging::is_user(last));
        if last.is_some() { Ok(()) } else { Err(NtStatus::INVALID_PARAMETER_2) }
    }

    fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    fn proceed(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
    ) -> Result<(Writing, Region), Blocked> {
        let manager = set.manager();
        let (walk, writing, region) = match &mut self.under_way {
            Some(under_way) => under_way,
            none => {
                let start = self.base.vpn();
                let vad = set.find_vad(start).ok_or(NtStatus::NOT_MAPPED_VIEW)?;
                let view = vad.attributes.view.ok_or(NtStatus::NOT_MAPPED_VIEW)?;
                let end = match self.size.checked_sub(Bytes::new(1)) {
                    None => vad.end,
                    Some(rest) => self.base.checked_add(rest).unwrap_or(self.base).vpn(),
                };
                if end > vad.end {
                    return Err(NtStatus::NOT_MAPPED_VIEW.into());
                }
                let area = manager.control_area(view.area);
                let state = area.state();
                if !state.contains(ControlAreaFlags::FILE)
                    || state.contains(ControlAreaFlags::IMAGE)
                {
                    return Err(NtStatus::NOT_MAPPED_DATA.into());
                }
                area.add_view(Holder::System);
                area.view().word(3).fetch_add(1 << 32, Ordering::AcqRel);
                let writing = Writing {
                    area: view.area,
                    next: view.page_of(&vad, start).get(),
                    end: view.page_of(&vad, end).get(),
                    in_flight: None,
                };
                let region = Region::of_pages::<P::Paging>(start, end);
                none.insert((RangeWalk::new(start, end), writing, region))
            }
        };
        let outcome = (*writing, *region);
        let pending = &mut self.call.pending;
        set.walk_stretch(pending, walk, MissingTables::Skip, &mut Capture)?;
        self.under_way = None;
        Ok(outcome)
    }

    fn give_back(&mut self, manager: &Manager<P>) {
        if let Some((_, writing, _)) = self.under_way.take() {
            writing.end(manager);
        }
    }
}

impl Writing {
    /// The flush is over.
    fn end<P: Platform>(self, manager: &Manager<P>) {
        let area = manager.control_area(self.area);
        area.view().word(3).fetch_sub(1 << 32, Ordering::AcqRel);
        manager.drop_view(self.area, Holder::System);
    }

    /// Writes on; done when all pages of the range have been.
    fn proceed<P: Platform>(&mut self, manager: &Manager<P>) -> Result<(), Blocked> {
        loop {
            let wait = Wait { key: WaitKey::Sections, epoch: Epoch(manager.sections.epoch().0) };
            if let Some(id) = self.in_flight {
                if manager.transfer_in_flight(&manager.writes, id) {
                    return Err(wait.into());
                }
                self.in_flight = None;
            }
            if self.next > self.end {
                return self.outcome(manager).map_err(Into::into);
            }
            self.write_next(manager, wait)?;
        }
    }

    /// What a write of the section has failed with since it was last asked for.
    fn outcome<P: Platform>(&self, manager: &Manager<P>) -> Result<(), NtStatus> {
        let status = manager.control_area(self.area).view().word(15).swap(0, Ordering::AcqRel);
        match status {
            0 => Ok(()),
            status => Err(NtStatus::new(status as u32)),
        }
    }

    /// Looks at the next page, and writes it with those that follow, if it has been changed.
    fn write_next<P: Platform>(&mut self, manager: &Manager<P>, wait: Wait) -> Result<(), Blocked> {
        let page = Pages::new(self.next);
        let Some(prototype) = manager.find_prototype(self.area, page) else {
            self.next = self.end + 1;
            return Ok(());
        };
        let mut entry = manager.enter();
        let held = manager.hold_prototype(entry.token(), prototype.at)?;
        let Some(pfn) = P::Paging::resident_pfn(manager.load_entry(held.entry())) else {
            self.next += 1;
            return Ok(());
        };
        let Some(id) = manager.allocate_transfer(entry.token(), &manager.writes) else {
            return Err(manager.record_wait().into());
        };
        let taken = manager.take_changed(entry.token(), pfn, held.entry());
        if taken != Taken::Yes {
            manager.free_transfer(entry.token(), &manager.writes, id);
            if taken == Taken::Busy {
                return Err(wait.into());
            }
            self.next += 1;
            return Ok(());
        }
        let run = manager.run_from(entry.token(), held.entry(), pfn, |manager, token, pfn, at| {
            manager.take_changed(token, pfn, at) == Taken::Yes
        });
        self.next += run.pages();
        self.in_flight = Some(id);
        drop(held);
        drop(entry);
        manager.submit_file_run(id, &run);
        Ok(())
    }
}

impl<P: Platform> Operation<P> for FlushView {
    type Output = Region;

    fn step(&mut self, manager: &Manager<P>) -> Step<Region> {
        if self.write.is_none() {
            match self.capture.step_stages(manager) {
                Step::Done((writing, region)) => {
                    self.write = Some(writing);
                    self.region = Some(region);
                }
                Step::Wait(wait) => return Step::Wait(wait),
                Step::Raise(status) => return Step::Raise(status),
            }
        }
        let (Some(writing), Some(region)) = (&mut self.write, self.region) else {
            return Step::Raise(NtStatus::INVALID_PARAMETER);
        };
        let outcome = loop {
            let blocked = match writing.proceed(manager) {
                Ok(()) => break Ok(region),
                Err(blocked) => blocked,
            };
            match self.capture.call.pending.holds.absorb(manager, blocked) {
                None => {}
                Some(Pause::Wait(wait)) => return Step::Wait(wait),
                Some(Pause::Raise(status)) => break Err(status),
            }
        };
        self.finish(manager);
        match outcome {
            Ok(region) => Step::Done(region),
            Err(status) => Step::Raise(status),
        }
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.finish(manager);
        Stages::<P>::end(&mut self.capture, manager);
    }
}

impl FlushView {
    fn finish<P: Platform>(&mut self, manager: &Manager<P>) {
        self.capture.call.pending.holds.release(manager);
        if let Some(writing) = self.write.take() {
            writing.end(manager);
        }
    }
}
