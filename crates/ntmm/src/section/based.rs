//! Based sections, whose views lie at one address in every process (SEC_BASED, spec 8.4; API 11.4).
//!
//! The address is chosen when the section is made: below those of the based sections there are, the
//! highest hole that is large enough. Section objects that have one are chained from the highest
//! address to the lowest, under the lock of the sections.

use ntmm_pte::mode::LOWEST_USER_ADDRESS;
use ntmm_pte::{ALLOCATION_GRANULARITY, PagingMode};
use ntmm_sync::atomic::Ordering;

use super::SectionGuard;
use super::records::NO_RECORD;
use crate::platform::Platform;
use crate::status::NtStatus;

/// What `size` bytes take of an address space.
const fn room(size: u64) -> u64 {
    size.saturating_add(ALLOCATION_GRANULARITY - 1) & !(ALLOCATION_GRANULARITY - 1)
}

impl<P: Platform> SectionGuard<'_, '_, P> {
    /// The based section with the next lower address than `object`; the highest for none.
    fn next_based(&self, object: Option<u32>) -> Option<u32> {
        let manager = self.manager();
        let next = match object {
            None => manager.sections.based.load(Ordering::Relaxed),
            Some(object) => manager.section_object(object).next_based(),
        };
        (next != NO_RECORD).then_some(next)
    }

    fn link_based(&mut self, object: Option<u32>, next: u32) {
        let manager = self.manager();
        match object {
            None => manager.sections.based.store(next, Ordering::Relaxed),
            Some(object) => manager.section_object(object).set_next_based(next),
        }
    }

    /// Gives the section object `object` an address for `size` bytes.
    pub(super) fn choose_base(&mut self, object: u32, size: u64) -> Result<(), NtStatus> {
        let manager = self.manager();
        let mut ceiling = P::Paging::HIGHEST_VAD_ADDRESS.get() + 1;
        ceiling -= ceiling % ALLOCATION_GRANULARITY;
        let mut above = None;
        loop {
            let below = self.next_based(above);
            let floor = below.map_or(LOWEST_USER_ADDRESS.get(), |below| {
                let below = manager.section_object(below);
                below.base().saturating_add(room(below.size()))
            });
            if let Some(base) = ceiling.checked_sub(room(size)).filter(|&base| base >= floor) {
                let record = manager.section_object(object);
                record.set_base(base);
                record.set_size(size);
                record.set_next_based(below.unwrap_or(NO_RECORD));
                self.link_based(above, object);
                return Ok(());
            }
            let Some(below) = below else { return Err(NtStatus::NO_MEMORY) };
            ceiling = manager.section_object(below).base();
            above = Some(below);
        }
    }

    /// Gives the record of a section object back, and its address if it has one.
    pub(super) fn give_object(&mut self, object: u32) {
        let manager = self.manager();
        if manager.section_object(object).base() != 0 {
            let mut above = None;
            while let Some(next) = self.next_based(above) {
                if next == object {
                    self.link_based(above, manager.section_object(object).next_based());
                    break;
                }
                above = Some(next);
            }
        }
        self.give_record(&manager.sections.objects, object);
    }
}
