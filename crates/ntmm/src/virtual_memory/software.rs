//! Memory of a space that no processor is running in: read, written and copied by software.
//!
//! What an emulator, a debugger or the calls on another process's memory need. A page is found
//! through the tables of its space as a processor would find it, with the faults that takes, and
//! the bits a processor leaves behind are left: accessed, and dirty for a write, so that ageing,
//! the modified-page writer and write watches see the access. The bytes move while the
//! working-set lock of the one space is held, which keeps the page where it is; a copy between
//! spaces goes through a small buffer, for two such locks are never held at once.

use ntmm_pte::{AccessKind, Bytes, Level, PAGE_SIZE, PagingMode, PteWord, Va};
use ntmm_sync::atomic::Ordering;
use ntmm_sync::frame::{FrameWords, WordIndex, word};

use crate::address_space::AddressSpaceId;
use crate::fault::{Fault, ProcessorMode};
use crate::manager::Manager;
use crate::operation::{Operation, Pause, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::tables::{PageSize, Walk};
use crate::working_set::WorkingSetGuard;

mod copy;

pub use copy::{Copied, CopyMemory, MemoryAt, Side, Stop};

/// How far an access came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accessed {
    /// Bytes that were read or written, from the start on.
    pub bytes: Bytes,
    /// Success, or what the first byte after them raised.
    pub status: NtStatus,
}

/// The accesses of one operation to the pages of a space, one after the other.
#[derive(Debug, Default)]
pub(crate) struct PageAccess {
    fault: Option<Fault>,
}

impl PageAccess {
    /// Makes the page at `va` accessible and does something under its working-set lock. Raises
    /// what the access would raise in a program; a guard is taken off the page then.
    pub(crate) fn access<P: Platform, T>(
        &mut self,
        manager: &Manager<P>,
        space: AddressSpaceId,
        va: Va,
        kind: AccessKind,
        action: impl FnOnce(&mut WorkingSetGuard<'_, '_, P>, &FrameWords) -> T,
    ) -> Result<T, Pause> {
        loop {
            if let Some(fault) = &mut self.fault {
                let step = fault.step(manager);
                if let Step::Wait(wait) = step {
                    return Err(wait.into());
                }
                self.fault = None;
                if let Step::Raise(status) = step {
                    return Err(status.into());
                }
            }
            {
                let mut entry = manager.enter();
                let mut set = manager.lock_live_space(entry.token(), space)?;
                if let Some(frame) = set.accessible(va, kind) {
                    return Ok(action(&mut set, frame));
                }
            }
            self.fault = Some(Fault::new(space, va, kind, ProcessorMode::Kernel));
        }
    }

    /// Gives back what an unfinished access holds.
    pub(crate) fn abandon<P: Platform>(self, manager: &Manager<P>) {
        if let Some(fault) = self.fault {
            fault.abandon(manager);
        }
    }
}

impl<'m, P: Platform> WorkingSetGuard<'m, '_, P> {
    /// The frame of the page at `va`, if it can be accessed without a fault; the entry is marked
    /// as a processor marks it.
    fn accessible(&self, va: Va, kind: AccessKind) -> Option<&'m FrameWords> {
        let manager = self.manager();
        if !P::Paging::is_user(va) {
            return None;
        }
        let (entry, size) = match manager.walk(self.root(), va, Level::Table) {
            Walk::Found(entry) => (entry, PageSize::Small),
            Walk::Large(entry) => (entry, PageSize::Large),
            Walk::Missing { .. } => return None,
        };
        let mut word = manager.load_entry(entry);
        loop {
            let allowed = match kind {
                AccessKind::Read => true,
                AccessKind::Write => P::Paging::is_writable(word),
                AccessKind::Execute => P::Paging::is_executable(word),
            };
            if !P::Paging::is_valid(word) || !allowed {
                return None;
            }
            let seen = P::Paging::set_accessed(word);
            let marked = if kind == AccessKind::Write { P::Paging::set_dirty(seen) } else { seen };
            match manager.exchange_entry(entry, word, marked) {
                Ok(()) => {
                    let pfn = match size {
                        PageSize::Small => P::Paging::valid_pfn(word),
                        PageSize::Large => P::Paging::frame_in_large_page(word, va),
                    };
                    return Some(manager.platform().frame(pfn));
                }
                // A processor has marked it too.
                Err(actual) => word = actual,
            }
        }
    }
}

/// Bytes from `va` to the end of its page.
fn to_page_end(va: Va) -> usize {
    PAGE_SIZE as usize - usize::from(va.page_offset())
}

/// Reads bytes of a frame from `offset` on, at most to its end.
fn read_frame(frame: &FrameWords, offset: usize, mut bytes: &mut [u8]) {
    let mut at = offset;
    while let Some((now, later)) = bytes.split_at_mut_checked((8 - at % 8).min(bytes.len())) {
        if now.is_empty() {
            return;
        }
        let value = word(frame, WordIndex::wrapping(at / 8)).load(Ordering::Relaxed);
        for (byte, from) in now.iter_mut().zip(value.to_le_bytes().into_iter().skip(at % 8)) {
            *byte = from;
        }
        at += now.len();
        bytes = later;
    }
}

/// Writes bytes of a frame from `offset` on, at most to its end. Bytes beside them may be written
/// at the same time by others.
fn write_frame(frame: &FrameWords, offset: usize, mut bytes: &[u8]) {
    let mut at = offset;
    while let Some((now, later)) = bytes.split_at_checked((8 - at % 8).min(bytes.len())) {
        if now.is_empty() {
            return;
        }
        let (mut value, mut mask) = ([0; 8], [0; 8]);
        let places = value.iter_mut().zip(&mut mask).skip(at % 8);
        for ((place, mask), &byte) in places.zip(now) {
            (*place, *mask) = (byte, 0xFF);
        }
        let (value, mask) = (u64::from_le_bytes(value), u64::from_le_bytes(mask));
        let target = word(frame, WordIndex::wrapping(at / 8));
        let mut old = target.load(Ordering::Relaxed);
        while let Err(actual) = target.compare_exchange_weak(
            old,
            (old & !mask) | value,
            Ordering::AcqRel,
            Ordering::Relaxed,
        ) {
            old = actual;
        }
        at += now.len();
        bytes = later;
    }
}

/// Reads memory of a space into a buffer of the host.
#[derive(Debug)]
#[must_use]
pub struct ReadMemory<'b> {
    space: AddressSpaceId,
    from: Va,
    buffer: &'b mut [u8],
    done: usize,
    access: PageAccess,
}

impl<'b> ReadMemory<'b> {
    /// Fills `buffer` with the memory of `space` from `from` on.
    pub fn new(space: AddressSpaceId, from: Va, buffer: &'b mut [u8]) -> Self {
        Self { space, from, buffer, done: 0, access: PageAccess::default() }
    }

    fn next<P: Platform>(&mut self, manager: &Manager<P>) -> Result<usize, Pause> {
        let va = advance(self.from, self.done as u64)?;
        let rest = self.buffer.get_mut(self.done..).unwrap_or_default();
        let length = rest.len().min(to_page_end(va));
        let now = rest.get_mut(..length).unwrap_or_default();
        let offset = usize::from(va.page_offset());
        self.access.access(manager, self.space, va, AccessKind::Read, |_, frame| {
            read_frame(frame, offset, now);
        })?;
        Ok(length)
    }
}

/// Writes a buffer of the host into memory of a space.
#[derive(Debug)]
#[must_use]
pub struct WriteMemory<'b> {
    space: AddressSpaceId,
    to: Va,
    buffer: &'b [u8],
    done: usize,
    access: PageAccess,
}

impl<'b> WriteMemory<'b> {
    /// Writes `buffer` into the memory of `space` from `to` on.
    pub fn new(space: AddressSpaceId, to: Va, buffer: &'b [u8]) -> Self {
        Self { space, to, buffer, done: 0, access: PageAccess::default() }
    }

    fn next<P: Platform>(&mut self, manager: &Manager<P>) -> Result<usize, Pause> {
        let va = advance(self.to, self.done as u64)?;
        let rest = self.buffer.get(self.done..).unwrap_or_default();
        let length = rest.len().min(to_page_end(va));
        let now = rest.get(..length).unwrap_or_default();
        let offset = usize::from(va.page_offset());
        self.access.access(manager, self.space, va, AccessKind::Write, |_, frame| {
            write_frame(frame, offset, now);
        })?;
        Ok(length)
    }
}

/// The address `done` bytes after `va`.
fn advance(va: Va, done: u64) -> Result<Va, NtStatus> {
    va.checked_add(Bytes::new(done)).ok_or(NtStatus::ACCESS_VIOLATION)
}

/// What an access ends with whose next page gave `pause` after `done` bytes.
fn stopped(done: usize, pause: Pause) -> Step<Accessed> {
    match pause {
        Pause::Wait(wait) => Step::Wait(wait),
        Pause::Raise(status) => Step::Done(Accessed { bytes: Bytes::new(done as u64), status }),
    }
}

impl<P: Platform> Operation<P> for ReadMemory<'_> {
    type Output = Accessed;

    fn step(&mut self, manager: &Manager<P>) -> Step<Accessed> {
        while self.done < self.buffer.len() {
            match self.next(manager) {
                Ok(more) => self.done += more,
                Err(pause) => return stopped(self.done, pause),
            }
        }
        stopped(self.done, NtStatus::SUCCESS.into())
    }

    fn abandon(self, manager: &Manager<P>) {
        self.access.abandon(manager);
    }
}

impl<P: Platform> Operation<P> for WriteMemory<'_> {
    type Output = Accessed;

    fn step(&mut self, manager: &Manager<P>) -> Step<Accessed> {
        while self.done < self.buffer.len() {
            match self.next(manager) {
                Ok(more) => self.done += more,
                Err(pause) => return stopped(self.done, pause),
            }
        }
        stopped(self.done, NtStatus::SUCCESS.into())
    }

    fn abandon(self, manager: &Manager<P>) {
        self.access.abandon(manager);
    }
}
