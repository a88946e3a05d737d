//! Copying from one space to another (MmCopyVirtualMemory, spec 11.18; API 9).
//!
//! The whole source is made accessible once before the first byte moves, so that a source with a
//! hole copies nothing. Then bytes move in small pieces: into a buffer while the source's
//! working-set lock is held, out of it while the destination's is.

use ntmm_pte::{AccessKind, Bytes, PAGE_SIZE, Va};

use super::{PageAccess, advance, read_frame, to_page_end, write_frame};
use crate::address_space::AddressSpaceId;
use crate::manager::Manager;
use crate::operation::{Operation, Pause, Step};
use crate::platform::Platform;
use crate::status::NtStatus;

/// Bytes moved at once.
const PIECE: usize = 512;

/// Memory of a space, from an address on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryAt {
    /// The space.
    pub space: AddressSpaceId,
    /// The address.
    pub va: Va,
}

/// One of the two sides of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What is read.
    Source,
    /// What is written.
    Destination,
}

/// Why a copy ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The side that could not be accessed.
    pub side: Side,
    /// What the access raised.
    pub status: NtStatus,
}

/// How far a copy came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Bytes copied, from the start on.
    pub bytes: Bytes,
    /// Why there are no more; none when it is all.
    pub stop: Option<Stop>,
}

/// Copies memory from one space to another, or within one.
#[derive(Debug)]
#[must_use]
pub struct CopyMemory {
    source: MemoryAt,
    destination: MemoryAt,
    size: Bytes,
    /// Bytes of the source known to be accessible.
    probed: u64,
    done: u64,
    piece: [u8; PIECE],
    /// Bytes of the piece that wait for the destination.
    held: usize,
    access: PageAccess,
}

impl CopyMemory {
    /// Copies `size` bytes from `source` to `destination`. They must not overlap in one space,
    /// or what is copied twice is anybody's guess.
    pub fn new(source: MemoryAt, destination: MemoryAt, size: Bytes) -> Self {
        Self {
            source,
            destination,
            size,
            probed: 0,
            done: 0,
            piece: [0; PIECE],
            held: 0,
            access: PageAccess::default(),
        }
    }

    /// Makes the page of the source accessible that comes next.
    fn probe<P: Platform>(&mut self, manager: &Manager<P>) -> Result<(), Pause> {
        let va = advance(self.source.va, self.probed)?;
        self.access.access(manager, self.source.space, va, AccessKind::Read, |_, _| ())?;
        self.probed += PAGE_SIZE - u64::from(va.page_offset());
        Ok(())
    }

    fn fill<P: Platform>(&mut self, manager: &Manager<P>) -> Result<(), Pause> {
        let va = advance(self.source.va, self.done)?;
        let to = advance(self.destination.va, self.done)?;
        let rest = usize::try_from(self.size.get() - self.done).unwrap_or(PIECE);
        let length = rest.min(PIECE).min(to_page_end(va)).min(to_page_end(to));
        let piece = self.piece.get_mut(..length).unwrap_or_default();
        self.access.access(manager, self.source.space, va, AccessKind::Read, |_, frame| {
            read_frame(frame, usize::from(va.page_offset()), piece);
        })?;
        self.held = length;
        Ok(())
    }

    fn empty<P: Platform>(&mut self, manager: &Manager<P>) -> Result<(), Pause> {
        let va = advance(self.destination.va, self.done)?;
        let piece = self.piece.get(..self.held).unwrap_or_default();
        let space = self.destination.space;
        self.access.access(manager, space, va, AccessKind::Write, |_, frame| {
            write_frame(frame, usize::from(va.page_offset()), piece);
        })?;
        self.done += self.held as u64;
        self.held = 0;
        Ok(())
    }

    const fn copied(&self, stop: Option<Stop>) -> Step<Copied> {
        Step::Done(Copied { bytes: Bytes::new(self.done), stop })
    }
}

impl<P: Platform> Operation<P> for CopyMemory {
    type Output = Copied;

    fn step(&mut self, manager: &Manager<P>) -> Step<Copied> {
        while self.done < self.size.get() {
            let (side, outcome) = if self.probed < self.size.get() {
                (Side::Source, self.probe(manager))
            } else if self.held == 0 {
                (Side::Source, self.fill(manager))
            } else {
                (Side::Destination, self.empty(manager))
            };
            match outcome {
                Ok(()) => {}
                Err(Pause::Wait(wait)) => return Step::Wait(wait),
                Err(Pause::Raise(status)) => return self.copied(Some(Stop { side, status })),
            }
        }
        self.copied(None)
    }

    fn abandon(self, manager: &Manager<P>) {
        self.access.abandon(manager);
    }
}
