//! The modified-page writer (MiModifiedPageWriter, MiGatherPagefilePages, MiWriteComplete,
//! spec 9.4).
//!
//! A step takes the oldest modified page and those of its neighbours in its page table that are
//! modified too, then the next oldest, until a cluster is full; gives them neighbouring slots;
//! and submits one write. While it is being written a page may be faulted in, changed and
//! trimmed again; only its modified flag decides at completion whether the copy is good. A page
//! whose contents were reset is not on the modified list; when that happens while it is being
//! written, the copy is given up at completion, be the write good or bad.

use arrayvec::ArrayVec;
use ntmm_pte::{PAGE_SIZE, PageFileOffset, PagingMode, Pfn, PteWord, Slot};
use ntmm_sync::atomic::{AtomicBool, Ordering};
use ntmm_sync::level::{self, Level, Outside, Token, Unlocked};

use super::bitmap::SlotRun;
use crate::events::{Event, Notification};
use crate::frames::PageLocation;
use crate::frames::entry::FrameFlags;
use crate::manager::Manager;
use crate::platform::{Direction, Engine, EngineStep, PagingRequest, Platform};
use crate::status::NtStatus;
use crate::tables::EntryRef;
use crate::transfer::{CLUSTER, Cluster, TransferId};

/// Writes in flight at most: two for each of two files keep a disk busy.
pub(crate) const WRITES: u32 = 4;

/// What the writer remembers between steps. Tag A.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// It stopped because no file had room.
    wants_space: AtomicBool,
    /// The last write failed: rest until asked again.
    failed: AtomicBool,
    /// Everything is to be written, until the list is empty.
    flushing: AtomicBool,
    /// The next step begins with pages of files.
    files_first: AtomicBool,
}

/// Where a modified page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// To a paging file.
    PagingFile,
    /// To the file it is a page of.
    File,
}

/// Frames of the modified list that are looked at for one of the right kind.
const SEARCH: usize = 256;

impl Writer {
    pub(crate) fn wants_space(&self) -> bool {
        self.wants_space.load(Ordering::Acquire)
    }
}

impl<P: Platform> Manager<P> {
    /// Has all modified pages written, though there may be few and memory plenty
    /// (MmFlushAllPages). Returns at once; the writer does it, and rests after a failed write or
    /// without room as ever. [`MemoryFigures::modified`](crate::inspect::MemoryFigures::modified)
    /// tells when it has begun the last of them.
    pub fn flush_modified_pages(&self) {
        self.writer.flushing.store(true, Ordering::Release);
        self.platform().request(Engine::ModifiedWriter);
    }

    /// The modified-page writer.
    pub(crate) fn step_modified_writer(&self) -> EngineStep {
        if self.writer.failed.swap(false, Ordering::AcqRel) {
            return EngineStep::Idle;
        }
        self.release_modified_no_write(self.enter().token());
        if !self.writing_is_due() {
            return EngineStep::Idle;
        }
        if self.lists.modified_of_files() == 0 {
            return self.write_to_paging_file();
        }
        let order = if self.writer.files_first.fetch_xor(true, Ordering::AcqRel) {
            [Destination::File, Destination::PagingFile]
        } else {
            [Destination::PagingFile, Destination::File]
        };
        for destination in order {
            let step = match destination {
                Destination::PagingFile => self.write_to_paging_file(),
                Destination::File => self.write_to_file(),
            };
            if step == EngineStep::Worked {
                return step;
            }
        }
        EngineStep::Idle
    }

    /// Starts a write of pages to a paging file.
    fn write_to_paging_file(&self) -> EngineStep {
        if self.first_modified(Destination::PagingFile).is_none() {
            return EngineStep::Idle;
        }
        let mut entry = self.enter();
        let Some(id) = self.allocate_transfer(entry.token(), &self.writes) else {
            // The next completion asks for the writer.
            return EngineStep::Idle;
        };
        let wanted = self.lists.total(PageLocation::Modified).min(self.config.write_cluster);
        let Some((file, run)) = self.allocate_slots(entry.token(), wanted.max(1)) else {
            self.writer.wants_space.store(true, Ordering::Release);
            self.free_transfer(entry.token(), &self.writes, id);
            return EngineStep::Idle;
        };
        self.writer.wants_space.store(false, Ordering::Release);
        let frames = self.gather(entry.token(), run.count as usize);
        let used = frames.len() as u32;
        let rest = SlotRun { start: run.start + used, count: run.count - used };
        self.release_slots(entry.token(), file, rest);
        let host = self.paging_files.file_id(file);
        let Some(host) = host.filter(|_| used > 0) else {
            self.free_transfer(entry.token(), &self.writes, id);
            return EngineStep::Idle;
        };
        for (slot, &pfn) in (run.start..).zip(&frames) {
            let mut frame = self.lock_frame(entry.token(), pfn);
            if let Some(offset) = PageFileOffset::new(slot) {
                self.assign_slot(&mut frame, file, offset);
            }
        }
        self.set_transfer_frames(&self.writes, id, &frames);
        drop(entry);
        self.platform().submit(&PagingRequest {
            token: id.token(Direction::Write),
            direction: Direction::Write,
            file: host,
            offset: u64::from(run.start) * PAGE_SIZE,
            length: u64::from(used) * PAGE_SIZE,
            frames: &frames,
        });
        EngineStep::Worked
    }

    /// Whether modified pages should be written now: there are many, or pages are short.
    fn writing_is_due(&self) -> bool {
        let modified = self.lists.total(PageLocation::Modified);
        if modified == 0 {
            self.writer.flushing.store(false, Ordering::Release);
            return false;
        }
        let short = self.available.unreserved() < self.available.thresholds().plenty;
        modified >= self.modified_maximum
            || short
            || self.pages_are_awaited()
            || self.writer.flushing.load(Ordering::Acquire)
    }

    /// Takes up to `limit` pages off the modified list for writing.
    fn gather(&self, token: &mut Token<'_, Unlocked>, limit: usize) -> Cluster {
        let mut frames = Cluster::new();
        while frames.len() < limit.min(CLUSTER) {
            let Some(pfn) = self.first_modified(Destination::PagingFile) else { break };
            let (table, slot) = self.entry(pfn).container();
            if !self.take_for_writing(token, pfn, None, Destination::PagingFile) {
                self.platform().relax();
                continue;
            }
            let mut run = ArrayVec::<Pfn, CLUSTER>::new();
            run.push(pfn);
            let room = limit.min(CLUSTER) - frames.len();
            self.gather_neighbours(token, EntryRef { table, slot }, room, &mut run);
            frames.extend(run);
        }
        frames
    }

    /// The oldest modified page that is written there, as far as one looks: a hint.
    pub(super) fn first_modified(&self, destination: Destination) -> Option<Pfn> {
        self.platform().interleave();
        let mut frames = self.list_frames(PageLocation::Modified).take(SEARCH);
        frames.find(|&pfn| self.destination(self.entry(pfn).original()) == destination)
    }

    /// Where a page is written whose frame has this original entry.
    fn destination(&self, original: u64) -> Destination {
        if P::Paging::is_prototype(original) { Destination::File } else { Destination::PagingFile }
    }

    /// Adds the modified pages next to `entry` in its table, in the order of their addresses.
    fn gather_neighbours(
        &self,
        token: &mut Token<'_, Unlocked>,
        entry: EntryRef,
        room: usize,
        run: &mut ArrayVec<Pfn, CLUSTER>,
    ) {
        let mut slot = entry.slot.get();
        while run.len() < room && slot > 0 {
            slot -= 1;
            match self.take_neighbour(token, entry.table, slot) {
                Some(pfn) => run.insert(0, pfn),
                None => break,
            }
        }
        let entries = P::Paging::ENTRIES as u16;
        let mut slot = entry.slot.get() + 1;
        while run.len() < room && slot < entries {
            match self.take_neighbour(token, entry.table, slot) {
                Some(pfn) => run.push(pfn),
                None => break,
            }
            slot += 1;
        }
    }

    /// Takes the page whose entry is at `slot` of `table`, if it is modified. No lock keeps the
    /// table a table: the frame's own word says whether it really is the page's.
    fn take_neighbour(
        &self,
        token: &mut Token<'_, Unlocked>,
        table: Pfn,
        slot: u16,
    ) -> Option<Pfn> {
        let at = EntryRef { table, slot: Slot::from_low_bits(u64::from(slot)) };
        let word = self.load_entry(at);
        if !P::Paging::is_transition(word) {
            return None;
        }
        let pfn = P::Paging::transition_pfn(word);
        let to = Destination::PagingFile;
        (self.frame_exists(pfn) && self.take_for_writing(token, pfn, Some(at), to)).then_some(pfn)
    }

    /// Takes a frame off the modified list for writing, if it is there, belongs to `at` and is
    /// written to `destination` (row 11).
    pub(super) fn take_for_writing(
        &self,
        token: &mut Token<'_, Unlocked>,
        pfn: Pfn,
        at: Option<EntryRef>,
        destination: Destination,
    ) -> bool {
        let mut frame = self.lock_frame(token, pfn);
        let (table, slot) = frame.entry().container();
        if frame.location() != PageLocation::Modified
            || at.is_some_and(|at| at != EntryRef { table, slot })
            || self.destination(frame.entry().original()) != destination
        {
            return false;
        }
        self.unlink_modified(&mut frame);
        frame.set_location(PageLocation::Transition);
        frame.entry().set_u1_and_share(0, 0);
        frame.remove(FrameFlags::MODIFIED);
        frame.insert(FrameFlags::WRITE_IN_PROGRESS);
        frame.add_reference();
        true
    }

    /// A page write has completed (rows 12-14).
    pub(crate) fn complete_write<L>(
        &self,
        token: &mut Token<'_, L>,
        id: TransferId,
        result: Result<(), NtStatus>,
    ) where
        L: Level + Outside<level::Frame> + Outside<level::List>,
    {
        let frames = self.transfer_frames(&self.writes, id);
        let area = self.area_of_write(&frames);
        for &pfn in &frames {
            let mut frame = self.lock_frame(token, pfn);
            frame.remove(FrameFlags::WRITE_IN_PROGRESS);
            let unwanted = frame.has(FrameFlags::RESET);
            if result.is_err() && !unwanted {
                frame.insert(FrameFlags::MODIFIED);
            }
            if unwanted || frame.has(FrameFlags::MODIFIED) {
                // The copy is of no use, missing or stale.
                self.release_original_slot(&mut frame);
            }
            self.drop_reference(&mut frame);
        }
        self.counters.page_write_ios.add(1);
        match result {
            Ok(()) => self.counters.pages_written.add(frames.len() as u64),
            Err(_) => {
                self.counters.failed_writes.add(1);
                self.writer.failed.store(true, Ordering::Release);
                self.platform().notify(Notification::ModifiedWriteFailed);
            }
        }
        if P::ENABLED {
            self.platform().event(&Event::PageWrite { pages: frames.len() as u32 });
        }
        self.free_transfer(token, &self.writes, id);
        if let Some(area) = area {
            self.end_file_write(area, result);
        }
        self.platform().request(Engine::ModifiedWriter);
    }
}
