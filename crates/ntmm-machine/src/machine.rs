//! The simulated machine: memory, processors, disks, clock and the scheduler's lists as one value.
//!
//! Everything changes through `&self`, because every processor calls into the one machine; it
//! lives on one thread of the host. The platform traits are implemented in
//! [`platform`](crate::platform), the translation of addresses in
//! [`translation`](crate::translation).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;

use ntmm::address_space::AddressSpaceId;
use ntmm::events::{Event, Notification};
use ntmm::operation::WaitKey;
use ntmm::platform::{Engine, FileId, FlushTicket, IoToken, Irql, Trace};
use ntmm::status::NtStatus;
use ntmm_pte::{Pfn, Va};

use crate::clock::Clock;
use crate::config::{Behaviour, Config, MAXIMUM_CPUS, Preemption};
use crate::cpu::{ActiveSpace, CpuId, Processor, Scope};
use crate::disk::Disk;
use crate::format::Hardware;
use crate::halt::Violation;
use crate::ram::{FrameSlot, Ram};
use crate::random::{Random, Stream};
use crate::retained::{References, SpaceTag};
use crate::sabotage::{Defect, Sabotage};
use crate::scheduler::Scheduler;
use crate::switch::{Pause, Suspension, Switch};
use crate::transfers::{Order, Transfers};

/// No events are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTrace;

impl Trace for NoTrace {
    const ENABLED: bool = false;

    fn event(&self, _event: &Event) {}
}

/// What a machine has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Memory references of programs.
    pub references: u64,
    /// References that the translation buffer did not answer at once: on a plain machine walks
    /// of the tables, on an adversarial one all.
    pub misses: u64,
    /// Translations taken up unasked.
    pub speculations: u64,
    /// Flushes started by the manager.
    pub flushes: u64,
    /// Flushes that other processors were told of.
    pub shootdowns: u64,
    /// Times a processor was stopped in the middle of the manager or of a walk.
    pub preemptions: u64,
    /// Notifications of the manager to its host.
    pub notifications: u64,
    /// Allocations of the manager that were made to fail.
    pub refused_allocations: u64,
}

/// A simulated machine. `M` is the paging mode of its processors, `T` hears the manager's
/// events.
#[derive(Debug)]
pub struct Machine<M: Hardware, T: Trace = NoTrace> {
    pub(crate) config: Config,
    pub(crate) ram: Ram,
    pub(crate) clock: Clock,
    pub(crate) processors: Vec<Processor>,
    pub(crate) current: Cell<CpuId>,
    pub(crate) references: References,
    tickets: Cell<u64>,
    unacknowledged: RefCell<BTreeMap<FlushTicket, u32>>,
    pub(crate) transfers: RefCell<Transfers<IoToken>>,
    pub(crate) scheduler: RefCell<Scheduler>,
    pub(crate) switch: Rc<Switch>,
    /// Points left until the next preemption; zero in a machine that is never preempted.
    countdown: Cell<u32>,
    pub(crate) translation_random: Random,
    pub(crate) scheduler_random: Random,
    pub(crate) executive_random: Random,
    sabotage_random: Random,
    /// Allocations yet to be granted, and to be refused after them.
    failing_allocations: Cell<(u32, u32)>,
    pub(crate) statistics: Cell<Statistics>,
    pub(crate) notifications: RefCell<Vec<Notification>>,
    tracer: T,
    mode: PhantomData<M>,
}

impl<M: Hardware, T: Trace> Machine<M, T> {
    /// A machine that has just been switched on.
    ///
    /// # Panics
    /// When the configuration asks for no processor, too many, or overlapping memory: it is the
    /// host's own.
    #[must_use]
    pub fn new(config: Config, clock: Clock, tracer: T) -> Self {
        assert!(
            (1..=MAXIMUM_CPUS).contains(&config.cpus),
            "a machine has 1 to {MAXIMUM_CPUS} processors, not {}",
            config.cpus
        );
        let ram = Ram::new(&config.memory);
        let random = |stream| Random::new(config.seed, stream);
        let order = match config.behaviour {
            Behaviour::Plain => Order::Submission,
            Behaviour::Adversarial(_) => Order::Random,
        };
        let faults = config.disk_faults.clone();
        let machine = Self {
            references: References::new(ram.frames()),
            ram,
            clock,
            processors: (0..config.cpus).map(|_| Processor::new::<M>()).collect(),
            current: Cell::new(CpuId(0)),
            tickets: Cell::new(0),
            unacknowledged: RefCell::default(),
            transfers: RefCell::new(Transfers::new(
                config.disk,
                faults,
                order,
                random(Stream::Disk),
                Sabotage::chance_of(config.sabotage, Defect::EarlyCompletion),
            )),
            scheduler: RefCell::default(),
            switch: Rc::default(),
            countdown: Cell::new(0),
            translation_random: random(Stream::Translation),
            scheduler_random: random(Stream::Scheduler),
            executive_random: random(Stream::Executive),
            sabotage_random: random(Stream::Sabotage),
            failing_allocations: Cell::new((0, 0)),
            statistics: Cell::default(),
            notifications: RefCell::default(),
            tracer,
            mode: PhantomData,
            config,
        };
        machine.draw_countdown();
        machine
    }

    /// Adds a disk for a paging file and names it for the manager. Data files are added by
    /// [`attach_file`](Self::attach_file).
    pub fn attach(&self, disk: Box<dyn Disk>) -> FileId {
        self.transfers.borrow_mut().storage_mut().attach(disk)
    }

    /// How the machine was built.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Memory, as bytes.
    #[must_use]
    pub const fn ram(&self) -> &Ram {
        &self.ram
    }

    /// The clock.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Who hears the manager's events.
    #[must_use]
    pub const fn tracer(&self) -> &T {
        &self.tracer
    }

    /// A processor.
    #[must_use]
    pub fn processor(&self, cpu: CpuId) -> &Processor {
        &self.processors[cpu.index()]
    }

    /// The processor that runs.
    #[must_use]
    pub fn current(&self) -> &Processor {
        self.processor(self.current.get())
    }

    /// What the machine has done.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.statistics.get()
    }

    /// Takes the notifications that have come since the last call.
    #[must_use]
    pub fn take_notifications(&self) -> Vec<Notification> {
        self.notifications.take()
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Statistics)) {
        let mut statistics = self.statistics.get();
        change(&mut statistics);
        self.statistics.set(statistics);
    }

    pub(crate) fn count_references(&self, count: u64) {
        self.count(|statistics| statistics.references += count);
    }

    /// The slot of a frame the manager or a page table names.
    #[inline]
    pub(crate) fn slot(&self, pfn: Pfn) -> FrameSlot {
        match self.ram.slot(pfn) {
            Some(slot) => slot,
            None => Violation::NoMemory(u64::from(pfn.get())).raise(),
        }
    }

    /// Loads CR3 of a processor. Plainly, translations of the old space are forgotten; an
    /// adversarial processor may keep them until they are flushed.
    pub fn activate(&self, cpu: CpuId, space: Option<ActiveSpace>) {
        let processor = self.processor(cpu);
        let before = processor.active.replace(space);
        if before == space {
            return;
        }
        match (self.config.behaviour, before) {
            (_, None) => {}
            (Behaviour::Plain, Some(_)) => processor.tlb.flush_all(),
            (Behaviour::Adversarial(adversary), Some(before)) => {
                if !self.translation_random.happens(adversary.retain) {
                    processor.retained.borrow_mut().flush_space(before.tag, &self.references);
                }
            }
        }
    }

    // Preemption.

    /// A point where another processor's interference matters.
    #[inline]
    pub(crate) fn preemption_point(&self) {
        let left = self.countdown.get();
        if left != 0 && self.counted_down(left) {
            self.deliver_shootdowns();
        }
    }

    /// The same in the middle of an instruction, where no interrupt is taken: flushes that are
    /// under way wait until the instruction is done.
    #[inline]
    pub(crate) fn pause_instruction(&self) {
        let left = self.countdown.get();
        if left != 0 {
            self.counted_down(left);
        }
    }

    /// Counts a point down and changes processors when it is the last; says whether it was.
    #[cold]
    fn counted_down(&self, left: u32) -> bool {
        if left > 1 {
            self.countdown.set(left - 1);
            return false;
        }
        // A fiber that unwinds is not left half unwound.
        if !std::thread::panicking() {
            self.suspend(Pause::Preempted);
        }
        true
    }

    /// Lets other processors run.
    pub(crate) fn suspend(&self, why: Pause) -> Suspension {
        let cpu = self.current.get();
        let outcome = self.switch.suspend(why);
        self.current.set(cpu);
        self.draw_countdown();
        if outcome == Suspension::Resumed {
            self.count(|statistics| statistics.preemptions += 1);
        }
        outcome
    }

    fn draw_countdown(&self) {
        if let Behaviour::Adversarial(adversary) = self.config.behaviour
            && let Preemption::AtPoints { mean } = adversary.preemption
        {
            let points = 1 + self.scheduler_random.below(u64::from(mean.max(1)) * 2 - 1);
            self.countdown.set(points as u32);
        }
    }

    // Flushes.

    /// Starts a flush: here at once, elsewhere by telling each processor concerned.
    pub(crate) fn begin_flush(&self, space: SpaceTag, pages: Option<&[Va]>) -> FlushTicket {
        let ticket = FlushTicket::new(self.tickets.get() + 1);
        self.tickets.set(ticket.get());
        self.count(|statistics| statistics.flushes += 1);
        if self.sabotaged(Defect::SkippedFlush) {
            return ticket;
        }
        self.flush_local(self.current(), space, pages);
        let mut told = 0;
        for (number, processor) in self.processors.iter().enumerate() {
            if number == self.current.get().index() {
                continue;
            }
            match self.config.behaviour {
                Behaviour::Plain => self.flush_local(processor, space, pages),
                Behaviour::Adversarial(_) => {
                    if processor.is_in(space) || processor.retained.borrow().holds(space) {
                        let scope = match pages {
                            Some(pages) => Scope::Pages(space, pages.to_vec()),
                            None => Scope::Space(space),
                        };
                        processor.tell(ticket, scope);
                        told += 1;
                    }
                }
            }
        }
        if told > 0 && !self.sabotaged(Defect::EarlyAcknowledgement) {
            self.unacknowledged.borrow_mut().insert(ticket, told);
            self.count(|statistics| statistics.shootdowns += u64::from(told));
        }
        ticket
    }

    /// Whether every processor has made a flush that was started.
    pub(crate) fn is_acknowledged(&self, ticket: FlushTicket) -> bool {
        ticket.get() <= self.tickets.get() && !self.unacknowledged.borrow().contains_key(&ticket)
    }

    fn flush_local(&self, processor: &Processor, space: SpaceTag, pages: Option<&[Va]>) {
        match self.config.behaviour {
            Behaviour::Plain if !processor.is_in(space) => {}
            Behaviour::Plain => match pages {
                Some(pages) => pages.iter().for_each(|va| processor.tlb.flush_page(*va)),
                None => processor.tlb.flush_all(),
            },
            Behaviour::Adversarial(_) => {
                let mut retained = processor.retained.borrow_mut();
                match pages {
                    Some(pages) => pages
                        .iter()
                        .for_each(|va| retained.flush_page(space, *va, &self.references)),
                    None => retained.flush_space(space, &self.references),
                }
            }
        }
    }

    /// Takes the inter-processor interrupts that wait for the current processor: makes the
    /// flushes it was told of and acknowledges them.
    pub(crate) fn deliver_shootdowns(&self) {
        let processor = self.current();
        loop {
            let Some(shootdown) = processor.shootdowns.borrow_mut().pop_front() else {
                return;
            };
            let pages = match &shootdown.scope {
                Scope::Pages(_, pages) => Some(pages.as_slice()),
                Scope::Space(_) => None,
            };
            self.flush_local(processor, shootdown.scope.space(), pages);
            self.acknowledge(shootdown.ticket);
        }
    }

    fn acknowledge(&self, ticket: FlushTicket) {
        let mut unacknowledged = self.unacknowledged.borrow_mut();
        if let Some(left) = unacknowledged.get_mut(&ticket) {
            *left -= 1;
            if *left == 0 {
                unacknowledged.remove(&ticket);
                let mut scheduler = self.scheduler.borrow_mut();
                scheduler.wake(WaitKey::Flush(ticket));
                scheduler.request(Engine::Retire);
            }
        }
    }

    // Transfers.

    /// Completes a transfer that is due, if there is one.
    pub(crate) fn complete_due_transfer(&self) -> Option<(IoToken, Result<(), NtStatus>)> {
        self.transfers.borrow_mut().complete_due(self.clock.nanoseconds(), &self.ram)
    }

    // Faults injected by the host.

    /// Lets the manager's next `after` allocations go through and the `count` behind them fail.
    pub fn fail_allocations(&self, after: u32, count: u32) {
        self.failing_allocations.set((after, count));
    }

    /// Whether an allocation fails now. Threads that waited because of it are woken in the
    /// processor's next turn.
    pub(crate) fn refuses_allocation(&self) -> bool {
        let refused = match self.failing_allocations.get() {
            (0, 0) => self.executive_random.happens(self.config.allocation_failure),
            (0, count) => {
                self.failing_allocations.set((0, count - 1));
                true
            }
            (after, count) => {
                self.failing_allocations.set((after - 1, count));
                false
            }
        };
        if refused {
            self.current().refused.set(true);
            self.count(|statistics| statistics.refused_allocations += 1);
        }
        refused
    }

    /// Wakes threads that may wait because the current processor was refused an allocation.
    pub(crate) fn wake_refused(&self) {
        if self.current().refused.take() {
            let mut scheduler = self.scheduler.borrow_mut();
            scheduler.wake(WaitKey::AvailablePages);
            scheduler.wake(WaitKey::Records);
        }
    }

    /// Whether the machine shows a defect now.
    pub(crate) fn sabotaged(&self, defect: Defect) -> bool {
        self.sabotage_random.happens(Sabotage::chance_of(self.config.sabotage, defect))
    }

    // What auditors ask.

    /// How many cached translations, and cached tables on the way, of all processors reach a
    /// frame. A look-up in an adversarial machine, a search in a plain one.
    #[must_use]
    pub fn tlb_references(&self, pfn: Pfn) -> u32 {
        match self.config.behaviour {
            Behaviour::Adversarial(_) => self.references.count(self.slot(pfn)),
            Behaviour::Plain => self.stale_translations(pfn).count() as u32,
        }
    }

    /// The cached translations, and cached tables on the way, that reach a frame: a processor,
    /// the space they belong to, and an address they translate. A search.
    pub fn stale_translations(&self, pfn: Pfn) -> impl Iterator<Item = (CpuId, SpaceTag, Va)> {
        let slot = self.slot(pfn);
        self.processors.iter().enumerate().flat_map(move |(number, processor)| {
            let cpu = CpuId(number as u32);
            let retained: Vec<_> = processor.retained.borrow().addresses_of(slot).collect();
            let tag = processor.active.get().map(|active| active.tag);
            let plain = tag
                .into_iter()
                .flat_map(move |tag| processor.tlb.addresses_of(slot).map(move |va| (tag, va)));
            plain.chain(retained).map(move |(tag, va)| (cpu, tag, va))
        })
    }

    /// Checks that no processor can reach a frame any more: it is about to be, or has been,
    /// used for something else.
    ///
    /// # Errors
    /// The violation, when one can.
    pub fn check_unreachable(&self, pfn: Pfn) -> Result<(), Violation> {
        match self.tlb_references(pfn) {
            0 => Ok(()),
            references => Err(Violation::Reachable { pfn, references }),
        }
    }

    /// How many transfers under way move a frame.
    #[must_use]
    pub fn transfers_of(&self, pfn: Pfn) -> usize {
        self.transfers.borrow().transfers_of(self.slot(pfn))
    }

    /// The transfers the disks are working on.
    #[must_use]
    pub fn transfers_under_way(&self) -> usize {
        self.transfers.borrow().under_way()
    }

    /// Checks that the current processor is back at PASSIVE_LEVEL, where a step of the manager
    /// begins and ends.
    pub(crate) fn check_passive(&self) {
        let irql = self.current().irql();
        if irql != Irql::PASSIVE {
            Violation::LockHeld { cpu: self.current.get(), irql }.raise();
        }
    }
}

/// The tag of an address space.
#[must_use]
pub fn tag_of(space: AddressSpaceId) -> SpaceTag {
    SpaceTag(space.index())
}
