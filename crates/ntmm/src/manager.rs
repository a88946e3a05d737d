//! The manager: one value for each machine, and how it takes over memory.

use arrayvec::ArrayVec;
use core::fmt;

use ntmm_pte::{Pages, Pfn, PteFormat, Va};
use ntmm_sync::level::{Token, Unlocked};

use crate::address_space::SpaceTable;
use crate::commit::{Commit, RESERVE};
use crate::counters::Counters;
use crate::flush::FlushTable;
use crate::frames::PageLocation;
use crate::frames::available::{Available, Thresholds};
use crate::frames::colors::Colors;
use crate::frames::entry::{ENTRIES_PER_FRAME, FrameState, FrameUse, PfnEntry};
use crate::frames::lists::{PageLists, Position};
use crate::memory::Memory;
use crate::operation::{Epoch, Operation, Step, WaitKey};
use crate::paging_file::PagingFiles;
use crate::paging_file::modified_writer::{WRITES, Writer};
use crate::platform::{Direction, Engine, EngineStep, FrameRange, IoToken, Irql, Platform};
use crate::section::Sections;
use crate::status::{BugCheck, BugCheckCode, NtStatus};
use crate::tables::EntryRef;
use crate::transfer::{TransferId, Transfers};
use crate::working_set::balance::Balance;

/// What a host may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Pages read with one faulting page at most, itself included: 1 to 16.
    pub read_cluster: u32,
    /// Pages written at once at most: 1 to 16.
    pub write_cluster: u32,
    /// Length of the modified list at which writing starts though pages are not short
    /// (MmModifiedPageMaximum); none for a share of memory.
    pub modified_maximum: Option<u32>,
    /// Thresholds of available pages; none for NT's values.
    pub thresholds: Option<Thresholds>,
    /// Frames there may be one day: the database has entries for them from the beginning, 32
    /// bytes each, so that those not lent at boot can be added later
    /// ([`Manager::add_memory`]). None: only what lies between the lowest and the highest frame
    /// lent at boot.
    pub span: Option<FrameRange>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            read_cluster: 8,
            write_cluster: 16,
            modified_maximum: None,
            thresholds: None,
            span: None,
        }
    }
}

/// Why a machine could not be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// Too little memory (bug check 0x7D, INSTALL_MORE_MEMORY): frames there are, and frames
    /// needed for the manager itself and one small process.
    InstallMoreMemory {
        /// Frames of the memory map.
        frames: u32,
        /// Smallest number that would do.
        needed: u32,
    },
    /// A frame number, lent or in the span, exceeds what the page tables can name.
    FrameOutOfReach(Pfn),
    /// The ranges of the memory map overlap or do not ascend, or there are more than 32.
    BadMemoryMap,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InstallMoreMemory { frames, needed } => write!(
                f,
                "too little memory: {frames} frames of 4 KiB, at least {needed} are needed"
            ),
            Self::FrameOutOfReach(pfn) => {
                write!(f, "frame {:#x} cannot be named by these page tables", pfn.get())
            }
            Self::BadMemoryMap => {
                write!(f, "the ranges of the memory map overlap or do not ascend")
            }
        }
    }
}

impl core::error::Error for BootError {}

/// The memory manager of one machine.
#[derive(Debug)]
pub struct Manager<P: Platform> {
    platform: P,
    pub(crate) config: Config,
    lowest: Pfn,
    entries: u32,
    database: Pfn,
    pub(crate) colors: Colors,
    pub(crate) color_heads: Pfn,
    pub(crate) lists: PageLists,
    pub(crate) available: Available,
    pub(crate) modified_maximum: u32,
    pub(crate) commit: Commit,
    pub(crate) memory: Memory,
    pub(crate) spaces: SpaceTable,
    pub(crate) flush: FlushTable,
    pub(crate) reads: Transfers,
    pub(crate) writes: Transfers,
    pub(crate) paging_files: PagingFiles,
    pub(crate) writer: Writer,
    pub(crate) sections: Sections,
    pub(crate) balance: Balance,
    pub(crate) counters: Counters,
}

/// The frames a machine keeps for the manager's fixed records.
#[derive(Clone, Copy, Debug)]
struct Layout {
    database: u32,
    colors: u32,
    spaces: u32,
    flush: u32,
    reads: u32,
    writes: u32,
}

impl Layout {
    const fn for_memory(entries: u32, frames: u32, colors: Colors) -> Self {
        Self {
            database: entries.div_ceil(ENTRIES_PER_FRAME as u32),
            colors: colors.head_frames(),
            spaces: 1 + if frames / 2048 < 63 { frames / 2048 } else { 63 },
            flush: 1,
            reads: 1 + frames / 16_384,
            writes: 1,
        }
    }

    const fn total(self) -> u32 {
        self.database + self.colors + self.spaces + self.flush + self.reads + self.writes
    }
}

/// Frames beyond its own records without which a machine is of no use: the commit reserve and
/// a small process.
pub(crate) const SMALLEST_REST: u32 = RESERVE as u32 + 16;

const RANGES: usize = 32;

impl<P: Platform> Manager<P> {
    /// Takes over the memory of `platform`.
    ///
    /// # Errors
    /// See [`BootError`]; no memory has been touched then.
    pub fn new(platform: P, config: Config) -> Result<Self, BootError> {
        let ranges = memory_ranges(&platform)?;
        let span = config.span.filter(|span| span.count.get() > 0);
        let starts = ranges.first().map(|range| range.start).into_iter();
        let lowest = starts.chain(span.map(|span| span.start)).min().unwrap_or(Pfn::new(0));
        let ends = ranges.last().map(|range| range.end()).into_iter();
        let highest = ends.chain(span.map(FrameRange::end)).max().unwrap_or(0);
        if highest > u64::from(u32::MAX) {
            return Err(BootError::BadMemoryMap);
        }
        if highest > u64::from(P::Paging::MAX_PFN.get()) + 1 {
            return Err(BootError::FrameOutOfReach(Pfn::new((highest - 1) as u32)));
        }
        let frames = ranges.iter().map(|range| range.count.get() as u32).sum::<u32>();
        let entries = (highest - u64::from(lowest.get())) as u32;
        let colors = Colors::clamped(platform.cache_colors());
        let layout = Layout::for_memory(entries, frames, colors);
        let needed = layout.total() + SMALLEST_REST;
        // The records take one run of frames, the beginning of the first range they fit into.
        let home = ranges.iter().find(|range| range.count.get() >= u64::from(layout.total()));
        let Some(home) = home.copied().filter(|_| frames >= needed) else {
            return Err(BootError::InstallMoreMemory { frames, needed });
        };
        let mut next = home.start.get();
        let mut take = |count: u32| {
            let first = Pfn::new(next);
            next += count;
            first
        };
        let (database, color_heads) = (take(layout.database), take(layout.colors));
        let (spaces, flush) = (take(layout.spaces), take(layout.flush));
        let (reads, writes) = (take(layout.reads), take(layout.writes));
        let manager = Self {
            platform,
            config,
            lowest,
            entries,
            database,
            colors,
            color_heads,
            lists: PageLists::new(),
            available: Available::new(
                config.thresholds.unwrap_or_else(|| Thresholds::for_memory(frames)),
            ),
            modified_maximum: config.modified_maximum.unwrap_or_else(|| modified_maximum(frames)),
            commit: Commit::default(),
            memory: Memory::new(frames, layout.total()),
            spaces: SpaceTable::new(spaces, layout.spaces),
            flush: FlushTable::new(flush, layout.flush),
            reads: Transfers::new(Direction::Read, reads, layout.reads, u32::MAX),
            writes: Transfers::new(Direction::Write, writes, layout.writes, WRITES),
            paging_files: PagingFiles::new(),
            writer: Writer::default(),
            sections: Sections::new(),
            balance: Balance::default(),
            counters: Counters::default(),
        };
        manager.fill_database(&ranges, home.start, layout.total());
        manager
            .commit
            .raise_limit(Pages::new(u64::from(manager.available.pages()).saturating_sub(RESERVE)));
        Ok(manager)
    }

    /// Gives every frame its first state: the records are the manager's, the rest is free, and
    /// numbers without memory are absent.
    fn fill_database(&self, ranges: &[FrameRange], records: Pfn, count: u32) {
        for number in 0..count {
            self.platform.zero(Pfn::new(records.get() + number));
        }
        self.clear_color_heads();
        let mut entry = self.enter();
        let mut next = self.lowest.get();
        for range in ranges {
            for number in next..range.start.get() {
                let state = FrameState::taken(FrameUse::Absent);
                self.entry(Pfn::new(number)).initialize(state);
            }
            for pfn in range.frames() {
                let mut frame = self.lock_frame(entry.token(), pfn);
                let own = records.get()..records.get() + count;
                if own.contains(&pfn.get()) {
                    frame.begin(FrameUse::Manager);
                    frame.add_mapping();
                } else {
                    frame.begin(FrameUse::None);
                    self.insert_on_list(&mut frame, PageLocation::Free, Position::Tail);
                }
            }
            next = range.end() as u32;
        }
        for number in next..self.lowest.get() + self.entries {
            self.entry(Pfn::new(number)).initialize(FrameState::taken(FrameUse::Absent));
        }
    }

    /// The machine.
    pub const fn platform(&self) -> &P {
        &self.platform
    }

    /// What the host chose.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Event counters.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The database entry of `pfn`, a frame of this machine.
    #[inline]
    pub(crate) fn entry(&self, pfn: Pfn) -> PfnEntry<'_> {
        let index = pfn.get().wrapping_sub(self.lowest.get());
        let frame = self.database.get() + index / ENTRIES_PER_FRAME as u32;
        PfnEntry::new(self.platform.frame(Pfn::new(frame)), index as usize)
    }

    /// Whether `pfn` is a number the database has an entry for.
    pub(crate) fn frame_exists(&self, pfn: Pfn) -> bool {
        pfn.get().checked_sub(self.lowest.get()).is_some_and(|index| index < self.entries)
    }

    /// Numbers of all entries of the database, absent frames included.
    pub(crate) fn frame_numbers(&self) -> impl Iterator<Item = Pfn> + use<P> {
        (self.lowest.get()..self.lowest.get() + self.entries).map(Pfn::new)
    }

    /// Enters the manager: DISPATCH_LEVEL, and the token every lock is taken with.
    pub(crate) fn enter(&self) -> Entered<'_, P> {
        Entered { manager: self, irql: self.platform.raise(), token: Token::entry() }
    }

    /// Steps an operation once.
    pub fn step<O: Operation<P>>(&self, operation: &mut O) -> Step<O::Output> {
        operation.step(self)
    }

    /// Gives back what an operation holds that will not be stepped again.
    pub fn abandon<O: Operation<P>>(&self, operation: O) {
        operation.abandon(self);
    }

    /// Steps a background engine once.
    pub fn step_engine(&self, engine: Engine) -> EngineStep {
        match engine {
            Engine::ModifiedWriter => return self.step_modified_writer(),
            Engine::Dereference => return self.step_dereference(),
            Engine::Zeroing | Engine::Balance | Engine::Retire => {}
        }
        let mut entry = self.enter();
        match engine {
            Engine::Zeroing => self.step_zeroing(entry.token()),
            Engine::Balance => self.step_balance(entry.token()),
            Engine::Retire | Engine::ModifiedWriter | Engine::Dereference => {
                self.step_retire(entry.token())
            }
        }
    }

    /// Reports that a transfer has ended. Called once for each, at DISPATCH_LEVEL or below.
    pub fn complete_io(&self, token: IoToken, result: Result<(), NtStatus>) {
        let (direction, id) = TransferId::from_token(token);
        let table = match direction {
            Direction::Read => &self.reads,
            Direction::Write => &self.writes,
        };
        if !self.transfer_in_flight(table, id) {
            self.bug_check(BugCheckCode::MemoryManagement, [0, token.0, 0, 0]);
        }
        let mut entry = self.enter();
        match direction {
            Direction::Read => self.complete_read(entry.token(), id, result),
            Direction::Write => self.complete_write(entry.token(), id, result),
        }
    }

    /// Whether what an operation decided to wait for is still to come. The host asks under the
    /// lock its wake function takes, before it parks the thread.
    #[must_use]
    pub fn still_pending(&self, key: WaitKey, epoch: Epoch) -> bool {
        match key {
            WaitKey::InPage(id) => self.read_is_pending(id, epoch),
            WaitKey::AvailablePages => self.available.epoch() == epoch,
            WaitKey::Records => self.flush.epoch() == epoch,
            WaitKey::AddressCreation(space) => self
                .find_space(space)
                .is_some_and(|list| self.header_at(list).creation_epoch() == epoch.0),
            WaitKey::Sections => self.sections.epoch() == epoch,
            WaitKey::Flush(ticket) => !self.platform.acknowledged(ticket),
        }
    }

    fn bug_check(&self, code: BugCheckCode, parameters: [u64; 4]) -> ! {
        self.platform.bug_check(BugCheck { code, parameters })
    }

    /// A frame's entry contradicts itself or its page-table entry.
    pub(crate) fn corrupt_frame(&self, kind: u64, pfn: Pfn) -> ! {
        let state = self.entry(pfn).state();
        self.bug_check(
            BugCheckCode::PfnListCorrupt,
            [kind, u64::from(pfn.get()), state.to_word(), u64::from(self.entry(pfn).share())],
        )
    }

    /// The entry of `va` is not what the working set says.
    pub(crate) fn corrupt_entry(&self, va: Va) -> ! {
        self.bug_check(BugCheckCode::MemoryManagement, [0x41284, va.get(), 0, 0])
    }

    /// A page-table entry changed under the lock that protects it.
    pub(crate) fn corrupt_table(&self, entry: EntryRef) -> ! {
        let parameters = [
            0x411,
            u64::from(entry.table.get()),
            u64::from(entry.slot.get()),
            self.load_entry(entry),
        ];
        self.bug_check(BugCheckCode::MemoryManagement, parameters)
    }

    /// The free list of a working set is corrupt.
    pub(crate) fn corrupt_working_set(&self, index: u32) -> ! {
        self.bug_check(BugCheckCode::MemoryManagement, [0x5003, u64::from(index), 0, 0])
    }
}

/// A stay inside the manager: interrupt level raised, no lock held yet.
#[derive(Debug)]
#[must_use]
pub(crate) struct Entered<'m, P: Platform> {
    manager: &'m Manager<P>,
    irql: Irql,
    token: Token<'static, Unlocked>,
}

impl<P: Platform> Entered<'_, P> {
    /// The token for locks.
    pub(crate) const fn token(&mut self) -> &mut Token<'static, Unlocked> {
        &mut self.token
    }
}

impl<P: Platform> Drop for Entered<'_, P> {
    fn drop(&mut self) {
        self.manager.platform.lower(self.irql);
    }
}

fn memory_ranges<P: Platform>(platform: &P) -> Result<ArrayVec<FrameRange, RANGES>, BootError> {
    let mut ranges = ArrayVec::<FrameRange, RANGES>::new();
    for range in platform.memory() {
        let after_last =
            ranges.last().is_none_or(|last| last.end() <= u64::from(range.start.get()));
        if !after_last || range.end() > u64::from(u32::MAX) || ranges.try_push(range).is_err() {
            return Err(BootError::BadMemoryMap);
        }
    }
    Ok(ranges)
}

/// MmModifiedPageMaximum: NT's sizes, in proportion on small machines.
fn modified_maximum(frames: u32) -> u32 {
    (frames / 16).clamp(8, 300)
}
