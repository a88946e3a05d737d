//! Demand-zero faults (MiResolveDemandZeroFault, spec 4.8): a page, or a page table, that has
//! never held anything.

use ntmm_pte::{Dirtiness, Pages, Protection, PteWord};

use super::{Blocked, Target, TargetKind};
use crate::events::FaultKind;
use crate::frames::PageReservation;
use crate::frames::entry::FrameFlags;
use crate::frames::take::Want;
use crate::platform::Platform;
use crate::working_set::WorkingSetGuard;

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Gives `target`, whose entry holds `word`, a zeroed frame.
    pub(super) fn resolve_demand_zero(
        &mut self,
        target: Target,
        word: u64,
        protection: Protection,
        reservation: &mut PageReservation<'_, P>,
    ) -> Result<FaultKind, Blocked> {
        let manager = self.manager();
        let protection = target.protection(protection);
        let usage = target.kind.usage();
        let reserved = self.reserve_entry();
        let color = self.next_color();
        let watches_writes = self.watches_writes();
        {
            let mut frame =
                manager.take_frame(self.token(), reservation, color, Want::Zeroed, usage);
            // The contents exist nowhere else.
            frame.insert(FrameFlags::MODIFIED);
            frame.entry().set_original(P::Paging::demand_zero(protection));
            frame.entry().set_container(target.entry.table, target.entry.slot);
            frame.map_first(reserved.index());
            let dirty = protection.is_writable() && !watches_writes;
            let dirtiness = if dirty { Dirtiness::Dirty } else { Dirtiness::Clean };
            let valid = target.valid_word::<P>(frame.pfn(), protection, dirtiness);
            manager.store_software(target.entry, word, valid);
        }
        manager.entry(target.entry.table).add_share(1);
        reserved.fill(target.va);
        if target.kind != TargetKind::Table {
            self.count_private(Pages::new(1), Pages::new(0));
        }
        Ok(FaultKind::DemandZero)
    }
}
