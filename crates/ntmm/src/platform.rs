//! The platform boundary: what a machine gives the manager.
//!
//! The boundary is hardware plus executive services, not "map and unmap": the manager owns
//! page-table formats, accessed and dirty bits and the discipline of translation buffers. Five
//! small traits say what is needed, [`Platform`] composes them; all methods take `&self`
//! because every processor of the machine calls them.
//!
//! Rules that hold across the boundary:
//!
//! * [`PagingIo::submit`] is called with no lock held and may complete at once; completions
//!   enter through [`Manager::complete_io`](crate::Manager::complete_io).
//! * Entries that are not present are never cached by a translation buffer, so making an entry
//!   valid needs no flush.
//! * [`Executive::interleave`] is called before each access to a page-table word and each list
//!   operation. A kernel does nothing there; a simulator may run other processors.
//! * Manager locks raise the interrupt level through [`Executive::raise`], are held for a
//!   bounded time and leave inter-processor interrupts enabled.

use ntmm_pte::{Pages, PagingMode, Pfn, Va};
use ntmm_sync::frame::FrameWords;

use crate::address_space::AddressSpaceId;
use crate::events::{Event, Notification};
use crate::operation::WaitKey;
use crate::status::{BugCheck, NtStatus};

/// A machine: everything the manager stands on.
pub trait Platform: Ram + Mmu + PagingIo + Executive + Trace {
    /// The format of this machine's page tables.
    type Paging: PagingMode;
}

/// Physical memory.
pub trait Ram {
    /// The frame `pfn`. Called only with frames inside [`Ram::memory`] ranges and ranges that
    /// were added later. A frame that was taken back is not written any more, but a processor
    /// that is inside the manager at that moment may still read a word of it, without believing
    /// it: it has to stay readable.
    fn frame(&self, pfn: Pfn) -> &FrameWords;

    /// Fills a frame with zeroes.
    fn zero(&self, pfn: Pfn);

    /// The ranges of frames handed to the manager at boot, in ascending order without overlap.
    /// Frames outside them are never touched, unless
    /// [`Manager::add_memory`](crate::Manager::add_memory) hands them over later.
    fn memory(&self) -> impl Iterator<Item = FrameRange>;

    /// Page colours the second-level cache distinguishes; the manager clamps it (spec 3.6).
    fn cache_colors(&self) -> u32;
}

/// A run of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRange {
    /// First frame.
    pub start: Pfn,
    /// Number of frames.
    pub count: Pages,
}

impl FrameRange {
    /// The number behind the last frame. It may be no frame number any more.
    #[must_use]
    pub const fn end(self) -> u64 {
        (self.start.get() as u64).saturating_add(self.count.get())
    }

    /// Whether `pfn` lies inside.
    #[must_use]
    pub const fn contains(self, pfn: Pfn) -> bool {
        pfn.get() >= self.start.get() && (pfn.get() as u64) < self.end()
    }

    /// Its frames, ascending.
    pub fn frames(self) -> impl Iterator<Item = Pfn> {
        let end = u32::try_from(self.end()).unwrap_or(u32::MAX);
        (self.start.get()..end).map(Pfn::new)
    }
}

/// The memory-management unit of every processor.
pub trait Mmu {
    /// A root table has been made and nobody uses it yet. A host that keeps mappings of its own in
    /// every address space writes their entries into it now. They may lie in any slot that is
    /// neither a program's nor one of the manager's (self-map and hyperspace, spec 1.2); the
    /// manager leaves them alone, also when the address space goes.
    #[inline]
    fn adopt_root(&self, _root: Pfn) {}

    /// Starts removing translations of `scope` from every processor that runs, or may still
    /// hold translations of, that address space. The ticket tells when all have done so. A
    /// machine with one processor flushes at once and returns an acknowledged ticket.
    ///
    /// When a flush that was not acknowledged at once becomes so, the host wakes
    /// [`WaitKey::Flush`] for its ticket and steps [`Engine::Retire`], which gives the frames back.
    fn flush(&self, scope: FlushScope<'_>) -> FlushTicket;

    /// Whether every processor has acknowledged the flush. Once true it stays true.
    fn acknowledged(&self, ticket: FlushTicket) -> bool;
}

/// What a flush removes.
#[derive(Clone, Copy, Debug)]
pub enum FlushScope<'a> {
    /// The translations of these pages, and the table entries on the way to them.
    Pages {
        /// Address space.
        space: AddressSpaceId,
        /// Any address in each page.
        pages: &'a [Va],
    },
    /// Everything of an address space.
    Space {
        /// Address space.
        space: AddressSpaceId,
    },
}

/// Names a flush that has been started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlushTicket(u64);

impl FlushTicket {
    /// The ticket with this number; the numbering belongs to the platform.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The platform's number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Paging input and output.
pub trait PagingIo {
    /// Starts a transfer between frames and a file. Called with no manager lock held. The
    /// frames stay the manager's and are not reused before the transfer is reported complete,
    /// exactly once, through [`Manager::complete_io`](crate::Manager::complete_io); that may
    /// happen before this returns.
    fn submit(&self, request: &PagingRequest<'_>);

    /// The size of a file in bytes: the end of its data, in no way rounded. Asked for files that
    /// sections map, never for paging files. Called with no manager lock held.
    ///
    /// # Errors
    /// What the host says. A host that has only paging files says INVALID_FILE_FOR_SECTION.
    fn file_size(&self, _file: FileId) -> Result<u64, NtStatus> {
        Err(NtStatus::INVALID_FILE_FOR_SECTION)
    }

    /// Makes a file `size` bytes long, longer or shorter than it was. What is added reads as
    /// zeroes. Called with no manager lock held, and never for paging files. Transfers may be
    /// under way.
    ///
    /// # Errors
    /// What the host says, DISK_FULL when there is no room; the file then has its old size. A
    /// host that has only paging files says INVALID_FILE_FOR_SECTION.
    fn set_file_size(&self, _file: FileId, _size: u64) -> Result<(), NtStatus> {
        Err(NtStatus::INVALID_FILE_FOR_SECTION)
    }
}

/// Bytes in a sector: transfers begin at its multiples.
pub const SECTOR: u64 = 512;

/// A transfer between frames and a run of bytes in a file.
///
/// A transfer of a paging file moves whole pages at the multiple of a page. One of another file
/// may begin at any sector and end at any byte:
///
/// * A read fills all its frames: with what the file has in the run, and everything else, behind
///   the run as behind the end of the file, with zeroes.
/// * A write moves exactly the run and nothing behind it, whatever is in the rest of the last
///   frame. It never makes a file longer: what lies behind the end, because the file has been
///   made shorter meanwhile, is left out, and that is no error.
#[derive(Clone, Copy, Debug)]
pub struct PagingRequest<'a> {
    /// Handed back on completion.
    pub token: IoToken,
    /// Direction.
    pub direction: Direction,
    /// File, as the host named it when it gave the file to the manager.
    pub file: FileId,
    /// Byte in the file at which the run begins, a multiple of [`SECTOR`].
    pub offset: u64,
    /// Bytes in the run: as many as the frames have, less at most 4095 of the last one.
    pub length: u64,
    /// Frames in file order, 1 to 16 of them.
    pub frames: &'a [Pfn],
}

/// Direction of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the file into the frames.
    Read,
    /// From the frames into the file.
    Write,
}

/// A file of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// Names an outstanding transfer. Opaque to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoToken(pub(crate) u64);

/// Services of the executive and the processor.
pub trait Executive {
    /// Time since boot in units of 100 ns.
    fn now(&self) -> SystemTime;

    /// Raises the interrupt level of this processor to DISPATCH_LEVEL and returns the level it
    /// had. At that level the thread is not preempted and touching pageable memory is bug check
    /// 0xA.
    fn raise(&self) -> Irql;

    /// Returns this processor to a level [`Executive::raise`] gave.
    fn lower(&self, previous: Irql);

    /// Called repeatedly while a lock is found held by another processor.
    fn relax(&self);

    /// Called where another processor's interference matters: before each load or change of a
    /// page-table word and before each list operation. Nothing on a real machine.
    #[inline]
    fn interleave(&self) {}

    /// Asked before frames or records are allocated: true makes the allocation fail. Always
    /// false on a real machine; a simulator proves with it that failure is survived, and wakes
    /// [`WaitKey::AvailablePages`] and [`WaitKey::Records`] a while later.
    #[inline]
    fn fail_allocation(&self) -> bool {
        false
    }

    /// Wakes every thread that parked on `key`. May be called with locks held and for keys
    /// nobody waits for.
    fn wake(&self, key: WaitKey);

    /// Asks that [`Manager::step_engine`](crate::Manager::step_engine) be called for `engine`
    /// soon. May be called with locks held; repeated requests may be merged.
    fn request(&self, engine: Engine);

    /// A random number (page colours of new processes).
    fn random(&self) -> u64;

    /// Tells the host of a change it may pass on to programs. May be called with locks held.
    fn notify(&self, notification: Notification);

    /// Stops the machine: the manager's records are corrupt or a driver broke a rule.
    fn bug_check(&self, bug_check: BugCheck) -> !;
}

/// Interrupt request level of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Irql(pub u8);

impl Irql {
    /// Ordinary threads.
    pub const PASSIVE: Self = Self(0);
    /// Asynchronous procedure calls held off.
    pub const APC: Self = Self(1);
    /// The scheduler held off; pageable memory may not be touched.
    pub const DISPATCH: Self = Self(2);
}

/// Time since boot in units of 100 ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SystemTime(pub u64);

/// A background engine of the manager: NT's system threads as step functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// Zeroes free pages (MmZeroPageThread).
    Zeroing,
    /// Writes modified pages to paging files (MiModifiedPageWriter).
    ModifiedWriter,
    /// Ages and trims working sets (the balance set manager). Also due once a second.
    Balance,
    /// Gives back frames whose translations every processor has now forgotten.
    Retire,
    /// Deletes sections that nobody uses any more (MiDereferenceSegmentThread).
    Dereference,
}

impl Engine {
    /// All engines.
    pub const ALL: [Self; 5] =
        [Self::Zeroing, Self::ModifiedWriter, Self::Balance, Self::Retire, Self::Dereference];
}

/// What a step of an engine achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineStep {
    /// Something was done; step again to do more.
    Worked,
    /// Nothing to do until the next request.
    Idle,
}

/// Where the manager's events go.
pub trait Trace {
    /// Whether events are wanted; a constant, so that the calls vanish when they are not.
    const ENABLED: bool;

    /// Records an event. May be called with locks held.
    fn event(&self, event: &Event);
}
