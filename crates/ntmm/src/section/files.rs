//! What file systems and the cache ask of the sections of a file
//! (MmDisableModifiedWriteOfSection, MmCanFileBeTruncated, MmPurgeSection, spec 8.10).
//!
//! A file system that logs its changes writes its own pages: it keeps the mapped-page writer off
//! the file, whose modified pages are then set aside on the list of pages that are not written.
//!
//! A file is made shorter only while no program has its data mapped or a section of them. What is
//! in memory of the part that goes is thrown away first, without being written.

use ntmm_pte::{PAGE_SIZE, Pages, PteWord};
use ntmm_sync::atomic::Ordering;
use ntmm_sync::frame::{WORDS_PER_FRAME, WordIndex, word};

use super::control_area::{ControlAreaFlags, ControlAreaId};
use crate::fault::{Blocked, Holds};
use crate::frames::{FrameGuard, FrameUse};
use crate::manager::Manager;
use crate::operation::{Operation, Pause, Step};
use crate::platform::{Engine, FileId, Platform};
use crate::status::NtStatus;

/// Who writes the modified pages of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModifiedWriting {
    /// The mapped-page writer, when it comes to them.
    ByManager,
    /// The file system alone.
    ByFileSystem,
}

impl<P: Platform> Manager<P> {
    /// Says who writes the modified pages of a file's data (MmDisableModifiedWriteOfSection).
    ///
    /// # Errors
    /// [`NtStatus::INVALID_FILE_FOR_SECTION`] when the file's data have no control area.
    pub fn set_modified_writing(&self, file: FileId, by: ModifiedWriting) -> Result<(), NtStatus> {
        let mut entry = self.enter();
        let sections = self.lock_sections(entry.token());
        let id = sections.find_area(file).ok_or(NtStatus::INVALID_FILE_FOR_SECTION)?;
        let area = self.control_area(id);
        let flag = ControlAreaFlags::NO_MODIFIED_WRITING;
        let flags = match by {
            ModifiedWriting::ByManager => area.state().difference(flag),
            ModifiedWriting::ByFileSystem => area.state().union(flag),
        };
        area.set_flags(flags.bits());
        self.platform().request(Engine::ModifiedWriter);
        Ok(())
    }
}

/// Asks to make a file shorter, or throws away what is in memory of its end
/// (MmCanFileBeTruncated with MmPurgeSection). The file system holds the file meanwhile. Done:
/// nothing of the file's data from `size` on is in memory, and the file may be made that short.
///
/// Raises [`NtStatus::USER_MAPPED_FILE`] when a program has a section or a view of the data.
#[derive(Debug)]
#[must_use]
pub struct TruncateSection {
    file: FileId,
    size: u64,
    holds: Holds,
    /// The control area, being purged, and the next page.
    purging: Option<(ControlAreaId, u64)>,
}

impl TruncateSection {
    /// Makes room for cutting `file` to `size` bytes.
    pub const fn new(file: FileId, size: u64) -> Self {
        Self { file, size, holds: Holds::new(), purging: None }
    }

    /// Finds the control area and keeps others from it. Done when there is nothing to do.
    fn start<P: Platform>(&mut self, manager: &Manager<P>) -> Result<Option<()>, Pause> {
        let mut entry = manager.enter();
        let sections = manager.lock_sections(entry.token());
        let Some(id) = sections.find_area(self.file) else { return Ok(Some(())) };
        let area = manager.control_area(id);
        let busy = ControlAreaFlags::BEING_CREATED
            | ControlAreaFlags::BEING_DELETED
            | ControlAreaFlags::BEING_PURGED;
        if area.state().intersects(busy) {
            return Err(sections.wait().into());
        }
        if area.user_references() > 0 || area.mapped_views() > 0 {
            return Err(NtStatus::USER_MAPPED_FILE.into());
        }
        if area.size() <= self.size {
            return Ok(Some(()));
        }
        if !area.is_idle() {
            return Err(sections.wait().into());
        }
        area.set_flags((area.state() | ControlAreaFlags::BEING_PURGED).bits());
        self.purging = Some((id, self.size / PAGE_SIZE));
        Ok(None)
    }

    fn purge<P: Platform>(&mut self, manager: &Manager<P>) -> Result<(), Blocked> {
        let Some((id, next)) = &mut self.purging else { return Ok(()) };
        let pages = manager.control_area(*id).pages();
        while *next < pages {
            let kept = self.size.saturating_sub(*next * PAGE_SIZE);
            manager.purge_page(*id, Pages::new(*next), kept)?;
            *next += 1;
        }
        let mut entry = manager.enter();
        let mut sections = manager.lock_sections(entry.token());
        sections.extend(*id, self.size);
        Ok(())
    }

    fn finish<P: Platform>(&mut self, manager: &Manager<P>) {
        self.holds.release(manager);
        if let Some((id, _)) = self.purging.take() {
            let mut entry = manager.enter();
            let mut sections = manager.lock_sections(entry.token());
            let area = manager.control_area(id);
            let flags = area.state().difference(ControlAreaFlags::BEING_PURGED);
            area.set_flags(flags.bits());
            sections.wake_waiters();
            manager.check_control_area(id);
        }
    }
}

impl<P: Platform> Manager<P> {
    /// Throws away what is in memory of a page of a file that nobody maps, but for its first
    /// `kept` bytes.
    fn purge_page(&self, id: ControlAreaId, page: Pages, kept: u64) -> Result<(), Blocked> {
        let Some(prototype) = self.find_prototype(id, page) else { return Ok(()) };
        let mut entry = self.enter();
        let token = entry.token();
        let held = match self.hold_prototype(token, prototype.at) {
            Ok(held) => held,
            Err(_) if self.is_pool_untouched(token, prototype.at) => return Ok(()),
            Err(blocked) => return Err(blocked),
        };
        let word = self.load_entry(held.entry());
        let Some(pfn) = P::Paging::resident_pfn(word) else { return Ok(()) };
        let mut frame = self.lock_frame(token, pfn);
        if self.load_entry(held.entry()) != word {
            return Err(Blocked::Restart);
        }
        if frame.state().references() > 0 {
            // A transfer or a flush; both end by themselves.
            return Err(self.record_wait().into());
        }
        if kept > 0 {
            self.clear_tail(&frame, kept);
            return Ok(());
        }
        if self.exchange_entry(held.entry(), word, 0).is_err() {
            return Err(Blocked::Restart);
        }
        self.entry(held.entry().table).drop_share();
        self.discount_file_page(&frame);
        self.end_page(&mut frame);
        Ok(())
    }

    /// Clears the bytes of a frame of a section from `from` on.
    fn clear_tail(&self, frame: &FrameGuard<'_, '_, P>, from: u64) {
        debug_assert!(frame.state().usage() == FrameUse::Section);
        let words = self.platform().frame(frame.pfn());
        for number in (from / 8) as usize..WORDS_PER_FRAME {
            let place = word(words, WordIndex::wrapping(number));
            let bytes = from.saturating_sub(number as u64 * 8).min(8) as u32;
            let mask = if bytes == 0 { 0 } else { u64::MAX >> (64 - 8 * bytes) };
            place.fetch_and(mask, Ordering::AcqRel);
        }
    }
}

impl<P: Platform> Operation<P> for TruncateSection {
    type Output = ();

    fn step(&mut self, manager: &Manager<P>) -> Step<()> {
        if self.purging.is_none() {
            match self.start(manager) {
                Ok(None) => {}
                Ok(Some(())) => return Step::Done(()),
                Err(pause) => return Err(pause).into(),
            }
        }
        let outcome = loop {
            let blocked = match self.holds.check(manager).map_err(Blocked::from) {
                Ok(()) => match self.purge(manager) {
                    Ok(()) => break Ok(()),
                    Err(blocked) => blocked,
                },
                Err(blocked) => blocked,
            };
            match self.holds.absorb(manager, blocked) {
                None => {}
                Some(Pause::Wait(wait)) => return Step::Wait(wait),
                Some(pause) => break Err(pause),
            }
        };
        self.finish(manager);
        outcome.into()
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.finish(manager);
    }
}
