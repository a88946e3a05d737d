//! The paging files (MMPAGING_FILE, NtCreatePagingFile, spec 9.1-9.3).
//!
//! A file's slot 0 is never used, so that offset 0 in an entry can mean "no copy". A slot is
//! allocated when a page is first written and belongs, from then on, to the page's entry or to
//! the original entry of its frame, until the page is deleted or the copy becomes stale.

use ntmm_pte::{PageFileOffset, Pages, PagingFileNumber, Pfn, PteFormat, PteWord};
use ntmm_sync::atomic::{AtomicBool, AtomicU32, Ordering};
use ntmm_sync::level::{self, Level, Outside, Token};
use ntmm_sync::lock::WordLock;

use super::bitmap::{Bitmap, Mark, SLOTS_LIMIT, SlotRun};
use crate::frames::entry::FrameFlags;
use crate::frames::take::Want;
use crate::frames::{FrameGuard, FrameUse};
use crate::manager::Manager;
use crate::platform::{Engine, FileId, Platform};
use crate::status::NtStatus;

/// Paging files a machine can have.
pub const FILES: usize = 16;

/// Smallest paging file: 1 MiB.
pub const SMALLEST: Pages = Pages::new(256);

/// One paging file. The host gives its id; everything else belongs to the lock, but for the
/// counts, which are read without it.
#[derive(Debug, Default)]
struct PagingFile {
    published: AtomicBool,
    host: AtomicU32,
    directory: AtomicU32,
    size: AtomicU32,
    maximum: AtomicU32,
    in_use: AtomicU32,
    peak: AtomicU32,
    hint: AtomicU32,
    lock: WordLock,
}

/// The files of a machine.
#[derive(Debug)]
pub(crate) struct PagingFiles {
    files: [PagingFile; FILES],
    count: AtomicU32,
    creating: AtomicBool,
}

/// A view of one paging file's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagingFileFigures {
    /// Number in entries.
    pub number: u8,
    /// Current size, slot 0 included.
    pub size: Pages,
    /// Size it may grow to.
    pub maximum: Pages,
    /// Slots in use, without slot 0.
    pub in_use: Pages,
    /// Highest number of slots in use so far.
    pub peak: Pages,
}

impl PagingFiles {
    pub(crate) fn new() -> Self {
        Self {
            files: core::array::from_fn(|_| PagingFile::default()),
            count: AtomicU32::new(0),
            creating: AtomicBool::new(false),
        }
    }

    fn file(&self, number: PagingFileNumber) -> Option<&PagingFile> {
        self.files
            .get(usize::from(number.get()))
            .filter(|file| file.published.load(Ordering::Acquire))
    }

    /// Numbers of the files there are.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = PagingFileNumber> + use<> {
        let count = self.count.load(Ordering::Acquire) as u8;
        (0..count).filter_map(PagingFileNumber::new)
    }

    /// The host's id of a file.
    pub(crate) fn file_id(&self, number: PagingFileNumber) -> Option<FileId> {
        self.file(number).map(|file| FileId(file.host.load(Ordering::Relaxed)))
    }

    /// Whether any file's lock is held.
    pub(crate) fn any_held(&self) -> bool {
        self.files.iter().any(|file| file.lock.is_held())
    }

    /// Figures of each file.
    pub(crate) fn figures(&self) -> impl Iterator<Item = PagingFileFigures> {
        let pages = |count: &AtomicU32| Pages::new(u64::from(count.load(Ordering::Acquire)));
        self.numbers().filter_map(move |number| {
            let file = self.file(number)?;
            Some(PagingFileFigures {
                number: number.get(),
                size: pages(&file.size),
                maximum: pages(&file.maximum),
                in_use: pages(&file.in_use),
                peak: pages(&file.peak),
            })
        })
    }
}

impl<P: Platform> Manager<P> {
    /// Adds a paging file of `minimum` pages that may grow to `maximum` (NtCreatePagingFile).
    /// The host has opened the file and made it at least `minimum` pages long.
    ///
    /// # Errors
    /// [`NtStatus::TOO_MANY_PAGING_FILES`]; [`NtStatus::INVALID_PARAMETER_2`] for a minimum
    /// below 1 MiB or beyond what the entries of this paging mode can name;
    /// [`NtStatus::INVALID_PARAMETER_3`] for a maximum below the minimum or beyond that limit;
    /// [`NtStatus::COMMITMENT_LIMIT`] or [`NtStatus::INSUFFICIENT_RESOURCES`] when there are no
    /// frames for the bitmap.
    pub fn create_paging_file(
        &self,
        host: FileId,
        minimum: Pages,
        maximum: Pages,
    ) -> Result<PagingFileNumber, NtStatus> {
        if self.paging_files.count.load(Ordering::Acquire) as usize >= FILES {
            return Err(NtStatus::TOO_MANY_PAGING_FILES);
        }
        let limit = u64::from(SLOTS_LIMIT).min(u64::from(P::Paging::MAX_PAGE_FILE_OFFSET));
        if minimum < SMALLEST || minimum.get() > limit {
            return Err(NtStatus::INVALID_PARAMETER_2);
        }
        if maximum < minimum || maximum.get() > limit {
            return Err(NtStatus::INVALID_PARAMETER_3);
        }
        if self.paging_files.creating.swap(true, Ordering::Acquire) {
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        }
        let outcome = self.add_paging_file(host, minimum, maximum);
        self.paging_files.creating.store(false, Ordering::Release);
        outcome
    }

    fn add_paging_file(
        &self,
        host: FileId,
        minimum: Pages,
        maximum: Pages,
    ) -> Result<PagingFileNumber, NtStatus> {
        let count = self.paging_files.count.load(Ordering::Acquire);
        let number = PagingFileNumber::new(count as u8).ok_or(NtStatus::TOO_MANY_PAGING_FILES)?;
        let file =
            self.paging_files.files.get(count as usize).ok_or(NtStatus::TOO_MANY_PAGING_FILES)?;
        let bits = Bitmap::<P>::frames_for(maximum.get() as u32);
        // The frames are lost to programs as long as the machine runs.
        let charge = self.charge_commitment(Pages::new(u64::from(bits) + 1))?;
        let mut reservation =
            self.try_reserve_pages(bits + 1).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        let _ = charge.keep();
        let mut entry = self.enter();
        let mut take = || {
            let color = self.colors.wrapping(0);
            let usage = FrameUse::PagingFileBitmap;
            let mut frame =
                self.take_frame(entry.token(), &mut reservation, color, Want::Zeroed, usage);
            frame.add_mapping();
            frame.pfn()
        };
        let directory = take();
        let size = minimum.get() as u32;
        let bitmap = Bitmap::new(self.platform(), directory, size);
        for part in 0..bits {
            bitmap.set_frame(part, take());
        }
        bitmap.mark(SlotRun { start: 0, count: 1 }, Mark::Used);
        file.host.store(host.0, Ordering::Relaxed);
        file.directory.store(directory.get(), Ordering::Relaxed);
        file.size.store(size, Ordering::Relaxed);
        file.maximum.store(maximum.get() as u32, Ordering::Relaxed);
        file.hint.store(1, Ordering::Relaxed);
        file.published.store(true, Ordering::Release);
        self.paging_files.count.store(count + 1, Ordering::Release);
        self.commit.raise_limit(minimum.saturating_sub(Pages::new(1)));
        self.platform().request(Engine::ModifiedWriter);
        Ok(number)
    }

    fn bitmap(&self, file: &PagingFile) -> Bitmap<'_, P> {
        Bitmap::new(
            self.platform(),
            Pfn::new(file.directory.load(Ordering::Relaxed)),
            file.size.load(Ordering::Relaxed),
        )
    }

    fn with_paging_file<L: Level + Outside<level::Shard>, T>(
        &self,
        _token: &mut Token<'_, L>,
        file: &PagingFile,
        action: impl FnOnce(&Bitmap<'_, P>) -> T,
    ) -> T {
        self.platform().interleave();
        file.lock.acquire(|| self.platform().relax());
        let outcome = action(&self.bitmap(file));
        file.lock.release();
        outcome
    }

    /// Allocates a run of up to `count` slots, in the file that has most room.
    pub(crate) fn allocate_slots<L: Level + Outside<level::Shard>>(
        &self,
        token: &mut Token<'_, L>,
        count: u32,
    ) -> Option<(PagingFileNumber, SlotRun)> {
        let free = |file: &PagingFile| {
            file.size.load(Ordering::Acquire) - 1 - file.in_use.load(Ordering::Acquire)
        };
        let number = self
            .paging_files
            .numbers()
            .max_by_key(|&number| self.paging_files.file(number).map_or(0, free))?;
        let file = self.paging_files.file(number).filter(|file| free(file) > 0)?;
        self.with_paging_file(token, file, |bitmap| {
            let run = bitmap.find(file.hint.load(Ordering::Relaxed), count)?;
            bitmap.mark(run, Mark::Used);
            file.hint.store(run.start + run.count, Ordering::Relaxed);
            let in_use = file.in_use.fetch_add(run.count, Ordering::AcqRel) + run.count;
            file.peak.fetch_max(in_use, Ordering::AcqRel);
            Some((number, run))
        })
    }

    /// Releases a run of slots.
    pub(crate) fn release_slots<L: Level + Outside<level::Shard>>(
        &self,
        token: &mut Token<'_, L>,
        number: PagingFileNumber,
        run: SlotRun,
    ) {
        if run.count == 0 {
            return;
        }
        if let Some(file) = self.paging_files.file(number) {
            self.with_paging_file(token, file, |bitmap| bitmap.mark(run, Mark::Free));
            file.in_use.fetch_sub(run.count, Ordering::AcqRel);
            if self.writer.wants_space() {
                self.platform().request(Engine::ModifiedWriter);
            }
        }
    }

    /// Releases the slot an entry names, if it names one (MiReleasePageFileSpace).
    pub(crate) fn release_slot_of<L: Level + Outside<level::Shard>>(
        &self,
        token: &mut Token<'_, L>,
        word: u64,
    ) {
        if let Some((number, offset)) = P::Paging::page_file_location(word) {
            self.release_slots(token, number, SlotRun { start: offset.get(), count: 1 });
        }
    }

    /// Releases the slot of a frame's original entry, which becomes demand zero: the copy is
    /// stale or the page is gone.
    pub(crate) fn release_original_slot(&self, frame: &mut FrameGuard<'_, '_, P>) {
        let original = frame.entry().original();
        if P::Paging::page_file_location(original).is_some() {
            frame.entry().set_original(P::Paging::without_page_file(original));
            self.release_slot_of(frame.token(), original);
        }
    }

    /// Gives a frame's original entry a slot.
    pub(crate) fn assign_slot(
        &self,
        frame: &mut FrameGuard<'_, '_, P>,
        number: PagingFileNumber,
        offset: PageFileOffset,
    ) {
        debug_assert!(frame.has(FrameFlags::WRITE_IN_PROGRESS));
        self.release_original_slot(frame);
        let protection = P::Paging::software_protection(frame.entry().original());
        let original = P::Paging::page_file(number, offset, protection);
        frame.entry().set_original(self.with_table_count(original, frame));
    }

    /// Whether a slot is in use by the bitmap of its file. For auditors.
    pub(crate) fn slot_is_used(&self, number: PagingFileNumber, slot: u32) -> bool {
        self.paging_files.file(number).is_some_and(|file| self.bitmap(file).is_used(slot))
    }

    /// A file's bitmap, 64 slots at a time. For auditors.
    pub(crate) fn slot_words(&self, number: PagingFileNumber) -> impl Iterator<Item = u64> {
        self.paging_files.file(number).into_iter().flat_map(|file| self.bitmap(file).words())
    }

    /// Set bits of a file's bitmap. For auditors.
    pub(crate) fn slots_marked(&self, number: PagingFileNumber) -> u32 {
        self.paging_files.file(number).map_or(0, |file| self.bitmap(file).used())
    }
}
