//! Memory that comes and goes while the manager runs (MmAddPhysicalMemory,
//! MmRemovePhysicalMemory, spec 3.2).
//!
//! The database has entries for all frames of the span the host named at boot
//! ([`Config::span`](crate::Config::span)). A frame of it is either *lent*, and lives one of the
//! lives of [`frames`](crate::frames), or *absent*: then it is the host's, and the manager does
//! not touch it. Absent frames are added by [`Manager::add_memory`], at once; lent ones are taken
//! back by [`RemoveMemory`], which may have to wait until their pages are in a paging file.
//!
//! One change of memory goes on at a time. Who changes it owns the changing, without a lock and
//! across waits; others are told [`AddMemoryError::Busy`] or [`RemoveMemoryError::Busy`]. So
//! whether a frame is absent changes only under its owner. Frame locks are held one at a time, as
//! long as a frame needs.
//!
//! What boot sized by the memory there was stays as it is: the thresholds of available pages, the
//! length of the modified list that starts writing, the tables of address spaces, flushes and
//! transfers.

pub mod remove;

pub use remove::{RemoveMemory, RemoveMemoryError};

use core::fmt;

use ntmm_pte::{Pages, Pfn};
use ntmm_sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::frames::lists::Position;
use crate::frames::{FrameUse, PageLocation};
use crate::manager::Manager;
use crate::platform::{FrameRange, Platform};

/// Frames worked on between two looks at what the processor has to do besides.
const STRETCH: u64 = 64;

/// How much memory there is, and who changes it.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Frames lent, the records included. Tag A.
    lent: AtomicU32,
    /// Frames of the manager's fixed records.
    records: u32,
    /// Somebody owns the changing of memory. Tag A.
    owned: AtomicBool,
    /// Frames a removal is after. The owner's.
    leaving: AtomicU32,
    /// When the removal last looked how far it is. Tag A.
    looked: AtomicU64,
}

impl Memory {
    pub(crate) const fn new(lent: u32, records: u32) -> Self {
        Self {
            lent: AtomicU32::new(lent),
            records,
            owned: AtomicBool::new(false),
            leaving: AtomicU32::new(0),
            looked: AtomicU64::new(0),
        }
    }

    pub(crate) fn lent(&self) -> u32 {
        self.lent.load(Ordering::Acquire)
    }

    pub(crate) fn leaving(&self) -> u32 {
        self.leaving.load(Ordering::Acquire)
    }

    /// Becomes the owner of changing memory, if nobody is.
    fn own(&self) -> bool {
        !self.owned.swap(true, Ordering::Acquire)
    }

    fn disown(&self) {
        self.owned.store(false, Ordering::Release);
    }
}

/// Why a range was not added. Nothing has been changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddMemoryError {
    /// The range has no frames.
    Empty,
    /// The database has no entry for this frame: it lies outside the span of
    /// [`Config::span`](crate::Config::span).
    OutsideSpan(Pfn),
    /// This frame is lent already.
    AlreadyLent(Pfn),
    /// Another call adds or removes memory: try again when it has ended.
    Busy,
}

impl fmt::Display for AddMemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the range has no frames"),
            Self::OutsideSpan(pfn) => {
                write!(f, "frame {:#x} lies outside the span named at boot", pfn.get())
            }
            Self::AlreadyLent(pfn) => write!(f, "frame {:#x} is lent already", pfn.get()),
            Self::Busy => f.write_str("other memory is being added or removed"),
        }
    }
}

impl core::error::Error for AddMemoryError {}

impl<P: Platform> Manager<P> {
    /// Takes over the frames of `range`, which become free pages (MmAddPhysicalMemory). Nothing
    /// is assumed of what is in them. From now on [`Ram::frame`](crate::platform::Ram::frame) is
    /// called with them. The commitment limit rises by as many pages; whoever waits for pages is
    /// woken. Called below DISPATCH_LEVEL; takes time in proportion to the range.
    ///
    /// # Errors
    /// See [`AddMemoryError`].
    pub fn add_memory(&self, range: FrameRange) -> Result<(), AddMemoryError> {
        if range.count.get() == 0 {
            return Err(AddMemoryError::Empty);
        }
        if !self.memory.own() {
            return Err(AddMemoryError::Busy);
        }
        let outcome = self.check_absent(range);
        if outcome.is_ok() {
            self.memory.lent.fetch_add(range.count.get() as u32, Ordering::AcqRel);
            for part in stretches(range) {
                let mut entry = self.enter();
                for pfn in part.frames() {
                    let mut frame = self.lock_frame(entry.token(), pfn);
                    frame.begin(FrameUse::None);
                    self.insert_on_list(&mut frame, PageLocation::Free, Position::Tail);
                }
            }
            self.commit.raise_limit(range.count);
        }
        self.memory.disown();
        outcome
    }

    fn check_absent(&self, range: FrameRange) -> Result<(), AddMemoryError> {
        if let Some(outside) = self.outside_span(range) {
            return Err(AddMemoryError::OutsideSpan(outside));
        }
        match range.frames().find(|&pfn| !self.is_absent(pfn)) {
            Some(pfn) => Err(AddMemoryError::AlreadyLent(pfn)),
            None => Ok(()),
        }
    }

    /// A frame of the range that the database has no entry for.
    fn outside_span(&self, range: FrameRange) -> Option<Pfn> {
        if !self.frame_exists(range.start) {
            return Some(range.start);
        }
        let last = u32::try_from(range.end() - 1).map_or(Pfn::new(u32::MAX), Pfn::new);
        (!self.frame_exists(last)).then_some(last)
    }

    /// Whether a frame is the host's. Exact for the owner of changing memory.
    fn is_absent(&self, pfn: Pfn) -> bool {
        self.entry(pfn).state().usage() == FrameUse::Absent
    }
}

/// A range in parts of bounded length.
fn stretches(range: FrameRange) -> impl Iterator<Item = FrameRange> {
    (0..range.count.get().div_ceil(STRETCH)).map(move |number| {
        let before = number * STRETCH;
        FrameRange {
            start: Pfn::new(range.start.get().saturating_add(before as u32)),
            count: Pages::new(STRETCH.min(range.count.get() - before)),
        }
    })
}
