//! Transition faults (MiResolveTransitionFault, spec 4.10): the page is still in memory.

use ntmm_pte::{Dirtiness, PteWord};

use super::{Blocked, Target, TargetKind};
use crate::events::FaultKind;
use crate::frames::entry::FrameFlags;
use crate::frames::{PageLocation, PageReservation};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::working_set::WorkingSetGuard;

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Makes `target` valid, whose entry held the transition word `word`.
    pub(super) fn resolve_transition(
        &mut self,
        target: Target,
        word: u64,
        reservation: &mut PageReservation<'_, P>,
    ) -> Result<FaultKind, Blocked> {
        let manager = self.manager();
        let pfn = P::Paging::transition_pfn(word);
        let protection = P::Paging::software_protection(word);
        let reserved = self.reserve_entry();
        let watches_writes = self.watches_writes();
        let blocked = {
            let mut frame = manager.lock_frame(self.token(), pfn);
            if manager.load_entry(target.entry) != word {
                // The frame was repurposed before it was locked.
                Some(Blocked::Restart)
            } else if frame.has(FrameFlags::READ_IN_PROGRESS) {
                let transfer = frame.entry().u1();
                manager.counters.collided.add(1);
                Some(Blocked::Collided(manager.hold_read(frame.token(), transfer)))
            } else if frame.has(FrameFlags::IN_PAGE_ERROR) {
                Some(NtStatus::IN_PAGE_ERROR.into())
            } else if frame.has(FrameFlags::STALE)
                && let Some(wait) = manager.flush_that_holds(pfn)
            {
                Some(wait.into())
            } else {
                frame.remove(FrameFlags::STALE);
                match frame.location() {
                    PageLocation::Standby => manager.unlink_standby(&mut frame, reservation),
                    PageLocation::Modified | PageLocation::ModifiedNoWrite => {
                        manager.unlink_modified(&mut frame);
                    }
                    _ => {}
                }
                frame.set_location(PageLocation::Active);
                frame.map_first(reserved.index());
                let dirty =
                    frame.has(FrameFlags::MODIFIED) && protection.is_writable() && !watches_writes;
                let dirtiness = if dirty { Dirtiness::Dirty } else { Dirtiness::Clean };
                let valid = target.valid_word::<P>(pfn, protection, dirtiness);
                manager.store_software(target.entry, word, valid);
                None
            }
        };
        if let Some(blocked) = blocked {
            self.release_entry(reserved.index());
            return Err(blocked);
        }
        reserved.fill(target.va);
        // A table that has just been read does not know how many entries it has.
        if target.kind == TargetKind::Table && manager.entry(pfn).used_entries() == 0 {
            manager.entry(pfn).set_used_entries(manager.count_used_entries(pfn));
        }
        Ok(FaultKind::Transition)
    }
}
