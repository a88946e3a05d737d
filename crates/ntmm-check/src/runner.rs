//! Running a scenario.
//!
//! The list is cut into *phases*: in a phase every thread makes its own operations, in order,
//! while the machine decides how they interleave. A phase ends before an operation that must
//! not meet others: making a process, letting time pass, changing the structure of a shared
//! region. After every step of the simulation at which no processor is inside the manager the
//! auditors look at everything; in a preemptive machine, where such moments are rare, they are
//! brought about every few steps.
//!
//! In the end every process is deleted, the machine comes to rest, and everything that was taken
//! must have been given back.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use ntmm::frames::FrameUse;
use ntmm::frames::PageLocation;
use ntmm::frames::entry::{ENTRIES_PER_FRAME, FrameFlags};
use ntmm::platform::{FrameRange, Platform};
use ntmm::status::NtStatus;
use ntmm::{AddressSpaceId, BootError, CreateSection, Manager, Step};
use ntmm_machine::{
    Behaviour, Chance, Clock, Config, Costs, DiskFaults, DiskTiming, Halt, Hardware, Machine,
    Nanoseconds, NoTrace, Progress, Simulation, ThreadId,
};
use ntmm_pte::{Amd64, I386, Pae, Pages, PagingFileNumber, Pfn};

use crate::audit::{Baseline, Circumstances, PendingCommit, Scratch, audit_teardown, audit_with};
use crate::disk::{PagingDisk, PagingFile};
use crate::failure::Failure;
use crate::host_memory::HostMemory;
use crate::model::Model;
use crate::operation::{Action, Class, Operation, Thread};
use crate::sabotage::Sabotage;
use crate::scenario::Scenario;
use crate::setup::{Paging, Setup};
use crate::viewing::{self, Named};
use crate::worker::{Deleter, Restorer, Sleeper, Worker};
use crate::world::World;

/// Steps in a phase after which it is taken for endless.
const ENDLESS: u64 = 5_000_000;

/// In a plain machine looking for stale translations is a search: only every so many audits.
const PLAIN_SEARCH: u64 = 256;

/// Which of the manager's ways a run went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Demand-zero faults.
    pub demand_zero: u64,
    /// Transition faults.
    pub transition: u64,
    /// Page-file faults.
    pub page_file: u64,
    /// Faults that met a read of their page.
    pub collided: u64,
    /// Pages copied because they were written.
    pub copies_on_write: u64,
    /// Guard pages hit.
    pub guard_pages: u64,
    /// Pages read.
    pub pages_read: u64,
    /// Pages written.
    pub pages_written: u64,
    /// Reads that failed.
    pub failed_reads: u64,
    /// Writes that failed.
    pub failed_writes: u64,
    /// Pages trimmed.
    pub trimmed: u64,
    /// Pages replaced.
    pub replaced: u64,
    /// Flushes that other processors were told of.
    pub shootdowns: u64,
    /// Times a processor was stopped inside the manager.
    pub preemptions: u64,
    /// Allocations inside the manager that were made to fail.
    pub refused_allocations: u64,
    /// Frames lent at run time.
    pub frames_lent: u64,
    /// Frames taken back.
    pub frames_taken: u64,
    /// Takings back that were refused or given up.
    pub refused_removals: u64,
}

impl Coverage {
    pub(crate) fn add(&mut self, other: &Self) {
        self.demand_zero += other.demand_zero;
        self.transition += other.transition;
        self.page_file += other.page_file;
        self.collided += other.collided;
        self.copies_on_write += other.copies_on_write;
        self.guard_pages += other.guard_pages;
        self.pages_read += other.pages_read;
        self.pages_written += other.pages_written;
        self.failed_reads += other.failed_reads;
        self.failed_writes += other.failed_writes;
        self.trimmed += other.trimmed;
        self.replaced += other.replaced;
        self.shootdowns += other.shootdowns;
        self.preemptions += other.preemptions;
        self.refused_allocations += other.refused_allocations;
        self.frames_lent += other.frames_lent;
        self.frames_taken += other.frames_taken;
        self.refused_removals += other.refused_removals;
    }
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunReport {
    /// Steps of the simulation.
    pub steps: u64,
    /// Audits of the whole machine.
    pub audits: u64,
    /// Memory references made.
    pub references: u64,
    /// Ways it went.
    pub coverage: Coverage,
    /// Why the run failed, if it did.
    pub failure: Option<Failure>,
}

/// Runs a scenario.
#[must_use]
pub fn run(scenario: &Scenario) -> RunReport {
    match scenario.setup.paging {
        Paging::I386 => run_mode::<I386>(scenario),
        Paging::Pae => run_mode::<Pae>(scenario),
        Paging::Amd64 => run_mode::<Amd64>(scenario),
    }
}

fn run_mode<M: Hardware>(scenario: &Scenario) -> RunReport {
    let mut report = RunReport::default();
    match Runner::<M>::boot(&scenario.setup) {
        Err(failure) => report.failure = Some(failure),
        Ok(mut runner) => {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                runner.begin_sections(&scenario.operations)?;
                runner.execute(&scenario.operations)
            }))
            .unwrap_or_else(|payload| Err(Failure::of_panic(payload)));
            report.steps = runner.steps;
            report.audits = runner.audits;
            report.references = runner.references();
            report.coverage = runner.coverage();
            report.failure = outcome.err().map(|failure| {
                let failure = runner.world.borrow_mut().failure.take().unwrap_or(failure);
                Failure { step: runner.steps, ..failure }
            });
        }
    }
    report
}

/// A machine whose manager gets `frames` frames at boot; those withheld lie behind them.
pub(crate) fn machine_config(setup: &Setup, frames: u32) -> Config {
    let transfer = Nanoseconds::from_micros(u64::from(setup.transfer));
    let range = |frames| FrameRange { start: Pfn::new(0), count: Pages::new(u64::from(frames)) };
    Config {
        memory: vec![range(frames + setup.withheld)],
        lent_at_boot: (setup.withheld > 0).then(|| vec![range(frames)]),
        cache_colors: 8,
        cpus: setup.cpus,
        seed: setup.seed,
        costs: Costs::default(),
        quantum: setup.quantum,
        disk: DiskTiming { request: transfer, page: Nanoseconds(transfer.0 / 4) },
        disk_faults: DiskFaults {
            read_error: Chance::per_million(setup.read_errors),
            write_error: Chance::per_million(setup.write_errors),
            schedule: Vec::new(),
        },
        allocation_failure: Chance::per_million(setup.allocation_errors),
        behaviour: setup.behaviour(),
        sabotage: setup.sabotage.and_then(Sabotage::of_machine),
    }
}

pub(crate) fn manager_config(setup: &Setup) -> ntmm::Config {
    ntmm::Config {
        read_cluster: setup.read_cluster,
        write_cluster: setup.write_cluster,
        modified_maximum: (setup.modified_maximum > 0).then_some(setup.modified_maximum),
        thresholds: None,
        span: None,
    }
}

/// Frames a machine needs for its manager to boot.
pub(crate) fn boot_minimum<M: Hardware>(setup: &Setup) -> u32 {
    let mut frames = 64;
    loop {
        let config = Config::plain(Pages::new(u64::from(frames)));
        let machine = Machine::<M>::new(config, Clock::new(), NoTrace);
        match Manager::new(machine, manager_config(setup)) {
            Err(BootError::InstallMoreMemory { needed, .. }) if needed > frames => frames = needed,
            Err(BootError::InstallMoreMemory { .. }) => frames += 1,
            _ => return frames,
        }
    }
}

/// Pages charged for sections: theirs, those of their records, and the space of prototypes.
fn charged_for_sections<P: Platform>(manager: &Manager<P>) -> u64 {
    let space = manager.space_of_prototypes().and_then(|space| manager.space_view(space));
    manager.section_commit().get() + space.map_or(0, |space| space.header().commit())
}

struct Runner<M: Hardware> {
    simulation: Simulation<M, NoTrace>,
    world: Rc<RefCell<World>>,
    setup: Setup,
    scratch: Scratch,
    baseline: Baseline,
    steps: u64,
    audits: u64,
    /// References counted only to let time pass.
    slept: u64,
    audited: Audited,
}

/// Whether the last audit saw the machine as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audited {
    Current,
    Outdated,
}

/// Attempts to make a section before anybody wants one.
const SECTION_ATTEMPTS: u32 = 100;

/// A caller that is no thread.
const NOBODY: u32 = u32::MAX;

/// Attempts to make the paging file before a run counts as failed.
const PAGING_FILE_ATTEMPTS: u32 = 100;

/// The operations of a phase.
#[derive(Debug, Default)]
struct Phase {
    actions: BTreeMap<Thread, Vec<Action>>,
    kills: Vec<(u64, Thread)>,
    deletions: Vec<u8>,
}

impl<M: Hardware> Runner<M> {
    fn boot(setup: &Setup) -> Result<Self, Failure> {
        let needed = boot_minimum::<M>(setup) + setup.withheld.div_ceil(ENTRIES_PER_FRAME as u32);
        let frames = needed + setup.frames;
        let machine = Machine::<M>::new(machine_config(setup, frames), Clock::new(), NoTrace);
        let paging_file = PagingFile::new(setup);
        let file = machine.attach(Box::new(PagingDisk(Rc::clone(&paging_file))));
        let memory = HostMemory::new(&machine, (needed, setup.frames, setup.withheld));
        let all = Pages::new(u64::from(frames + setup.withheld));
        let span = Some(FrameRange { start: Pfn::new(0), count: all });
        let config = ntmm::Config { span, ..manager_config(setup) };
        let simulation =
            Simulation::new(machine, config).map_err(|error| Failure::new("boot", error))?;
        if setup.paging_file > 0 {
            let size = Pages::new(u64::from(setup.paging_file));
            // The machine may be one whose allocations fail now and then.
            (0..PAGING_FILE_ATTEMPTS)
                .find_map(|_| simulation.manager().create_paging_file(file, size, size).ok())
                .ok_or_else(|| Failure::new("paging file", "there is none after many attempts"))?;
        }
        let figures = simulation.manager().memory_figures();
        let mut model = Model::new(
            setup.paging.fetch_check(),
            figures.commit_limit.get(),
            figures.committed.get(),
        );
        model.disturbances.failed_reads = setup.read_errors > 0;
        let baseline = Baseline::of(simulation.manager());
        let world = World::new(model, paging_file, memory, setup);
        Ok(Self {
            simulation,
            world: Rc::new(RefCell::new(world)),
            setup: setup.clone(),
            scratch: Scratch::default(),
            baseline,
            steps: 0,
            audits: 0,
            slept: 0,
            audited: Audited::Outdated,
        })
    }

    fn references(&self) -> u64 {
        self.simulation.machine().statistics().references.saturating_sub(self.slept)
    }

    fn coverage(&self) -> Coverage {
        let counters = self.simulation.manager().counters();
        let statistics = self.simulation.machine().statistics();
        let memory = &self.world.borrow().memory;
        Coverage {
            demand_zero: counters.demand_zero.get(),
            transition: counters.transition.get(),
            page_file: counters.page_file.get(),
            collided: counters.collided.get(),
            copies_on_write: counters.copy_on_write.get(),
            guard_pages: counters.guard_pages.get(),
            pages_read: counters.pages_read.get(),
            pages_written: counters.pages_written.get(),
            failed_reads: counters.failed_reads.get(),
            failed_writes: counters.failed_writes.get(),
            trimmed: counters.trimmed.get(),
            replaced: counters.replaced.get(),
            shootdowns: statistics.shootdowns,
            preemptions: statistics.preemptions,
            refused_allocations: statistics.refused_allocations,
            frames_lent: memory.lent,
            frames_taken: memory.taken,
            refused_removals: memory.refused,
        }
    }

    fn execute(&mut self, operations: &[Operation]) -> Result<(), Failure> {
        let mut phase = Phase::default();
        for operation in operations {
            match *operation {
                Operation::Create { process } => {
                    self.play(&mut phase)?;
                    self.create(process)?;
                }
                Operation::Pass { milliseconds } => {
                    self.play(&mut phase)?;
                    self.pass(milliseconds)?;
                }
                Operation::Delete { process } => {
                    self.play(&mut phase)?;
                    phase.deletions.push(process);
                }
                Operation::Kill { thread, steps } => phase.kills.push((u64::from(steps), thread)),
                Operation::Act { thread, action } => {
                    if phase.deletions.contains(&thread.process) {
                        continue;
                    }
                    let alone = matches!(action, Action::TouchAlone(_))
                        || action.restructures().is_some_and(|it| it.class == Class::Shared);
                    if alone {
                        self.play(&mut phase)?;
                    }
                    phase.actions.entry(thread).or_default().push(action);
                    if alone {
                        self.play(&mut phase)?;
                    }
                }
            }
        }
        self.play(&mut phase)?;
        phase.deletions = self.world.borrow().processes();
        self.play(&mut phase)?;
        self.close_sections()?;
        if let Some(restorer) = Restorer::new(Rc::clone(&self.world)) {
            self.simulation.spawn(None, Box::new(restorer));
            self.run_threads(&[])?;
        }
        self.come_to_rest()?;
        self.audit()?;
        self.world.borrow().memory.check(self.simulation.machine())?;
        audit_teardown(self.simulation.manager(), &self.baseline)
            .map_err(|defect| Failure::of_audit(&defect))
    }

    /// Has what sections leave behind for good made before the host lends memory that it wants
    /// back, if a list needs both.
    fn begin_sections(&mut self, operations: &[Operation]) -> Result<(), Failure> {
        let makes = |operation: &Operation| {
            let Operation::Act { action, .. } = operation else { return false };
            matches!(action, Action::CreateSection { .. })
        };
        if self.setup.withheld == 0 || !operations.iter().any(makes) {
            return Ok(());
        }
        self.world.borrow_mut().model.making_section(NOBODY, 1);
        for _ in 0..SECTION_ATTEMPTS {
            let mut create = CreateSection::new(viewing::request(1));
            let made = loop {
                self.settle()?;
                match self.simulation.manager().step(&mut create) {
                    Step::Done(id) => break Some(id),
                    Step::Raise(_) => break None,
                    Step::Wait(_) => self.step().map(|_| ())?,
                }
            };
            if let Some(id) = made {
                let closed = self.simulation.manager().close_section(id);
                closed.map_err(|status| Failure::new("model: status", status))?;
                break;
            }
        }
        self.come_to_rest()?;
        let mut world = self.world.borrow_mut();
        world.model.section_call_ended(NOBODY);
        world.model.rests(charged_for_sections(self.simulation.manager()));
        self.baseline = Baseline::of(self.simulation.manager());
        Ok(())
    }

    /// Closes the sections that are still open.
    fn close_sections(&mut self) -> Result<(), Failure> {
        self.settle()?;
        for named in std::mem::take(&mut self.world.borrow_mut().sections).into_values() {
            if let Named::Open { id, .. } = named {
                let closed = self.simulation.manager().close_section(id);
                closed.map_err(|status| Failure::new("model: status", status))?;
            }
        }
        // What they were charged is back before the host wants its memory.
        self.come_to_rest()
    }

    fn create(&mut self, process: u8) -> Result<(), Failure> {
        if self.world.borrow().space(process).is_some() {
            return Ok(());
        }
        self.settle()?;
        let refused = self.simulation.machine().statistics().refused_allocations;
        let created = self.simulation.manager().create_address_space(self.setup.limits());
        self.world.borrow_mut().note_disturbances(self.simulation.machine(), refused);
        match created {
            Ok(space) => self.world.borrow_mut().created(process, space),
            // Frames that are merely not available now are a good reason.
            Err(NtStatus::INSUFFICIENT_RESOURCES) => {}
            Err(status) => {
                let excused = self.world.borrow().model.excuse(status, 16);
                excused.map_err(|mismatch| Failure::of_model(&mismatch))?;
            }
        }
        self.audit()
    }

    fn pass(&mut self, milliseconds: u32) -> Result<(), Failure> {
        let cost = Costs::default().reference.0;
        let references = u64::from(milliseconds) * 1_000_000 / cost;
        self.slept += references;
        self.simulation.spawn(None, Box::new(Sleeper { references }));
        self.run_threads(&[])
    }

    /// Runs a phase to its end.
    fn play(&mut self, phase: &mut Phase) -> Result<(), Failure> {
        let Phase { actions, kills, deletions } = std::mem::take(phase);
        if actions.is_empty() && deletions.is_empty() {
            return Ok(());
        }
        for process in deletions {
            let space = self.world.borrow_mut().begin_deletion(process);
            if let Some(space) = space {
                let program = Deleter::new(Rc::clone(&self.world), process, space);
                self.simulation.spawn(None, Box::new(program));
            }
        }
        let mut threads = BTreeMap::new();
        for (thread, actions) in actions {
            let space = self.world.borrow().space(thread.process);
            if let (Some(space), true) = (space, thread.number < self.setup.threads) {
                let world = Rc::clone(&self.world);
                let program = Box::new(Worker::new(world, thread, space, actions));
                threads.insert(thread, self.simulation.spawn(Some(space), program));
            }
        }
        let kills: Vec<(u64, ThreadId)> = kills
            .iter()
            .filter_map(|(steps, thread)| Some((*steps, *threads.get(thread)?)))
            .collect();
        self.run_threads(&kills)?;
        let mut world = self.world.borrow_mut();
        let of_sections = charged_for_sections(self.simulation.manager());
        world.model.rests(of_sections);
        world.model.check_limit().map_err(|mismatch| Failure::of_model(&mismatch))
    }

    /// Runs until all threads have ended; kills some on the way.
    fn run_threads(&mut self, kills: &[(u64, ThreadId)]) -> Result<(), Failure> {
        let began = self.steps;
        while self.simulation.live_threads() > 0 {
            for (_, thread) in kills.iter().filter(|(steps, _)| began + steps == self.steps) {
                self.simulation.kill(*thread);
            }
            self.step()?;
            if self.steps - began > ENDLESS {
                return Err(Failure::new("endless", "threads go on and on"));
            }
        }
        Ok(())
    }

    /// Lets the machine run until nothing is left to do.
    fn come_to_rest(&mut self) -> Result<(), Failure> {
        let began = self.steps;
        while self.step()? != Progress::Ended {
            if self.steps - began > ENDLESS {
                return Err(Failure::new("endless", "the engines go on and on"));
            }
        }
        self.settle()
    }

    fn step(&mut self) -> Result<Progress, Failure> {
        let progress = self.simulation.step().map_err(|halt| Failure::of_halt(&halt))?;
        self.steps += 1;
        if progress == Progress::Waited && self.audited == Audited::Current {
            // The clock has jumped, nothing else has changed.
            self.audits += 1;
            return Ok(progress);
        }
        self.audited = Audited::Outdated;
        if !self.simulation.is_settled() {
            if !self.steps.is_multiple_of(u64::from(self.setup.audit_every)) {
                return Ok(progress);
            }
            self.settle()?;
        }
        self.audit()?;
        Ok(progress)
    }

    fn settle(&mut self) -> Result<(), Failure> {
        self.simulation.settle().map_err(|halt: Halt| Failure::of_halt(&halt))
    }

    fn audit(&mut self) -> Result<(), Failure> {
        self.audits += 1;
        let manager = self.simulation.manager();
        let ram = self.simulation.machine().ram();
        let world = self.world.borrow();
        let read_slot = |_: PagingFileNumber, slot: u32| world.paging_file.slot(slot);
        let spaces: Vec<AddressSpaceId> = match self.simulation.live_threads() {
            0 => Vec::new(),
            _ => manager.spaces().map(|space| space.space()).collect(),
        };
        let circumstances = Circumstances {
            pending_commit: PendingCommit::AtMost(Pages::new(world.model.charges_under_way())),
            pending_views: world.model.views_under_way(),
            address_creation: &spaces,
            read_slot: Some(&read_slot),
            untouched: Some(&|pfn| ram.slot(pfn).is_some_and(|slot| ram.is_untouched(slot))),
        };
        audit_with(manager, &mut self.scratch, &circumstances)
            .map_err(|defect| Failure::of_audit(&defect))?;
        ram.begin_epoch();
        let search = match self.setup.behaviour() {
            Behaviour::Adversarial(_) => true,
            Behaviour::Plain => self.audits.is_multiple_of(PLAIN_SEARCH),
        };
        if search {
            self.check_translations()?;
        }
        self.audited = Audited::Current;
        Ok(())
    }

    /// No processor reaches a frame that is on a list, that a read fills, or that a write alone
    /// holds. (A page that was touched again while it is written may be trimmed again, and then
    /// a flush under way holds it too.)
    fn check_translations(&self) -> Result<(), Failure> {
        let machine = self.simulation.machine();
        for frame in self.simulation.manager().frame_views() {
            let written = frame.flags.contains(FrameFlags::WRITE_IN_PROGRESS);
            let read = frame.flags.contains(FrameFlags::READ_IN_PROGRESS);
            let busy = frame.location == PageLocation::Transition
                && (read || (written && frame.references == 1));
            if frame.location.is_list() || frame.usage == FrameUse::Absent || busy {
                machine.check_unreachable(frame.pfn).map_err(|violation| {
                    let stale: Vec<String> = machine
                        .stale_translations(frame.pfn)
                        .map(|(cpu, space, va)| format!("{cpu} {space:?} {va:?}"))
                        .collect();
                    let place = frame.location.name();
                    Failure::new(
                        format!("reachable {place} frame"),
                        format!("{violation} while it is {place}: {}", stale.join(", ")),
                    )
                })?;
            }
        }
        Ok(())
    }
}
