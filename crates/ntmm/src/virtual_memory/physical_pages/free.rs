//! Physical pages given back by a process (NtFreeUserPhysicalPages).

use ntmm_pte::PteWord;

use super::{FrameNumbers, STRETCH};
use crate::address_space::AddressSpaceId;
use crate::fault::Blocked;
use crate::flush::FlushBatch;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::virtual_memory::{Call, Stages};
use crate::working_set::WorkingSetGuard;

/// Gives physical pages back that a process has allocated. Those that are mapped are unmapped
/// first. Yields how many there are.
///
/// Raises [`NtStatus::CONFLICTING_ADDRESSES`] when a number of the list is no page of the process,
/// or occurs twice; all pages stay then.
#[derive(Debug)]
#[must_use]
pub struct FreePhysicalPages<F> {
    call: Call,
    frames: F,
    stage: Stage,
    /// Places of the list whose pages are claimed, or have been given back.
    claimed: usize,
    freed: usize,
}

#[derive(Debug)]
enum Stage {
    Claiming,
    /// All are claimed.
    Freeing,
    /// The list is wrong; claims are taken back.
    Refusing(NtStatus),
}

impl<F: FrameNumbers> FreePhysicalPages<F> {
    /// Gives `frames` back, which `space` owns.
    pub const fn new(space: AddressSpaceId, frames: F) -> Self {
        Self { call: Call::new(space), frames, stage: Stage::Claiming, claimed: 0, freed: 0 }
    }

    fn claim<P: Platform>(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<(), Blocked> {
        let end = self.frames.count().min(self.claimed + STRETCH);
        while self.claimed < end {
            if let Err(status) = set.claim_physical(self.frames.frame(self.claimed)) {
                self.stage = Stage::Refusing(status);
                return Err(Blocked::Restart);
            }
            self.claimed += 1;
        }
        if end < self.frames.count() {
            return Err(Blocked::Restart);
        }
        self.stage = Stage::Freeing;
        Ok(())
    }

    /// Gives a stretch of pages back, in one flush.
    fn free<P: Platform>(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<(), Blocked> {
        let end = self.frames.count().min(self.freed + STRETCH);
        if self.freed == end {
            if self.freed > 0 {
                // Each flush was of the whole space, and all have been waited for.
                set.set_windows_flushed();
            }
            return Ok(());
        }
        let mut batch = FlushBatch::new(set.manager(), set.space());
        batch.take_record()?;
        while self.freed < end {
            if let Some(pfn) = self.frames.frame(self.freed) {
                if let Some(entry) = set.physical_mapping(pfn) {
                    set.unmap_physical(entry, P::Paging::DECOMMITTED);
                }
                set.give_back_physical(&mut batch, pfn);
            }
            self.freed += 1;
        }
        match batch.finish(set.token()) {
            Some(ticket) => Err(self.call.pending.await_flush(ticket).into()),
            None if self.freed < self.frames.count() => Err(Blocked::Restart),
            None => {
                set.set_windows_flushed();
                Ok(())
            }
        }
    }

    /// Takes a stretch of claims back.
    fn refuse<P: Platform>(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        status: NtStatus,
    ) -> Blocked {
        let start = self.claimed.saturating_sub(STRETCH);
        set.disclaim(&self.frames, start..self.claimed);
        self.claimed = start;
        if start > 0 { Blocked::Restart } else { status.into() }
    }
}

impl<F: FrameNumbers, P: Platform> Stages<P> for FreePhysicalPages<F> {
    type Output = usize;

    fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    fn check_parameters(&self) -> Result<(), NtStatus> {
        Ok(())
    }

    fn is_under_way(&self) -> bool {
        self.claimed > 0 || !matches!(self.stage, Stage::Claiming)
    }

    fn proceed(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<usize, Blocked> {
        if matches!(self.stage, Stage::Claiming) {
            self.claim(set)?;
        }
        if let Stage::Refusing(status) = self.stage {
            return Err(self.refuse(set, status));
        }
        self.free(set)?;
        Ok(self.freed)
    }

    fn give_back(&mut self, manager: &Manager<P>) {
        while self.claimed > self.freed {
            let mut entry = manager.enter();
            let Some(mut set) = manager.lock_space(entry.token(), self.call.space) else { return };
            let start = self.freed.max(self.claimed.saturating_sub(STRETCH));
            set.disclaim(&self.frames, start..self.claimed);
            self.claimed = start;
        }
    }
}

impl<F: FrameNumbers, P: Platform> Operation<P> for FreePhysicalPages<F> {
    type Output = usize;

    fn step(&mut self, manager: &Manager<P>) -> Step<usize> {
        self.step_stages(manager)
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.end(manager);
    }
}
