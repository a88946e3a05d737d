//! Taking memory away from the manager (MmRemovePhysicalMemory).
//!
//! A removal first lowers the commitment limit, so that nothing is promised that the memory left
//! could not keep.
//!
//! It is refused at once when a frame of its range is in use for good, such as the root of a space
//! that lives. Large pages and physical pages of a process count as in use for good too: only their
//! owner gives them back.
//!
//! Then it collects the frames of its range, wherever they are, on the bad list:
//!
//! * free, zeroed and standby frames at once, each on a promise like any other taker's, and only
//!   while as many pages as the minimum stay for others; the page of a standby frame is in its
//!   paging file, and its entry says so again;
//! * all others are marked (REMOVAL_REQUESTED), and pages among them that may be paged are taken
//!   out of their working sets. A marked frame does not become available any more: with its last
//!   reference, which a flush batch holds until every processor has forgotten the translation, it
//!   goes to the bad list when its page is deleted or needs no writing, and otherwise to the
//!   modified list and from there, when it is written, to the bad list too. Until then its page
//!   may be faulted in again; the next round takes it out again.
//!
//! Between rounds the operation waits for available pages: arriving at the bad list wakes that
//! key too, and once a second the balance engine does. When nothing has
//! arrived for [`PATIENCE`] the removal gives up. When all frames are there they become absent.
//! Nobody can have a translation of any of them by then: a frame gets to a list of available
//! pages, or to the bad list, only after its flush has been acknowledged.

use core::fmt;

use ntmm_pte::{Pages, Pfn, Slot};
use ntmm_sync::atomic::Ordering;
use ntmm_sync::level::{Token, Unlocked};

use super::stretches;
use crate::frames::entry::{FrameFlags, FrameState};
use crate::frames::lists::Position;
use crate::frames::{FrameUse, PageLocation};
use crate::manager::{Manager, SMALLEST_REST};
use crate::operation::{Operation, Pause, Step};
use crate::platform::{FrameRange, Platform, SystemTime};
use crate::status::NtStatus;
use crate::working_set::balance::PERIOD;

/// Time without any progress after which a removal gives up: it has been reminded five times.
pub const PATIENCE: SystemTime = SystemTime(50_000_000);

/// Entries of a working set looked at under one hold of its lock.
const ENTRIES: u32 = 64;

/// Why a range was not removed. All of it is the manager's as before, and where pages have left
/// working sets they are faulted in again as ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoveMemoryError {
    /// The range has no frames.
    Empty,
    /// This frame is not the manager's.
    NotLent(Pfn),
    /// This frame holds records of the manager that never move.
    Records(Pfn),
    /// Too little memory would be left.
    TooFewLeft {
        /// Frames that would be left.
        left: u32,
        /// Smallest number that would do.
        needed: u32,
    },
    /// What is committed needs the memory (spec 9.7).
    Committed,
    /// Another call adds or removes memory: try again when it has ended.
    Busy,
    /// This frame stays in use: it holds a root, a working-set list or a descriptor of a space
    /// that lives, or its page is locked, is a table in use, or cannot be written. Or memory is so
    /// short that the frame cannot be spared.
    InUse {
        /// The first such frame.
        pfn: Pfn,
    },
}

impl fmt::Display for RemoveMemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the range has no frames"),
            Self::NotLent(pfn) => write!(f, "frame {:#x} is not lent", pfn.get()),
            Self::Records(pfn) => {
                write!(f, "frame {:#x} holds records of the manager", pfn.get())
            }
            Self::TooFewLeft { left, needed } => {
                write!(f, "{left} frames would be left, at least {needed} are needed")
            }
            Self::Committed => f.write_str("what is committed needs the memory"),
            Self::Busy => f.write_str("other memory is being added or removed"),
            Self::InUse { pfn } => write!(f, "frame {:#x} stays in use", pfn.get()),
        }
    }
}

impl core::error::Error for RemoveMemoryError {}

/// Whether a frame leaves only when its owner lets go of it.
const fn is_pinned(state: FrameState) -> bool {
    matches!(state.location(), PageLocation::Active)
        && !matches!(
            state.usage(),
            FrameUse::Private | FrameUse::PageTable | FrameUse::Section | FrameUse::Prototypes
        )
}

/// Takes a range of frames away from the manager: when it is done they are the host's, with
/// contents that mean nothing, and the manager does not touch them. Given up or abandoned, it
/// gives back what it had collected.
#[derive(Debug)]
#[must_use]
pub struct RemoveMemory {
    range: FrameRange,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Start,
    /// The changing of memory is owned, and the limit lowered.
    Collecting {
        /// Frames that are still to come.
        left: u32,
        /// When there were last more of them.
        since: SystemTime,
    },
    Finished,
}

/// What a look over the range found.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// Frames that are not on the bad list.
    left: u32,
    /// The first of them.
    first: Option<Pfn>,
    /// The first that leaves only when its owner lets go of it.
    pinned: Option<Pfn>,
}

impl RemoveMemory {
    /// Takes the frames of `range` away.
    pub const fn new(range: FrameRange) -> Self {
        Self { range, stage: Stage::Start }
    }

    /// One round. The error inside is the answer; the one outside says to wait.
    fn proceed<P: Platform>(
        &mut self,
        manager: &Manager<P>,
    ) -> Result<Result<(), RemoveMemoryError>, Pause> {
        if let Stage::Start = self.stage {
            if let Err(error) = manager.begin_removal(self.range) {
                self.stage = Stage::Finished;
                return Ok(Err(error));
            }
            let left = self.range.count.get() as u32;
            self.stage = Stage::Collecting { left, since: manager.platform().now() };
            // Before anything is collected: what standby frames hold is lost for a removal that
            // can succeed only.
            if let Some(pfn) = manager.pinned_frame(self.range) {
                return Ok(self.give_up(manager, pfn));
            }
        }
        let Stage::Collecting { left, since } = self.stage else {
            return Err(NtStatus::INVALID_PARAMETER.into());
        };
        let found = manager.collect_range(self.range);
        if let Some(pfn) = found.pinned {
            return Ok(self.give_up(manager, pfn));
        }
        if found.first.is_none() {
            return Ok(self.complete(manager));
        }
        // Announced before the work, so that what it brings about is not missed.
        let wait = manager.announce_page_wait();
        let now = manager.platform().now();
        manager.memory.looked.store(now.0, Ordering::Relaxed);
        manager.evict_range(self.range)?;
        let found = manager.collect_range(self.range);
        let Some(first) = found.first else {
            return Ok(self.complete(manager));
        };
        if found.left < left {
            self.stage = Stage::Collecting { left: found.left, since: now };
        } else if now.0.saturating_sub(since.0) >= PATIENCE.0 {
            return Ok(self.give_up(manager, found.pinned.unwrap_or(first)));
        }
        Err(wait.into())
    }

    fn complete<P: Platform>(&mut self, manager: &Manager<P>) -> Result<(), RemoveMemoryError> {
        self.stage = Stage::Finished;
        manager.finish_removal(self.range);
        Ok(())
    }

    fn give_up<P: Platform>(
        &mut self,
        manager: &Manager<P>,
        pfn: Pfn,
    ) -> Result<(), RemoveMemoryError> {
        self.stage = Stage::Finished;
        manager.cancel_removal(self.range);
        Err(RemoveMemoryError::InUse { pfn })
    }
}

impl<P: Platform> Operation<P> for RemoveMemory {
    type Output = Result<(), RemoveMemoryError>;

    fn step(&mut self, manager: &Manager<P>) -> Step<Self::Output> {
        self.proceed(manager).into()
    }

    fn abandon(self, manager: &Manager<P>) {
        if let Stage::Collecting { .. } = self.stage {
            manager.cancel_removal(self.range);
        }
    }
}

impl<P: Platform> Manager<P> {
    /// Becomes the owner of changing memory and lowers the commitment limit.
    fn begin_removal(&self, range: FrameRange) -> Result<(), RemoveMemoryError> {
        if range.count.get() == 0 {
            return Err(RemoveMemoryError::Empty);
        }
        if !self.memory.own() {
            return Err(RemoveMemoryError::Busy);
        }
        let outcome = self.check_removable(range);
        match outcome {
            Ok(()) => self.memory.leaving.store(range.count.get() as u32, Ordering::Release),
            Err(_) => self.memory.disown(),
        }
        outcome
    }

    fn check_removable(&self, range: FrameRange) -> Result<(), RemoveMemoryError> {
        if let Some(outside) = self.outside_span(range) {
            return Err(RemoveMemoryError::NotLent(outside));
        }
        for pfn in range.frames() {
            match self.entry(pfn).state().usage() {
                FrameUse::Absent => return Err(RemoveMemoryError::NotLent(pfn)),
                FrameUse::Manager | FrameUse::PagingFileBitmap => {
                    return Err(RemoveMemoryError::Records(pfn));
                }
                _ => {}
            }
        }
        let left = self.memory.lent().saturating_sub(range.count.get() as u32);
        let needed = self.memory.records + SMALLEST_REST;
        if left < needed {
            return Err(RemoveMemoryError::TooFewLeft { left, needed });
        }
        if self.commit.lower_limit(range.count) {
            Ok(())
        } else {
            Err(RemoveMemoryError::Committed)
        }
    }

    /// The first frame of a range that leaves only when its owner lets go of it, as far as can be
    /// seen without locks.
    fn pinned_frame(&self, range: FrameRange) -> Option<Pfn> {
        range.frames().find(|pfn| is_pinned(self.entry(*pfn).state()))
    }

    /// Puts what can be had of a range on the bad list, and marks the rest.
    fn collect_range(&self, range: FrameRange) -> Found {
        let mut found = Found::default();
        for part in stretches(range) {
            let mut entry = self.enter();
            for pfn in part.frames() {
                self.collect_frame(entry.token(), pfn, &mut found);
            }
        }
        found
    }

    fn collect_frame(&self, token: &mut Token<'_, Unlocked>, pfn: Pfn, found: &mut Found) {
        let mut frame = self.lock_frame(token, pfn);
        match frame.location() {
            PageLocation::Bad => {
                frame.insert(FrameFlags::REMOVAL_REQUESTED);
                return;
            }
            PageLocation::Zeroed | PageLocation::Free | PageLocation::Standby => {
                if let Some(reservation) = self.try_reserve_spare_page() {
                    self.set_aside(&mut frame, reservation);
                    return;
                }
            }
            PageLocation::Modified | PageLocation::ModifiedNoWrite | PageLocation::Transition => {
                frame.insert(FrameFlags::REMOVAL_REQUESTED);
            }
            PageLocation::Active => {
                frame.insert(FrameFlags::REMOVAL_REQUESTED);
                if is_pinned(frame.state()) {
                    found.pinned.get_or_insert(pfn);
                }
            }
        }
        found.left += 1;
        found.first.get_or_insert(pfn);
    }

    /// Takes the pages in the frames of a range out of their working sets.
    fn evict_range(&self, range: FrameRange) -> Result<(), Pause> {
        for space in self.live_spaces() {
            let mut next = Some(0);
            while let Some(from) = next {
                let mut batch = self.begin_flush(space)?;
                let mut entry = self.enter();
                next = self.lock_space(entry.token(), space).and_then(|mut set| {
                    let next = set.evict_range(from, ENTRIES, range, &mut batch);
                    batch.finish(set.token());
                    next
                });
            }
        }
        Ok(())
    }

    /// Has a removal look that waits and has not looked for a while: the balance engine calls it
    /// in each step.
    pub(crate) fn remind_removal(&self) {
        if self.memory.leaving() == 0 {
            return;
        }
        let now = self.platform().now().0;
        let looked = self.memory.looked.load(Ordering::Relaxed);
        if now.saturating_sub(looked) >= PERIOD.0 {
            self.memory.looked.store(now, Ordering::Relaxed);
            self.wake_page_waiters();
        }
    }

    /// All frames of the range are on the bad list: they become the host's.
    fn finish_removal(&self, range: FrameRange) {
        for part in stretches(range) {
            let mut entry = self.enter();
            for pfn in part.frames() {
                let mut frame = self.lock_frame(entry.token(), pfn);
                self.unlink_bad(&mut frame);
                frame.begin(FrameUse::Absent);
                frame.entry().set_u1_and_share(0, 0);
                frame.entry().set_original(0);
                frame.entry().set_container(Pfn::new(0), Slot::from_low_bits(0));
            }
        }
        self.memory.lent.fetch_sub(range.count.get() as u32, Ordering::AcqRel);
        self.end_removal();
    }

    /// Gives back what has been collected of a range, and the limit.
    fn cancel_removal(&self, range: FrameRange) {
        for part in stretches(range) {
            let mut entry = self.enter();
            for pfn in part.frames() {
                let mut frame = self.lock_frame(entry.token(), pfn);
                frame.remove(FrameFlags::REMOVAL_REQUESTED);
                if frame.location() == PageLocation::Bad && frame.leaving().is_empty() {
                    self.unlink_bad(&mut frame);
                    self.insert_on_list(&mut frame, PageLocation::Free, Position::Tail);
                }
            }
        }
        self.commit.raise_limit(Pages::new(range.count.get()));
        self.end_removal();
    }

    fn end_removal(&self) {
        self.memory.leaving.store(0, Ordering::Release);
        self.memory.disown();
        // It may have announced that it waits.
        self.wake_page_waiters();
    }
}
