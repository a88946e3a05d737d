//! Reads in flight: who waits, what completion does, when the frames are let go
//! (MiWaitForInPageComplete, spec 4.13, 4.14).
//!
//! Completion, which may come at DISPATCH_LEVEL on any processor, only marks the frames and the
//! read's record and wakes. The waiting operations fault again from the top and find
//! transition entries. The record holds a reference on every frame until the last operation
//! that waited has let go: so what was read cannot leave memory before it was used once. When
//! the read failed, letting go gives the entries their page-file form back and frees the frames.

use arrayvec::ArrayVec;
use ntmm_sync::level::{self, Level, Outside, Token};

use super::Blocked;
use crate::events::{Event, FaultKind};
use crate::frames::entry::FrameFlags;
use crate::manager::Manager;
use crate::operation::{Pause, Wait, WaitKey};
use crate::platform::{Engine, Platform};
use crate::status::NtStatus;
use crate::transfer::{LastHolder, Progress, TransferId};

/// Reads an operation may hold at once: one for each level of tables.
const HOLDS: usize = 4;

/// The reads an operation waits for or has waited for.
#[derive(Debug)]
pub(crate) struct Holds {
    reads: ArrayVec<TransferId, HOLDS>,
    waited: Waited,
}

/// Whether the operation had to wait for a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    No,
    Yes,
}

impl Holds {
    /// None.
    pub(crate) const fn new() -> Self {
        Self { reads: ArrayVec::new_const(), waited: Waited::No }
    }

    /// Looks at the reads held: waits for one that is in flight, fails when one failed.
    #[inline]
    pub(crate) fn check<P: Platform>(&self, manager: &Manager<P>) -> Result<(), Pause> {
        if self.reads.is_empty() { Ok(()) } else { self.check_reads(manager) }
    }

    #[inline(never)]
    fn check_reads<P: Platform>(&self, manager: &Manager<P>) -> Result<(), Pause> {
        for &read in &self.reads {
            match manager.read_progress(read) {
                Progress::InFlight => return Err(read.wait().into()),
                Progress::Done(Ok(())) => {}
                Progress::Done(Err(_)) => return Err(NtStatus::IN_PAGE_ERROR.into()),
            }
        }
        Ok(())
    }

    /// How the fault counts: as a page-file fault when it had to wait for a read.
    #[inline]
    pub(crate) fn finished(&self, kind: FaultKind) -> FaultKind {
        match self.waited {
            Waited::Yes => FaultKind::PageFile,
            Waited::No => kind,
        }
    }

    /// Deals with what blocked a step, with no lock held. None: step again at once.
    #[inline(never)]
    pub(crate) fn absorb<P: Platform>(
        &mut self,
        manager: &Manager<P>,
        blocked: Blocked,
    ) -> Option<Pause> {
        let read = match blocked {
            Blocked::Restart => return None,
            Blocked::Prototypes(at) => {
                return match manager.fault_in_prototypes(at, self) {
                    Ok(()) => None,
                    Err(blocked) => self.absorb(manager, blocked),
                };
            }
            Blocked::Pause(pause) => {
                // What was read may be the very memory that is waited for.
                if let Pause::Wait(Wait {
                    key: WaitKey::AvailablePages | WaitKey::Records, ..
                }) = pause
                {
                    self.release(manager);
                }
                return Some(pause);
            }
            Blocked::Collided(read) => read,
            Blocked::Issue(ref read) => read.id,
        };
        self.waited = Waited::Yes;
        if self.reads.is_full() {
            self.release(manager);
        }
        self.reads.push(read);
        if let Blocked::Issue(page_read) = blocked {
            page_read.submit(manager);
        }
        Some(read.wait().into())
    }

    /// Lets go of all reads.
    #[inline]
    pub(crate) fn release<P: Platform>(&mut self, manager: &Manager<P>) {
        if !self.reads.is_empty() {
            self.release_reads(manager);
        }
    }

    #[inline(never)]
    fn release_reads<P: Platform>(&mut self, manager: &Manager<P>) {
        let mut entry = manager.enter();
        for read in self.reads.drain(..) {
            if manager.unhold_read(entry.token(), read) == LastHolder::Yes {
                manager.release_read(entry.token(), read);
            }
        }
    }
}

impl<P: Platform> Manager<P> {
    /// A page read has completed.
    pub(crate) fn complete_read<L: Level + Outside<level::Frame> + Outside<level::List>>(
        &self,
        token: &mut Token<'_, L>,
        id: TransferId,
        result: Result<(), NtStatus>,
    ) {
        let frames = self.transfer_frames(&self.reads, id);
        let status = result.err().unwrap_or(NtStatus::SUCCESS);
        for &pfn in &frames {
            let mut frame = self.lock_frame(token, pfn);
            frame.remove(FrameFlags::READ_IN_PROGRESS);
            if result.is_err() {
                frame.insert(FrameFlags::IN_PAGE_ERROR);
            } else {
                self.clear_header_fields(&frame);
            }
            frame.entry().set_u1(status.code());
        }
        self.counters.page_read_ios.add(1);
        match result {
            Ok(()) => self.counters.pages_read.add(frames.len() as u64),
            Err(_) => self.counters.failed_reads.add(1),
        }
        if P::ENABLED {
            self.platform().event(&Event::PageRead { pages: frames.len() as u32 });
        }
        if self.finish_read(token, id, status) == LastHolder::Yes {
            self.release_read(token, id);
        }
        self.platform().wake(id.wait().key);
        if self.dereference_is_due() {
            self.platform().request(Engine::Dereference);
        }
    }

    /// Drops the references of a completed read that nobody holds any more.
    fn release_read<L: Level + Outside<level::Frame> + Outside<level::List>>(
        &self,
        token: &mut Token<'_, L>,
        id: TransferId,
    ) {
        for pfn in self.transfer_frames(&self.reads, id) {
            let mut frame = self.lock_frame(token, pfn);
            if frame.has(FrameFlags::IN_PAGE_ERROR) && !frame.has(FrameFlags::DELETED) {
                // The page keeps its slot; only the frame goes.
                self.restore_failed_entry(&frame);
                frame.entry().set_original(0);
                frame.insert(FrameFlags::DELETED);
            }
            self.drop_reference(&mut frame);
        }
        self.free_transfer(token, &self.reads, id);
    }
}
