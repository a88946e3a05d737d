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

/// What came of taking a page.
enum Taken {
    Page(Pfn),
    /// Memory is short.
    Nothing,
    /// There are pages, and somebody else is at their lists.
    Busy,
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// Takes one page for the process.
    fn take_physical(&mut self) -> Taken {
        let (manager, header, owner) = (self.manager(), self.header(), self.list());
        let available = &manager.available;
        if available.unreserved() <= available.thresholds().plenty {
            return Taken::Nothing;
        }
        let Ok(charge) = manager.charge_commitment(Pages::ONE) else { return Taken::Nothing };
        let Some(mut reservation) = manager.try_reserve_pages(1) else { return Taken::Nothing };
        let (color, usage) = (self.next_color(), FrameUse::UserPhysical);
        match manager.take_unused_frame(self.token(), &mut reservation, color, usage) {
            Some(frame) => {
                charge.keep();
                Taken::Page(manager.adopt_physical(header, owner, frame))
            }
            None if manager.has_unused_frames() => Taken::Busy,
            None => Taken::Nothing,
        }
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
                Taken::Page(pfn) => *place = pfn,
                Taken::Nothing if self.granted == 0 => {
                    return Err(NtStatus::INSUFFICIENT_RESOURCES.into());
                }
                Taken::Nothing => return Ok(self.granted),
                Taken::Busy => {
                    set.manager().platform().relax();
                    return Err(Blocked::Restart);
                }
            }
            self.granted += 1;
        }
        if self.granted < self.room.len() { Err(Blocked::Restart) } else { Ok(self.granted) }
    }
}

impl<P: Platform> Operation<P> for AllocatePhysicalPages<'_> {
    type Output = usize;

    fn step(&mut self, manager: &Manager<P>) -> Step<usize> {
        let step = self.step_stages(manager);
        if let Step::Done(_) = step {
            // However many there are, no lock is held.
            self.numbers().sort_unstable();
        }
        step
    }

    /// It waits only before it has taken a page.
    fn abandon(mut self, manager: &Manager<P>) {
        self.end(manager);
    }
}
