//! The manager on a toy machine: one processor, memory in a vector, a paging file in another.
//!
//! `cargo run -p ntmm --example embed` reserves and commits memory, touches more of it than the
//! machine has frames, and reads everything back.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};

use ntmm::platform::{
    Direction, Executive, FileId, FlushScope, FlushTicket, FrameRange, IoToken, Irql, Mmu,
    PagingIo, PagingRequest, Ram, SystemTime, Trace,
};
use ntmm::virtual_memory::{Allocate, AllocationType, Placement};
use ntmm::working_set::WorkingSetLimits;
use ntmm::{
    AddressSpaceId, BugCheck, Config, DeleteAddressSpace, Engine, EngineStep, Event, Fault,
    Manager, Notification, NtStatus, Operation, Platform, ProcessorMode, Step, WaitKey,
};
use ntmm_pte::{
    AccessKind, Amd64, Bytes, Level, PAGE_SIZE, Pages, PagingMode, Pfn, Protection, PteWord, Va,
};
use ntmm_sync::frame::FrameWords;

const FRAMES: u32 = 96;
const PAGES: u64 = 200;
const PAGE: u64 = 4096;
const WORDS: usize = 512;

/// The machine. A platform's methods take `&self`, so what changes is in cells.
struct Toy {
    ram: Vec<FrameWords>,
    disk: RefCell<Vec<u64>>,
    /// Transfers that are done but not reported yet.
    done: RefCell<Vec<IoToken>>,
    irql: Cell<Irql>,
}

impl Ram for Toy {
    fn frame(&self, pfn: Pfn) -> &FrameWords {
        &self.ram[pfn.get() as usize]
    }
    fn zero(&self, pfn: Pfn) {
        self.frame(pfn).iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }
    fn memory(&self) -> impl Iterator<Item = FrameRange> {
        std::iter::once(FrameRange { start: Pfn::new(0), count: Pages::new(FRAMES.into()) })
    }
    fn cache_colors(&self) -> u32 {
        64
    }
}

/// No translation buffer: every access walks the tables, so a flush has nothing to do.
impl Mmu for Toy {
    fn flush(&self, _scope: FlushScope<'_>) -> FlushTicket {
        FlushTicket::new(0)
    }
    fn acknowledged(&self, _ticket: FlushTicket) -> bool {
        true
    }
}

impl PagingIo for Toy {
    fn submit(&self, request: &PagingRequest<'_>) {
        let mut disk = self.disk.borrow_mut();
        for (page, &pfn) in ((request.offset / PAGE_SIZE) as usize..).zip(request.frames) {
            for (word, slot) in self.frame(pfn).iter().zip(&mut disk[page * WORDS..]) {
                match request.direction {
                    Direction::Read => word.store(*slot, Ordering::Relaxed),
                    Direction::Write => *slot = word.load(Ordering::Relaxed),
                }
            }
        }
        self.done.borrow_mut().push(request.token);
    }
}

impl Executive for Toy {
    fn now(&self) -> SystemTime {
        // Time stands still: the balance engine works only when memory runs short.
        SystemTime(0)
    }
    fn raise(&self) -> Irql {
        self.irql.replace(Irql::DISPATCH)
    }
    fn lower(&self, previous: Irql) {
        self.irql.set(previous);
    }
    fn relax(&self) {}
    fn wake(&self, _key: WaitKey) {}
    fn request(&self, _engine: Engine) {}
    fn random(&self) -> u64 {
        4
    }
    fn notify(&self, _notification: Notification) {}
    fn bug_check(&self, bug_check: BugCheck) -> ! {
        panic!("{bug_check}")
    }
}

impl Trace for Toy {
    const ENABLED: bool = false;
    fn event(&self, _event: &Event) {}
}

impl Platform for Toy {
    type Paging = Amd64;
}

/// Steps an operation to its end. There is one thread, so waiting means doing what the
/// background engines and the disk would do.
fn complete<O: Operation<Toy>>(
    manager: &Manager<Toy>,
    mut operation: O,
) -> Result<O::Output, NtStatus> {
    loop {
        match manager.step(&mut operation) {
            Step::Done(output) => return Ok(output),
            Step::Raise(status) => return Err(status),
            Step::Wait(_) => {
                for token in manager.platform().done.take() {
                    manager.complete_io(token, Ok(()));
                }
                for engine in Engine::ALL {
                    while manager.step_engine(engine) == EngineStep::Worked {}
                }
            }
        }
    }
}

/// What a processor does with a user address: walk, set the accessed and dirty bits, or fault.
fn access(
    manager: &Manager<Toy>,
    space: AddressSpaceId,
    va: Va,
    kind: AccessKind,
) -> Result<Pfn, NtStatus> {
    loop {
        let mut table = manager.root(space).ok_or(NtStatus::INVALID_HANDLE)?;
        let mut level = Some(Level::Top);
        while let Some(at) = level {
            let entry = &manager.platform().frame(table)[Amd64::slot(va, at).index()];
            let word = entry.load(Ordering::Relaxed);
            if !Amd64::is_valid(word) || (kind == AccessKind::Write && !Amd64::is_writable(word)) {
                break;
            }
            let mut seen = Amd64::set_accessed(word);
            if kind == AccessKind::Write && at == Level::Table {
                seen = Amd64::set_dirty(seen);
            }
            entry.store(seen, Ordering::Relaxed);
            table = Amd64::valid_pfn(word);
            level = at.down();
            if level.is_none() {
                return Ok(table);
            }
        }
        complete(manager, Fault::new(space, va, kind, ProcessorMode::User))?;
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let toy = Toy {
        ram: (0..FRAMES).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect(),
        disk: RefCell::new(vec![0; 1024 * WORDS]),
        done: RefCell::default(),
        irql: Cell::new(Irql::PASSIVE),
    };
    let manager = Manager::new(toy, Config::default())?;
    manager.create_paging_file(FileId(0), Pages::new(1024), Pages::new(1024))?;
    let space = manager.create_address_space(WorkingSetLimits::for_memory(FRAMES))?;
    let (size, kind) = (Bytes::new(PAGES * PAGE), AllocationType::ReserveAndCommit);
    let allocate = Allocate::new(space, Placement::Lowest, size, kind, Protection::READWRITE);
    let region = complete(&manager, allocate)?;
    println!("{PAGES} pages at {:#x} on a machine of {FRAMES} frames", region.base.get());

    let word_of = |page: u64| Va::new(region.base.get() + page * PAGE);
    for page in 0..PAGES {
        let pfn = access(&manager, space, word_of(page), AccessKind::Write)?;
        manager.platform().frame(pfn)[0].store(page * page, Ordering::Relaxed);
    }
    for page in 0..PAGES {
        let pfn = access(&manager, space, word_of(page), AccessKind::Read)?;
        assert_eq!(manager.platform().frame(pfn)[0].load(Ordering::Relaxed), page * page);
    }
    let faults = manager.counters();
    let (zero, soft, hard) = (&faults.demand_zero, &faults.transition, &faults.page_file);
    println!(
        "{} demand-zero, {} transition, {} page-file faults",
        zero.get(),
        soft.get(),
        hard.get()
    );
    complete(&manager, DeleteAddressSpace::new(space))?;
    let committed = manager.memory_figures().committed.get();
    println!("{committed} pages committed after the process is gone");
    Ok(())
}
