//! The manager on the machine: programs whose every byte is checked, with less memory than they
//! need, plainly and adversarially, in the three paging modes.

use std::cell::RefCell;
use std::rc::Rc;

use ntmm::events::Event;
use ntmm::frames::PageLocation;
use ntmm::platform::{Executive, Trace};
use ntmm::virtual_memory::{Allocate, AllocationType, Free, FreeType, Placement};
use ntmm::working_set::WorkingSetLimits;
use ntmm::{AddressSpaceId, DeleteAddressSpace, NtStatus, Step, WaitKey};
use ntmm_machine::{
    Adversary, Behaviour, Chance, Clock, Config, Cpu, DiskFaults, Halt, Hardware, Machine,
    MemoryAccess, MemoryDisk, NoTrace, Outcome, Program, ProgramStep, Simulation, Statistics,
    Violation,
};
use ntmm_pte::{Amd64, Bytes, I386, PAGE_SIZE, Pae, Pages, Protection, Va};
use proptest::prelude::*;

const BASE: u64 = 0x10_0000;
const THREAD_PAGES: u64 = 40;

/// Writes the manager's events down, with their time.
#[derive(Clone, Debug, Default)]
struct Log {
    clock: Clock,
    events: Rc<RefCell<Vec<String>>>,
}

impl Trace for Log {
    const ENABLED: bool = true;

    fn event(&self, event: &Event) {
        self.events.borrow_mut().push(format!("{:?} {event:?}", self.clock.now()));
    }
}

/// Reads and writes its own region at any alignment and checks every byte it reads.
struct Scribbler {
    base: u64,
    random: u64,
    left: u32,
    model: Vec<u8>,
    access: MemoryAccess,
    pending: Option<(u64, Vec<u8>)>,
    in_page_errors: Rc<RefCell<u32>>,
}

impl Scribbler {
    fn new(number: u64, seed: u64, accesses: u32, in_page_errors: &Rc<RefCell<u32>>) -> Self {
        Self {
            base: BASE + number * THREAD_PAGES * PAGE_SIZE,
            random: seed ^ (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            left: accesses,
            model: vec![0; (THREAD_PAGES * PAGE_SIZE) as usize],
            access: MemoryAccess::new(),
            pending: None,
            in_page_errors: Rc::clone(in_page_errors),
        }
    }

    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

impl<M: Hardware, T: Trace> Program<M, T> for Scribbler {
    fn run(&mut self, cpu: &mut Cpu<'_, M, T>) -> ProgramStep {
        while cpu.may_continue() {
            if self.left == 0 {
                return ProgramStep::Exit;
            }
            let (offset, bytes) = match self.pending.take() {
                Some(pending) => pending,
                None => {
                    let length = 1 + self.draw() % 24;
                    let last = self.model.len() as u64 - 24;
                    let mut offset = self.draw() % last;
                    if self.draw().is_multiple_of(8) {
                        // Across a page's end.
                        let end = (offset / PAGE_SIZE + 1) * PAGE_SIZE;
                        offset = end.min(last) - length / 2;
                    }
                    let store = self.draw().is_multiple_of(2);
                    let count = if store { length } else { 0 };
                    (offset, (0..count).map(|_| self.draw() as u8).collect())
                }
            };
            let va = Va::new(self.base + offset);
            let at = offset as usize;
            let outcome = if bytes.is_empty() {
                let mut seen = [0; 8];
                let outcome = if at.is_multiple_of(2) {
                    self.access.load(cpu, va, &mut seen)
                } else {
                    match self.access.load_number(cpu, va, 8) {
                        Outcome::Done(number) => {
                            seen = number.to_le_bytes();
                            Outcome::Done(())
                        }
                        Outcome::Stop(step) => Outcome::Stop(step),
                        Outcome::Raise(status) => Outcome::Raise(status),
                    }
                };
                if outcome == Outcome::Done(()) {
                    assert_eq!(seen, self.model[at..at + 8], "at {va}");
                }
                outcome
            } else {
                let outcome = if bytes.len() <= 8 {
                    let mut number = [0xEE; 8];
                    number[..bytes.len()].copy_from_slice(&bytes);
                    let number = u64::from_le_bytes(number);
                    self.access.store_number(cpu, va, bytes.len(), number)
                } else {
                    self.access.store(cpu, va, &bytes)
                };
                if outcome == Outcome::Done(()) {
                    self.model[at..at + bytes.len()].copy_from_slice(&bytes);
                }
                outcome
            };
            match outcome {
                Outcome::Done(()) => self.left -= 1,
                Outcome::Raise(NtStatus::IN_PAGE_ERROR) => {
                    *self.in_page_errors.borrow_mut() += 1;
                }
                Outcome::Raise(status) => panic!("{status} at {va}"),
                Outcome::Stop(step) => {
                    self.pending = Some((offset, bytes));
                    return step;
                }
            }
        }
        ProgramStep::Continue
    }

    fn abandon(&mut self, cpu: &mut Cpu<'_, M, T>) {
        self.access.abandon(cpu);
    }
}

struct Run {
    frames: u64,
    cpus: u32,
    seed: u64,
    behaviour: Behaviour,
    threads: u64,
    accesses: u32,
    faults: DiskFaults,
}

impl Run {
    fn small(seed: u64, cpus: u32, behaviour: Behaviour) -> Self {
        Self {
            frames: 130,
            cpus,
            seed,
            behaviour,
            threads: 4,
            accesses: 1000,
            faults: DiskFaults::default(),
        }
    }

    fn boot<M: Hardware, T: Trace>(&self, clock: &Clock, tracer: T) -> Simulation<M, T> {
        let config = Config {
            cpus: self.cpus,
            seed: self.seed,
            behaviour: self.behaviour,
            quantum: if self.behaviour == Behaviour::Plain { 1000 } else { 40 },
            disk_faults: self.faults.clone(),
            ..Config::plain(Pages::new(self.frames))
        };
        let machine = Machine::<M, T>::new(config, clock.clone(), tracer);
        let size = Pages::new(1024);
        let file = machine.attach(Box::new(MemoryDisk::new(size)));
        let simulation =
            Simulation::new(machine, ntmm::Config::default()).expect("enough memory to boot");
        simulation.manager().create_paging_file(file, size, size).expect("a paging file");
        simulation
    }

    /// Two processes of half the threads each; all of them end. Returns what was logged.
    fn go<M: Hardware>(&self) -> Result<(Vec<String>, Statistics, u32), Halt> {
        let clock = Clock::new();
        let log = Log { clock: clock.clone(), ..Log::default() };
        let mut simulation: Simulation<M, Log> = self.boot(&clock, log.clone());
        let errors = Rc::default();
        let spaces = [(); 2].map(|()| space(&mut simulation, self.threads));
        for number in 0..self.threads {
            let program = Scribbler::new(number, self.seed, self.accesses, &errors);
            simulation.spawn(Some(spaces[number as usize % 2]), Box::new(program));
        }
        let mut steps = 0_u64;
        while simulation.step()? != ntmm_machine::Progress::Ended {
            steps += 1;
            if steps.is_multiple_of(64) {
                simulation.settle()?;
                check_reachability(&simulation);
            }
        }
        for space in spaces {
            let mut delete = DeleteAddressSpace::new(space);
            assert_eq!(simulation.complete(&mut delete)?, Ok(()));
        }
        simulation.settle()?;
        check_reachability(&simulation);
        let errors = *errors.borrow();
        Ok((log.events.take(), simulation.machine().statistics(), errors))
    }
}

/// Makes a process with a region for so many threads.
fn space<M: Hardware, T: Trace>(simulation: &mut Simulation<M, T>, threads: u64) -> AddressSpaceId {
    let frames = simulation.machine().ram().frames() as u32;
    let space = simulation
        .manager()
        .create_address_space(WorkingSetLimits::for_memory(frames))
        .expect("frames for the tables");
    let mut allocate = Allocate::new(
        space,
        Placement::At(Va::new(BASE)),
        Bytes::new(threads * THREAD_PAGES * PAGE_SIZE),
        AllocationType::ReserveAndCommit,
        Protection::READWRITE,
    );
    let region = simulation.complete(&mut allocate).expect("the machine runs");
    assert_eq!(region.map(|region| region.base), Ok(Va::new(BASE)));
    space
}

/// No processor reaches a frame that is on a list.
fn check_reachability<M: Hardware, T: Trace>(simulation: &Simulation<M, T>) {
    let (manager, machine) = (simulation.manager(), simulation.machine());
    for location in
        [PageLocation::Zeroed, PageLocation::Free, PageLocation::Standby, PageLocation::Modified]
    {
        for pfn in manager.list_frames(location) {
            assert_eq!(machine.check_unreachable(pfn), Ok(()), "{location:?}");
        }
    }
}

fn adversarial() -> Behaviour {
    Behaviour::Adversarial(Adversary::default())
}

#[test]
fn plain_machines_keep_every_byte() {
    for cpus in [1, 4] {
        let run = Run::small(1, cpus, Behaviour::Plain);
        for outcome in [run.go::<I386>(), run.go::<Pae>(), run.go::<Amd64>()] {
            let (events, _, _) = outcome.unwrap_or_else(|halt| panic!("{halt}"));
            let read = events.iter().filter(|event| event.contains("PageRead")).count();
            assert!(read > 20, "paging happened: {read} reads");
        }
    }
}

#[test]
fn adversarial_machines_keep_every_byte() {
    for seed in 0..8 {
        let run = Run::small(seed, 1 + seed as u32 % 4, adversarial());
        for outcome in [run.go::<I386>(), run.go::<Pae>(), run.go::<Amd64>()] {
            let (_, statistics, _) = outcome.unwrap_or_else(|halt| panic!("seed {seed}: {halt}"));
            assert!(statistics.preemptions > 100 && statistics.speculations > 10);
        }
    }
}

#[test]
fn failing_reads_are_raised_in_the_thread() {
    let faults = DiskFaults { read_error: Chance::one_in(10), ..DiskFaults::default() };
    let run = Run { faults, ..Run::small(3, 2, adversarial()) };
    let (_, _, errors) = run.go::<Amd64>().unwrap_or_else(|halt| panic!("{halt}"));
    assert!(errors > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_seed_makes_one_run(seed in any::<u64>(), cpus in 1_u32..=4) {
        let run = Run { accesses: 100, ..Run::small(seed, cpus, adversarial()) };
        let (first, second) = (run.go::<Pae>(), run.go::<Pae>());
        prop_assert_eq!(first, second);
    }
}

#[test]
fn seeds_make_different_runs() {
    let runs = [1, 2].map(|seed| Run::small(seed, 2, adversarial()).go::<Amd64>());
    assert_ne!(runs[0], runs[1]);
}

#[test]
fn killed_threads_leave_nothing_waiting() {
    for seed in 0..4 {
        let run = Run::small(seed, 2, adversarial());
        let mut simulation: Simulation<Amd64, NoTrace> = run.boot(&Clock::new(), NoTrace);
        let space = space(&mut simulation, run.threads);
        let errors = Rc::default();
        let threads: Vec<_> = (0..run.threads)
            .map(|number| {
                let program = Scribbler::new(number, seed, u32::MAX, &errors);
                simulation.spawn(Some(space), Box::new(program))
            })
            .collect();
        for (number, thread) in threads.iter().enumerate() {
            for _ in 0..200 + 37 * number {
                simulation.step().unwrap_or_else(|halt| panic!("{halt}"));
            }
            simulation.kill(*thread);
        }
        simulation.run().unwrap_or_else(|halt| panic!("{halt}"));
        assert_eq!(simulation.live_threads(), 0);
        assert!(threads.iter().all(|thread| simulation.has_ended(*thread)));
        let mut delete = DeleteAddressSpace::new(space);
        let outcome = simulation.complete(&mut delete);
        assert_eq!(outcome, Ok(Ok(())));
    }
}

#[test]
fn a_machine_may_be_dropped_at_any_moment() {
    let mut suspended = 0;
    for steps in 0..60 {
        let run = Run::small(steps, 4, adversarial());
        let mut simulation: Simulation<Amd64, NoTrace> = run.boot(&Clock::new(), NoTrace);
        let space = space(&mut simulation, run.threads);
        let errors = Rc::default();
        for number in 0..run.threads {
            let program = Scribbler::new(number, steps, u32::MAX, &errors);
            simulation.spawn(Some(space), Box::new(program));
        }
        for _ in 0..steps * 10 {
            simulation.step().unwrap_or_else(|halt| panic!("{halt}"));
        }
        suspended += u32::from(!simulation.is_settled());
    }
    assert!(suspended > 20, "most are dropped in the middle of the manager, not {suspended}");
}

/// Breaks a rule of the machine.
struct Rogue(fn(&Machine<Amd64>, &mut Cpu<'_, Amd64, NoTrace>));

impl Program<Amd64, NoTrace> for Rogue {
    fn run(&mut self, cpu: &mut Cpu<'_, Amd64, NoTrace>) -> ProgramStep {
        let machine = cpu.machine();
        (self.0)(machine, cpu);
        ProgramStep::Exit
    }

    fn abandon(&mut self, _cpu: &mut Cpu<'_, Amd64, NoTrace>) {}
}

fn halt_of(rogue: fn(&Machine<Amd64>, &mut Cpu<'_, Amd64, NoTrace>)) -> Halt {
    let halts = [Behaviour::Plain, adversarial()].map(|behaviour| {
        let run = Run::small(1, 1, behaviour);
        let mut simulation: Simulation<Amd64, NoTrace> = run.boot(&Clock::new(), NoTrace);
        simulation.spawn(None, Box::new(Rogue(rogue)));
        let halt = simulation.run().expect_err("the rule is broken");
        assert_eq!(simulation.step(), Err(halt.clone()), "the machine stays dead");
        halt
    });
    assert_eq!(halts[0], halts[1]);
    halts[0].clone()
}

#[test]
fn broken_rules_halt_the_machine() {
    assert!(matches!(
        halt_of(|machine, _| {
            machine.raise();
        }),
        Halt::Violation(Violation::LockHeld { .. })
    ));
    assert!(matches!(
        halt_of(|machine, _| machine.lower(ntmm::platform::Irql::PASSIVE)),
        Halt::Violation(Violation::Lowered { .. })
    ));
    assert!(matches!(
        halt_of(|_, cpu| {
            let _ = cpu.load(Va::new(BASE), &mut [0; 4]);
        }),
        Halt::Violation(Violation::NoAddressSpace { .. })
    ));
    assert_eq!(halt_of(|_, _| panic!("a failed check")), Halt::Panic("a failed check".to_owned()));
}

/// Frees the region of a space but walks away when the call has to wait for another processor,
/// keeping address creation for ever.
struct Deserter(AddressSpaceId);

impl Program<Amd64, NoTrace> for Deserter {
    fn run(&mut self, cpu: &mut Cpu<'_, Amd64, NoTrace>) -> ProgramStep {
        let mut free = Free::new(self.0, Va::new(BASE), Bytes::ZERO, FreeType::Release);
        if let Step::Wait(_) = cpu.step(&mut free) {
            std::mem::forget(free);
        }
        ProgramStep::Exit
    }

    fn abandon(&mut self, _cpu: &mut Cpu<'_, Amd64, NoTrace>) {}
}

/// Reserves memory.
struct Reserver(Allocate);

impl Program<Amd64, NoTrace> for Reserver {
    fn run(&mut self, cpu: &mut Cpu<'_, Amd64, NoTrace>) -> ProgramStep {
        match cpu.step(&mut self.0) {
            Step::Wait(wait) => ProgramStep::Wait(wait),
            Step::Done(_) | Step::Raise(_) => ProgramStep::Exit,
        }
    }

    fn abandon(&mut self, _cpu: &mut Cpu<'_, Amd64, NoTrace>) {}
}

#[test]
fn threads_that_wait_for_ever_are_reported() {
    let stuck = (0..16).filter_map(|seed| {
        let run = Run { accesses: 50, ..Run::small(seed, 4, adversarial()) };
        let mut simulation: Simulation<Amd64, NoTrace> = run.boot(&Clock::new(), NoTrace);
        let space = space(&mut simulation, run.threads);
        let program = Scribbler::new(0, seed, 50, &Rc::default());
        let scribbler = simulation.spawn(Some(space), Box::new(program));
        while !simulation.has_ended(scribbler) {
            simulation.step().unwrap_or_else(|halt| panic!("{halt}"));
        }
        simulation.settle().unwrap_or_else(|halt| panic!("{halt}"));
        simulation.spawn(None, Box::new(Deserter(space)));
        simulation.run().unwrap_or_else(|halt| panic!("{halt}"));
        let reserve = Allocate::new(
            space,
            Placement::Lowest,
            Bytes::new(PAGE_SIZE),
            AllocationType::Reserve,
            Protection::READWRITE,
        );
        let reserver = simulation.spawn(None, Box::new(Reserver(reserve)));
        match simulation.run() {
            Ok(()) => None,
            Err(Halt::Stuck(stuck)) => {
                assert_eq!(stuck.waiters, [(reserver, WaitKey::AddressCreation(space))]);
                Some(stuck)
            }
            Err(halt) => panic!("{halt}"),
        }
    });
    assert!(stuck.count() > 0);
}
