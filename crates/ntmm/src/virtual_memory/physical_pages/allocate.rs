//! Physical pages allocated by a process (NtAllocateUserPhysicalPages).

use ntmm_pte::{Pages, Pfn};

use super::STRETCH;
use crate::address_space::AddressSpaceId;
use crate::fault::Blocked;
use crate::frames::FrameUse;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::virtual_memory::{Call, Stages};
use crate::working_set::WorkingSetGuard;

/// Gives a process zeroed physical pages, as many as there is room for their numbers, or fewer when
/// memory is short. Yields how many; their numbers ascend.
///
/// The pages come off the zeroed and free lists, and as many available pages are left as there
/// have to be for memory not to be short (MmPlentyFreePages).
///
/// Raises [`NtStatus::INSUFFICIENT_RESOURCES`] when there is not one.
#[derive(Debug)]
#[must_use]
pub struct AllocatePhysicalPages<'b> {
    call: Call,
    room: &'b mut [Pfn],
    granted: usize,
}

impl<'b> AllocatePhysicalPages<'b> {
    /// Gives pages to `space` and stores their numbers in `room`.
    pub const fn new(space: AddressSpaceId, room: &'b mut [Pfn]) -> Self {
        Self { call: Call::new(space), room, granted: 0 }
    }

    /// The numbers of the pages granted so far.
    fn numbers(&mut self) -> &mut [Pfn] {
        self.room.get_mut(..self.granted).unwrap_or_default()
    }
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Takes one page for the process; none when memory is short.
    fn take_physical(&mut self) -> Option<Pfn> {
        let manager = self.manager();
        let available = &manager.available;
        if available.unreserved() <= available.thresholds().plenty {
            return None;
        }
        let charge = manager.charge_commitment(Pages::ONE).ok()?;
        let mut reservation = manager.try_reserve_pages(1)?;
        let (color, usage) = (self.next_color(), FrameUse::UserPhysical);
        let pfn = manager.take_unused_frame(self.token(), &mut reservation, color, usage)?.pfn();
        charge.keep();
        self.adopt_physical(pfn);
        Some(pfn)
    }
}

impl<P: Platform> Stages<P> for AllocatePhysicalPages<'_> {
    type Output = usize;

    fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    fn check_parameters(&self) -> Result<(), NtStatus> {
        Ok(())
    }

    fn is_under_way(&self) -> bool {
        self.granted > 0
    }

    fn proceed(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<usize, Blocked> {
        for _ in 0..STRETCH {
            let Some(place) = self.room.get_mut(self.granted) else { break };
            match set.take_physical() {
                Some(pfn) => *place = pfn,
                None if self.granted == 0 => {
                    return Err(NtStatus::INSUFFICIENT_RESOURCES.into());
                }
                None => {
                    self.numbers().sort_unstable();
                    return Ok(self.granted);
                }
            }
            self.granted += 1;
        }
        if self.granted < self.room.len() {
            return Err(Blocked::Restart);
        }
        self.numbers().sort_unstable();
        Ok(self.granted)
    }
}

impl<P: Platform> Operation<P> for AllocatePhysicalPages<'_> {
    type Output = usize;

    fn step(&mut self, manager: &Manager<P>) -> Step<usize> {
        self.step_stages(manager)
    }

    /// It waits only before it has taken a page.
    fn abandon(mut self, manager: &Manager<P>) {
        self.end(manager);
    }
}
