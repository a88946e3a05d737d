//! The mapped-page writer (MiMappedPageWriter, MiGatherMappedPages, spec 9.5): modified pages of
//! files go back to their files.
//!
//! A write takes pages that lie side by side in one subsection and in one page of prototypes, and
//! never more bytes than the subsection shows: what lies behind the end of the file in its last
//! page is not written. While it is under way the control area counts it. When it fails the pages
//! are modified again, and the control area remembers the status for whoever flushes.
//!
//! A paging-file write never waits for one of these: each step of the writer starts a write of the
//! one or of the other kind, by turns.

use ntmm_pte::{PAGE_SIZE, PagingMode, Pfn, PteFormat, PteWord, Slot};
use ntmm_sync::atomic::Ordering;
use ntmm_sync::level::{self, Level, Outside, Token, Unlocked};

use super::modified_writer::Destination;
use crate::frames::entry::FrameFlags;
use crate::frames::{FrameGuard, PageLocation};
use crate::manager::Manager;
use crate::operation::WaitKey;
use crate::platform::{Direction, EngineStep, FileId, PagingRequest, Platform};
use crate::section::{ControlAreaFlags, ControlAreaId};
use crate::status::NtStatus;
use crate::tables::EntryRef;
use crate::transfer::{CLUSTER, Cluster, TransferId};

/// Pages of a file that are to be written, side by side.
#[derive(Debug)]
pub(crate) struct FileRun {
    file: FileId,
    offset: u64,
    length: u64,
    frames: Cluster,
}

/// Where a page of a file belongs.
#[derive(Clone, Copy, Debug)]
struct FilePage {
    subsection: u32,
    /// Its number in the subsection.
    index: u64,
}

impl FileRun {
    /// Pages in it.
    pub(crate) fn pages(&self) -> u64 {
        self.frames.len() as u64
    }
}

impl<P: Platform> Manager<P> {
    /// Starts a write of pages of a file, if some are modified.
    pub(super) fn write_to_file(&self) -> EngineStep {
        let mut entry = self.enter();
        let Some(id) = self.allocate_transfer(entry.token(), &self.writes) else {
            // The next completion asks for the writer.
            return EngineStep::Idle;
        };
        let Some(run) = self.gather_file_run(entry.token()) else {
            self.free_transfer(entry.token(), &self.writes, id);
            return EngineStep::Idle;
        };
        drop(entry);
        self.submit_file_run(id, &run);
        EngineStep::Worked
    }

    /// Submits a write. No lock is held.
    pub(crate) fn submit_file_run(&self, id: TransferId, run: &FileRun) {
        self.set_transfer_frames(&self.writes, id, &run.frames);
        self.platform().submit(&PagingRequest {
            token: id.token(Direction::Write),
            direction: Direction::Write,
            file: run.file,
            offset: run.offset,
            length: run.length,
            frames: &run.frames,
        });
    }

    /// Takes the oldest modified page of a file, and those that follow it there.
    fn gather_file_run(&self, token: &mut Token<'_, Unlocked>) -> Option<FileRun> {
        loop {
            let pfn = self.first_modified(Destination::File)?;
            let (table, slot) = self.entry(pfn).container();
            let at = EntryRef { table, slot };
            if self.keep_from_writing(token, pfn) {
                continue;
            }
            if self.take_for_writing(token, pfn, Some(at), Destination::File) {
                return Some(self.run_from(token, at, pfn, |manager, token, pfn, at| {
                    manager.take_for_writing(token, pfn, Some(at), Destination::File)
                }));
            }
            self.platform().relax();
        }
    }

    /// The run that begins with `pfn`, which has been taken for writing and whose prototype is at
    /// `at`; `take` takes further pages.
    pub(crate) fn run_from<L: Level + Outside<level::Frame>>(
        &self,
        token: &mut Token<'_, L>,
        at: EntryRef,
        pfn: Pfn,
        take: impl Fn(&Self, &mut Token<'_, L>, Pfn, EntryRef) -> bool,
    ) -> FileRun {
        let page = self.file_page(pfn, at);
        let subsection = self.subsection(page.subsection);
        let before = page.index * PAGE_SIZE;
        let bytes = subsection.bytes().saturating_sub(before);
        let limit = (self.config.write_cluster.clamp(1, CLUSTER as u32) as u64)
            .min(bytes.div_ceil(PAGE_SIZE))
            .min(P::Paging::ENTRIES as u64 - u64::from(at.slot.get()));
        let mut frames = Cluster::new();
        frames.push(pfn);
        for distance in 1..limit {
            let slot = Slot::from_low_bits(u64::from(at.slot.get()) + distance);
            let next = EntryRef { slot, ..at };
            let Some(pfn) = self.resident(next) else { break };
            if !self.frame_exists(pfn) || !take(self, token, pfn, next) {
                break;
            }
            frames.push(pfn);
        }
        let area = ControlAreaId(subsection.control_area());
        let record = self.control_area(area);
        record.view().word(3).fetch_add(1, Ordering::AcqRel);
        FileRun {
            file: FileId(record.file()),
            offset: subsection.offset() + before,
            length: (frames.len() as u64 * PAGE_SIZE).min(bytes),
            frames,
        }
    }

    /// The frame that a prototype names, if it names one.
    fn resident(&self, at: EntryRef) -> Option<Pfn> {
        P::Paging::resident_pfn(self.load_entry(at))
    }

    /// Where the page of a frame, which somebody keeps, belongs in its file.
    fn file_page(&self, pfn: Pfn, at: EntryRef) -> FilePage {
        let original = self.entry(pfn).original();
        let Some((subsection, record)) = self.subsection_of(original) else {
            self.corrupt_frame(crate::frames::lists::WRONG_STATE, pfn)
        };
        let from = self.pool_offset_of(at).bytes().wrapping_sub(record.prototypes());
        FilePage { subsection, index: from / P::Paging::ENTRY_BYTES as u64 }
    }

    /// Moves a page that is not to be written to the list of those, if that is so.
    fn keep_from_writing(&self, token: &mut Token<'_, Unlocked>, pfn: Pfn) -> bool {
        let mut frame = self.lock_frame(token, pfn);
        if frame.location() != PageLocation::Modified || self.may_write(&frame) {
            return false;
        }
        self.unlink_modified(&mut frame);
        let (to, position) = (PageLocation::ModifiedNoWrite, crate::frames::lists::Position::Tail);
        self.insert_on_list(&mut frame, to, position);
        true
    }

    /// Whether the section of a page allows that it is written.
    pub(crate) fn may_write(&self, frame: &FrameGuard<'_, '_, P>) -> bool {
        self.subsection_of(frame.entry().original()).is_none_or(|(_, subsection)| {
            let area = self.control_area(ControlAreaId(subsection.control_area()));
            !area.state().contains(ControlAreaFlags::NO_MODIFIED_WRITING)
        })
    }

    /// Takes a page of a file for writing wherever it is, if it has been changed: for a flush.
    pub(crate) fn take_changed<L>(&self, token: &mut Token<'_, L>, pfn: Pfn, at: EntryRef) -> Taken
    where
        L: Level + Outside<level::Frame> + Outside<level::List>,
    {
        let mut frame = self.lock_frame(token, pfn);
        let (table, slot) = frame.entry().container();
        if at != (EntryRef { table, slot }) {
            return Taken::NothingToWrite;
        }
        if frame.has(FrameFlags::WRITE_IN_PROGRESS) {
            return Taken::Busy;
        }
        if !frame.has(FrameFlags::MODIFIED)
            || self.subsection_of(frame.entry().original()).is_none()
        {
            return Taken::NothingToWrite;
        }
        if matches!(frame.location(), PageLocation::Modified | PageLocation::ModifiedNoWrite) {
            self.unlink_modified(&mut frame);
            frame.set_location(PageLocation::Transition);
            frame.entry().set_u1_and_share(0, 0);
        }
        frame.remove(FrameFlags::MODIFIED);
        frame.insert(FrameFlags::WRITE_IN_PROGRESS);
        frame.add_reference();
        Taken::Yes
    }

    /// The control area that counts a write of these frames, if they are pages of a file.
    pub(super) fn area_of_write(&self, frames: &Cluster) -> Option<ControlAreaId> {
        let original = self.entry(*frames.first()?).original();
        let (_, subsection) = self.subsection_of(original)?;
        Some(ControlAreaId(subsection.control_area()))
    }

    /// A write of pages of a file has ended.
    pub(super) fn end_file_write(&self, id: ControlAreaId, result: Result<(), NtStatus>) {
        let area = self.control_area(id);
        if let Err(status) = result {
            area.view().word(15).store(u64::from(status.code()), Ordering::Release);
        }
        area.view().word(3).fetch_sub(1, Ordering::AcqRel);
        self.sections.advance();
        self.platform().wake(WaitKey::Sections);
        self.check_control_area(id);
    }
}

/// Whether a flush took a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is to be written.
    Yes,
    /// There is nothing to write.
    NothingToWrite,
    /// It is being written.
    Busy,
}
