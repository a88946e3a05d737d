//! A small machine for one paging mode, driven by hand: reads and writes complete when the test
//! says so, and flushes are acknowledged when it says so.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use ntmm::platform::{
    Direction, Executive, FileId, FlushScope, FlushTicket, FrameRange, IoToken, Irql, Mmu,
    PagingIo, PagingRequest, Ram, SystemTime, Trace,
};
use ntmm::virtual_memory::{Allocate, AllocationType, Free, FreeType, Placement, Protect, Region};
use ntmm::working_set::WorkingSetLimits;
use ntmm::working_set::limits::{EmptyWorkingSet, Hardness};
use ntmm::{
    AddressSpaceId, BugCheck, Config, DeleteAddressSpace, Engine, EngineStep, Event, Fault,
    Manager, Notification, NtStatus, Operation, Platform, ProcessorMode, Step, WaitKey,
};
use ntmm_check::audit::{
    Baseline, Circumstances, Defect, Depth, PendingCommit, Scratch, audit_teardown, audit_with,
};
use ntmm_pte::{
    AccessKind, Bytes, Level, PAGE_SIZE, Pages, PagingFileNumber, PagingMode, Pfn, Protection, Va,
};
use ntmm_sync::frame::FrameWords;

/// Pages of the paging file.
pub const SLOTS: u32 = 1024;

type Contents = [u64; 512];

/// The hardware.
pub struct Toy<M> {
    ram: Vec<FrameWords>,
    disk: RefCell<Vec<Contents>>,
    submitted: RefCell<Vec<IoToken>>,
    irql: Cell<Irql>,
    ticks: Cell<u64>,
    flushes: Cell<u64>,
    acknowledged: Cell<u64>,
    /// Whether flushes stay unacknowledged until the test says otherwise.
    pub slow_flushes: Cell<bool>,
    /// One allocation in this many fails; none when zero.
    pub failing: Cell<u32>,
    allocations: Cell<u32>,
    mode: std::marker::PhantomData<M>,
}

impl<M: PagingMode> Ram for Toy<M> {
    fn frame(&self, pfn: Pfn) -> &FrameWords {
        &self.ram[pfn.get() as usize]
    }
    fn zero(&self, pfn: Pfn) {
        self.frame(pfn).iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }
    fn memory(&self) -> impl Iterator<Item = FrameRange> {
        let count = Pages::new(self.ram.len() as u64);
        std::iter::once(FrameRange { start: Pfn::new(0), count })
    }
    fn cache_colors(&self) -> u32 {
        8
    }
}

impl<M: PagingMode> Mmu for Toy<M> {
    fn flush(&self, _scope: FlushScope<'_>) -> FlushTicket {
        self.flushes.set(self.flushes.get() + 1);
        if !self.slow_flushes.get() {
            self.acknowledged.set(self.flushes.get());
        }
        FlushTicket::new(self.flushes.get())
    }
    fn acknowledged(&self, ticket: FlushTicket) -> bool {
        ticket.get() <= self.acknowledged.get()
    }
}

impl<M: PagingMode> PagingIo for Toy<M> {
    fn submit(&self, request: &PagingRequest<'_>) {
        let mut disk = self.disk.borrow_mut();
        for (page, &pfn) in ((request.offset / PAGE_SIZE) as usize..).zip(request.frames) {
            for (word, value) in self.frame(pfn).iter().zip(&mut disk[page]) {
                match request.direction {
                    Direction::Read => word.store(*value, Ordering::Relaxed),
                    Direction::Write => *value = word.load(Ordering::Relaxed),
                }
            }
        }
        self.submitted.borrow_mut().push(request.token);
    }
}

impl<M: PagingMode> Executive for Toy<M> {
    fn now(&self) -> SystemTime {
        self.ticks.set(self.ticks.get() + 1000);
        SystemTime(self.ticks.get())
    }
    fn raise(&self) -> Irql {
        self.irql.replace(Irql::DISPATCH)
    }
    fn lower(&self, previous: Irql) {
        self.irql.set(previous);
    }
    fn relax(&self) {}
    fn fail_allocation(&self) -> bool {
        self.allocations.set(self.allocations.get() + 1);
        self.failing.get() != 0 && self.allocations.get().is_multiple_of(self.failing.get())
    }
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

impl<M: PagingMode> Trace for Toy<M> {
    const ENABLED: bool = false;
    fn event(&self, _event: &Event) {}
}

impl<M: PagingMode> Platform for Toy<M> {
    type Paging = M;
}

/// A manager on its machine, with the auditors beside it.
pub struct Machine<M: PagingMode> {
    pub manager: Manager<Toy<M>>,
    pub baseline: Baseline,
    scratch: RefCell<Scratch>,
    /// Whether the auditors may read the paging file.
    pub readable: Cell<bool>,
    /// Whether the auditors are told that nobody has written to any frame.
    pub untouched: Cell<bool>,
    /// Pages that operations between two steps may have charged.
    pub pending: Cell<u64>,
    /// Calls that map views and may be between two steps.
    pub pending_views: Cell<u32>,
    /// Spaces in which an operation may own address creation.
    pub owners: RefCell<Vec<AddressSpaceId>>,
}

impl<M: PagingMode> Machine<M> {
    /// A machine of `frames` frames with one paging file.
    pub fn new(frames: usize) -> Self {
        let toy = Toy {
            ram: (0..frames).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect(),
            disk: RefCell::new(vec![[0; 512]; SLOTS as usize]),
            submitted: RefCell::default(),
            irql: Cell::new(Irql::PASSIVE),
            ticks: Cell::new(0),
            flushes: Cell::new(0),
            acknowledged: Cell::new(0),
            slow_flushes: Cell::new(false),
            failing: Cell::new(0),
            allocations: Cell::new(0),
            mode: std::marker::PhantomData,
        };
        let manager = Manager::new(toy, Config::default()).expect("the machine is large enough");
        let size = Pages::new(SLOTS.into());
        manager.create_paging_file(FileId(0), size, size).expect("a paging file");
        let baseline = Baseline::of(&manager);
        let machine = Self {
            manager,
            baseline,
            scratch: RefCell::new(Scratch::new(Depth::Everything)),
            readable: Cell::new(true),
            untouched: Cell::new(false),
            pending: Cell::new(0),
            pending_views: Cell::new(0),
            owners: RefCell::default(),
        };
        machine.check();
        machine
    }

    /// What the auditors find.
    pub fn audit(&self) -> Result<(), Defect> {
        let disk = &self.manager.platform().disk;
        let read = |_: PagingFileNumber, slot: u32| {
            disk.borrow().get(slot as usize).map(|&page| Rc::new(page))
        };
        let owners = self.owners.borrow();
        let circumstances = Circumstances {
            pending_commit: PendingCommit::AtMost(Pages::new(self.pending.get())),
            pending_views: self.pending_views.get(),
            address_creation: &owners,
            read_slot: if self.readable.get() { Some(&read) } else { None },
            untouched: if self.untouched.get() { Some(&|_| true) } else { None },
        };
        audit_with(&self.manager, &mut self.scratch.borrow_mut(), &circumstances)
    }

    /// Audits; a defect fails the test.
    #[track_caller]
    pub fn check(&self) {
        if let Err(defect) = self.audit() {
            panic!("{defect}\n{defect:?}");
        }
    }

    /// Whether transfers wait to be completed.
    pub fn has_transfers(&self) -> bool {
        !self.manager.platform().submitted.borrow().is_empty()
    }

    /// Completes the oldest transfer.
    pub fn complete_transfer(&self, result: Result<(), NtStatus>) {
        let mut submitted = self.manager.platform().submitted.borrow_mut();
        if submitted.is_empty() {
            return;
        }
        let token = submitted.remove(0);
        drop(submitted);
        self.manager.complete_io(token, result);
        self.check();
    }

    /// Acknowledges every flush and lets the frames behind them go.
    pub fn acknowledge(&self) {
        let platform = self.manager.platform();
        platform.acknowledged.set(platform.flushes.get());
        self.manager.step_engine(Engine::Retire);
        self.check();
    }

    /// Steps an engine once.
    pub fn step_engine(&self, engine: Engine) -> EngineStep {
        let step = self.manager.step_engine(engine);
        self.check();
        step
    }

    /// Steps an operation once.
    pub fn step<O: Operation<Toy<M>>>(&self, operation: &mut O) -> Step<O::Output> {
        let step = self.manager.step(operation);
        self.check();
        step
    }

    /// Steps an operation to its end, doing whatever it may wait for.
    pub fn run<O: Operation<Toy<M>>>(&self, mut operation: O) -> Result<O::Output, NtStatus> {
        loop {
            match self.step(&mut operation) {
                Step::Done(output) => return Ok(output),
                Step::Raise(status) => return Err(status),
                Step::Wait(_) => {
                    self.acknowledge();
                    while self.has_transfers() {
                        self.complete_transfer(Ok(()));
                    }
                    for engine in Engine::ALL {
                        while self.step_engine(engine) == EngineStep::Worked {}
                    }
                }
            }
        }
    }

    /// A process with room for `pages` pages in its working set.
    pub fn process(&self, pages: u32) -> AddressSpaceId {
        let limits = WorkingSetLimits::new(pages, pages, Hardness::Hard).expect("limits");
        let space = self.manager.create_address_space(limits).expect("a process");
        self.check();
        space
    }

    /// Deletes a process.
    pub fn delete(&self, space: AddressSpaceId) {
        self.owners.borrow_mut().push(space);
        self.run(DeleteAddressSpace::new(space)).expect("a deletion");
        self.owners.borrow_mut().pop();
        self.check();
    }

    /// Everything that was taken for processes is back.
    pub fn check_teardown(&self) {
        self.acknowledge();
        while self.has_transfers() {
            self.complete_transfer(Ok(()));
        }
        if let Err(defect) = audit_teardown(&self.manager, &self.baseline) {
            panic!("{defect}");
        }
    }

    /// An operation that owns address creation while it runs.
    pub fn call<O: Operation<Toy<M>>>(
        &self,
        space: AddressSpaceId,
        operation: O,
    ) -> Result<O::Output, NtStatus> {
        self.owners.borrow_mut().push(space);
        self.pending.set(SLOTS.into());
        let outcome = self.run(operation);
        self.pending.set(0);
        self.owners.borrow_mut().clear();
        self.check();
        outcome
    }

    /// Reserves and commits `pages` pages at the lowest address.
    pub fn allocate(&self, space: AddressSpaceId, pages: u64) -> Region {
        self.place(space, Placement::Lowest, AllocationType::ReserveAndCommit, pages)
    }

    /// Reserves or commits `pages` pages.
    pub fn place(
        &self,
        space: AddressSpaceId,
        placement: Placement,
        kind: AllocationType,
        pages: u64,
    ) -> Region {
        let size = Bytes::new(pages * PAGE_SIZE);
        let allocate = Allocate::new(space, placement, size, kind, Protection::READWRITE);
        self.call(space, allocate).expect("an allocation")
    }

    /// Frees `pages` pages from page `first` of a region.
    pub fn free(
        &self,
        space: AddressSpaceId,
        region: Region,
        first: u64,
        pages: u64,
        kind: FreeType,
    ) {
        let size = Bytes::new(pages * PAGE_SIZE);
        let free = Free::new(space, page(region, first), size, kind);
        self.call(space, free).expect("a free");
    }

    /// Gives `pages` pages from page `first` of a region another protection.
    pub fn protect(
        &self,
        space: AddressSpaceId,
        region: Region,
        first: u64,
        pages: u64,
        protection: Protection,
    ) {
        let size = Bytes::new(pages * PAGE_SIZE);
        let protect = Protect::new(space, page(region, first), size, protection);
        self.call(space, protect).expect("a change of protection");
    }

    /// Empties a working set.
    pub fn empty(&self, space: AddressSpaceId) {
        self.run(EmptyWorkingSet::new(space)).expect("an empty working set");
    }

    /// What a processor does with an address: walk, set the bits, or fault.
    pub fn access(&self, space: AddressSpaceId, va: Va, kind: AccessKind) -> Result<Pfn, NtStatus> {
        loop {
            if let Some(pfn) = self.translate(space, va, kind) {
                return Ok(pfn);
            }
            self.run(Fault::new(space, va, kind, ProcessorMode::User))?;
        }
    }

    /// The frame at `va`, with accessed and dirty bits set, unless the access faults.
    pub fn translate(&self, space: AddressSpaceId, va: Va, kind: AccessKind) -> Option<Pfn> {
        let view = self.manager.space_view(space)?;
        let entry = view.find_entry(va, Level::Table)?;
        let word = self.manager.raw_entry(entry);
        let writes = kind == AccessKind::Write;
        if !M::is_valid(word) || (writes && !M::is_writable(word)) {
            return None;
        }
        let seen = M::set_accessed(word);
        let seen = if writes { M::set_dirty(seen) } else { seen };
        self.poke_entry(entry, seen);
        Some(M::valid_pfn(word))
    }

    /// Writes an entry as hardware or a stray pointer would.
    pub fn poke_entry(&self, entry: ntmm::tables::EntryRef, word: u64) {
        let frame = self.manager.platform().frame(entry.table);
        let slot = entry.slot.index();
        if M::ENTRY_BYTES == 8 {
            frame[slot].store(word, Ordering::Relaxed);
        } else {
            let shift = 32 * (slot % 2);
            let rest = frame[slot / 2].load(Ordering::Relaxed) & !(0xFFFF_FFFF << shift);
            frame[slot / 2].store(rest | (word << shift), Ordering::Relaxed);
        }
    }

    /// Stores `value` in page `number` of a region.
    pub fn write(&self, space: AddressSpaceId, region: Region, number: u64, value: u64) {
        let pfn = self.access(space, page(region, number), AccessKind::Write).expect("a store");
        self.manager.platform().frame(pfn)[0].store(value, Ordering::Relaxed);
    }

    /// Loads from page `number` of a region.
    pub fn read(&self, space: AddressSpaceId, region: Region, number: u64) -> u64 {
        let pfn = self.access(space, page(region, number), AccessKind::Read).expect("a load");
        self.manager.platform().frame(pfn)[0].load(Ordering::Relaxed)
    }

    /// Fills memory with pages of another process until those of `space` are in the paging
    /// file.
    pub fn push_out(&self, space: AddressSpaceId) {
        self.empty(space);
        let other = self.process(400);
        let pages = self.manager.platform().ram.len() as u64;
        let filler = self.allocate(other, pages);
        for number in 0..pages {
            self.write(other, filler, number, number);
        }
        self.delete(other);
    }

    /// A word of a frame.
    pub fn word(&self, pfn: Pfn, index: usize) -> &AtomicU64 {
        &self.manager.platform().frame(pfn)[index]
    }

    /// Word `index` of a frame's entry in the database.
    pub fn database_word(&self, pfn: Pfn, index: usize) -> &AtomicU64 {
        // The database is the first thing on the first frame.
        let number = pfn.get() as usize * 4 + index;
        self.word(Pfn::new(number as u32 / 512), number % 512)
    }
}

/// Address of page `number` of a region.
pub fn page(region: Region, number: u64) -> Va {
    Va::new(region.base.get() + number * PAGE_SIZE)
}

/// Runs a test in every paging mode.
macro_rules! every_mode {
    ($($(#[$attribute:meta])* $name:ident)*) => {
        $(
            $(#[$attribute])*
            mod $name {
                #[test]
                fn i386() {
                    super::run::$name::<ntmm_pte::I386>();
                }
                #[test]
                fn pae() {
                    super::run::$name::<ntmm_pte::Pae>();
                }
                #[test]
                fn amd64() {
                    super::run::$name::<ntmm_pte::Amd64>();
                }
            }
        )*
    };
}
pub(crate) use every_mode;
