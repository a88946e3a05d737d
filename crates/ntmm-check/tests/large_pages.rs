//! Processes that allocate and free large pages on several processors that keep every translation
//! as long as they may, while another process wants the memory.

use std::cell::Cell;
use std::rc::Rc;

use ntmm::frames::{FrameUse, PageLocation};
use ntmm::virtual_memory::{
    Allocate, AllocateLargePages, AllocationType, Free, FreeType, Placement,
};
use ntmm::working_set::WorkingSetLimits;
use ntmm::{AddressSpaceId, DeleteAddressSpace, NtStatus, Step};
use ntmm_check::audit::{Baseline, Depth, Scratch, audit, audit_teardown};
use ntmm_machine::{
    Adversary, Behaviour, Clock, Config, Cpu, Hardware, Machine, MemoryAccess, MemoryDisk, NoTrace,
    Outcome, Preemption, Program, ProgramStep, Progress, Simulation,
};
use ntmm_pte::{Amd64, Bytes, I386, PAGE_SIZE, Pae, Pages, Protection, Va};

/// Pages of small memory that a process writes again and again.
const SMALL: u64 = 150;

/// Where the large pages of a thread are.
fn base(number: u64) -> Va {
    Va::new(0x2000_0000 + number * 0x80_0000)
}

/// What a thread is about.
enum Doing {
    Allocating(AllocateLargePages),
    /// Writes, or reads back, some pages of what it has.
    Using {
        step: u64,
    },
    Freeing(Free),
}

/// Allocates a large page, uses it and frees it, again and again.
struct Owner {
    space: AddressSpaceId,
    number: u64,
    pages: u64,
    left: u64,
    granted: Rc<Cell<u32>>,
    doing: Doing,
    access: MemoryAccess,
}

/// Uses of a large page.
const USES: u64 = 24;

impl Owner {
    fn allocation(space: AddressSpaceId, number: u64, pages: u64) -> AllocateLargePages {
        let size = Pages::new(pages).to_bytes();
        AllocateLargePages::at(space, base(number), size, Protection::READWRITE)
    }

    fn new(space: AddressSpaceId, number: u64, pages: u64, granted: &Rc<Cell<u32>>) -> Self {
        let doing = Doing::Allocating(Self::allocation(space, number, pages));
        let (access, granted) = (MemoryAccess::new(), Rc::clone(granted));
        Self { space, number, pages, left: 8, granted, doing, access }
    }

    /// The page of a use, and what it will hold.
    fn stamp(&self, number: u64) -> (Va, u64) {
        let page = (number * 0x9E37 + self.left * 77) % self.pages;
        let va = base(self.number).get() + page * PAGE_SIZE + 8 * (number % 64);
        (Va::new(va), (self.left << 32) | (number + 1))
    }
}

impl<M: Hardware> Program<M, NoTrace> for Owner {
    fn run(&mut self, cpu: &mut Cpu<'_, M, NoTrace>) -> ProgramStep {
        while cpu.may_continue() {
            match &mut self.doing {
                Doing::Allocating(call) => match cpu.step(call) {
                    Step::Wait(wait) => return ProgramStep::Wait(wait),
                    Step::Done(_) => {
                        self.granted.set(self.granted.get() + 1);
                        self.doing = Doing::Using { step: 0 };
                    }
                    Step::Raise(status) => {
                        assert_eq!(status, NtStatus::INSUFFICIENT_RESOURCES);
                        self.left -= 1;
                        if self.left == 0 {
                            return ProgramStep::Exit;
                        }
                        let call = Self::allocation(self.space, self.number, self.pages);
                        self.doing = Doing::Allocating(call);
                    }
                },
                // Each page reads as zero, is written, and is read back when all are written.
                Doing::Using { step } if *step < 3 * USES => {
                    let step = *step;
                    let (va, value) = self.stamp(step % USES);
                    let outcome = if step / USES == 1 {
                        self.access.store_number(cpu, va, 8, value)
                    } else {
                        match self.access.load_number(cpu, va, 8) {
                            Outcome::Done(found) => {
                                let expected = if step < USES { 0 } else { value };
                                assert_eq!(found, expected, "{va}");
                                Outcome::Done(())
                            }
                            Outcome::Stop(step) => Outcome::Stop(step),
                            Outcome::Raise(status) => Outcome::Raise(status),
                        }
                    };
                    match outcome {
                        Outcome::Stop(step) => return step,
                        Outcome::Raise(status) => panic!("{status} at {va}"),
                        Outcome::Done(()) => self.doing = Doing::Using { step: step + 1 },
                    }
                }
                Doing::Using { .. } => {
                    let (at, whole) = (base(self.number), Bytes::new(0));
                    let call = Free::new(self.space, at, whole, FreeType::Release);
                    self.doing = Doing::Freeing(call);
                }
                Doing::Freeing(call) => match cpu.step(call) {
                    Step::Wait(wait) => return ProgramStep::Wait(wait),
                    Step::Done(_) => {
                        self.left -= 1;
                        if self.left == 0 {
                            return ProgramStep::Exit;
                        }
                        let call = Self::allocation(self.space, self.number, self.pages);
                        self.doing = Doing::Allocating(call);
                    }
                    Step::Raise(status) => panic!("{status}"),
                },
            }
        }
        ProgramStep::Continue
    }

    fn abandon(&mut self, cpu: &mut Cpu<'_, M, NoTrace>) {
        match std::mem::replace(&mut self.doing, Doing::Using { step: 0 }) {
            Doing::Allocating(call) => cpu.abandon(call),
            Doing::Freeing(call) => cpu.abandon(call),
            Doing::Using { .. } => {}
        }
        self.access.abandon(cpu);
    }
}

/// Reads what may be a large page, so that its processor remembers it, or writes small pages, so
/// that frames are wanted.
struct Toucher {
    base: Va,
    pages: u64,
    writes: bool,
    left: u64,
    access: MemoryAccess,
}

impl<M: Hardware> Program<M, NoTrace> for Toucher {
    fn run(&mut self, cpu: &mut Cpu<'_, M, NoTrace>) -> ProgramStep {
        while cpu.may_continue() {
            if self.left == 0 {
                return ProgramStep::Exit;
            }
            let va = Va::new(self.base.get() + self.left * 7 % self.pages * PAGE_SIZE);
            let outcome = if self.writes {
                self.access.store_number(cpu, va, 8, self.left)
            } else {
                match self.access.load_number(cpu, va, 8) {
                    Outcome::Done(_) => Outcome::Done(()),
                    Outcome::Stop(step) => Outcome::Stop(step),
                    Outcome::Raise(status) => Outcome::Raise(status),
                }
            };
            match outcome {
                Outcome::Stop(step) => return step,
                Outcome::Raise(status) if self.writes => panic!("{status} at {va}"),
                Outcome::Done(()) | Outcome::Raise(_) => self.left -= 1,
            }
        }
        ProgramStep::Continue
    }

    fn abandon(&mut self, cpu: &mut Cpu<'_, M, NoTrace>) {
        self.access.abandon(cpu);
    }
}

fn process<M: Hardware>(simulation: &Simulation<M, NoTrace>) -> AddressSpaceId {
    let limits = WorkingSetLimits::for_memory(400);
    simulation.manager().create_address_space(limits).expect("frames for the tables")
}

/// No processor reaches a frame that is on a list.
fn check<M: Hardware>(simulation: &Simulation<M, NoTrace>) {
    for location in [PageLocation::Zeroed, PageLocation::Free] {
        for pfn in simulation.manager().list_frames(location) {
            assert_eq!(simulation.machine().check_unreachable(pfn), Ok(()), "{location:?}");
        }
    }
}

/// Large pages that were granted, in a run in which a thread may be killed after a while.
fn go<M: Hardware>(seed: u64, killed_after: Option<u64>) -> u32 {
    let adversary =
        Adversary { preemption: Preemption::AtPoints { mean: 40 }, ..Adversary::default() };
    let length = M::LARGE_PAGE.get();
    let config = Config {
        cpus: 4,
        seed,
        behaviour: Behaviour::Adversarial(adversary),
        quantum: 80,
        ..Config::plain(Pages::new(3 * length + 500))
    };
    let machine = Machine::<M, NoTrace>::new(config, Clock::new(), NoTrace);
    let size = Pages::new(4096);
    let file = machine.attach(Box::new(MemoryDisk::new(size)));
    let mut simulation = Simulation::new(machine, ntmm::Config::default()).expect("it boots");
    simulation.manager().create_paging_file(file, size, size).expect("a paging file");
    let baseline = Baseline::of(simulation.manager());
    let spaces = [process(&simulation), process(&simulation)];
    let (at, size) = (Va::new(0x10_0000), Bytes::new(SMALL * PAGE_SIZE));
    let kind = AllocationType::ReserveAndCommit;
    let mut allocate =
        Allocate::new(spaces[1], Placement::At(at), size, kind, Protection::READWRITE);
    simulation.complete(&mut allocate).expect("the machine runs").expect("allocated");
    let granted = Rc::new(Cell::new(0));
    let mut owners = Vec::new();
    for number in 0..2 {
        let owner = Owner::new(spaces[0], number, length, &granted);
        owners.push(simulation.spawn(Some(spaces[0]), Box::new(owner)));
        let (access, base) = (MemoryAccess::new(), base(number));
        let toucher = Toucher { base, pages: length, writes: false, left: 1500, access };
        simulation.spawn(Some(spaces[0]), Box::new(toucher));
    }
    let access = MemoryAccess::new();
    let toucher = Toucher { base: at, pages: SMALL, writes: true, left: 2000, access };
    simulation.spawn(Some(spaces[1]), Box::new(toucher));
    let mut steps = 0_u64;
    while simulation.step().unwrap_or_else(|halt| panic!("seed {seed}: {halt}")) != Progress::Ended
    {
        steps += 1;
        if steps.is_multiple_of(256) {
            simulation.settle().unwrap_or_else(|halt| panic!("seed {seed}: {halt}"));
            check(&simulation);
        }
        if killed_after == Some(steps) {
            simulation.kill(owners[0]);
        }
    }
    simulation.settle().expect("it is at rest");
    let mut scratch = Scratch::new(Depth::Everything);
    audit(simulation.manager(), &mut scratch).unwrap_or_else(|defect| panic!("{seed}: {defect}"));
    for space in spaces {
        let mut delete = DeleteAddressSpace::new(space);
        assert_eq!(simulation.complete(&mut delete), Ok(Ok(())), "seed {seed}");
    }
    simulation.settle().expect("it is at rest");
    check(&simulation);
    while simulation.manager().step_engine(ntmm::Engine::Retire) == ntmm::EngineStep::Worked {}
    let kept = |view: &ntmm::inspect::FrameView| view.usage == FrameUse::LargePage;
    assert_eq!(simulation.manager().frame_views().filter(kept).count(), 0);
    audit(simulation.manager(), &mut scratch).unwrap_or_else(|defect| panic!("{seed}: {defect}"));
    audit_teardown(simulation.manager(), &baseline)
        .unwrap_or_else(|defect| panic!("{seed}: {defect}"));
    granted.get()
}

fn in_every_mode(seed: u64, killed_after: Option<u64>) -> [u32; 3] {
    [go::<I386>(seed, killed_after), go::<Pae>(seed, killed_after), go::<Amd64>(seed, killed_after)]
}

#[test]
fn every_large_page_is_zero_and_its_owner_s_own() {
    for seed in 0..3 {
        let granted = in_every_mode(seed, None);
        assert!(granted.iter().all(|&granted| granted > 3), "seed {seed}: {granted:?}");
    }
}

#[test]
fn killed_threads_leave_no_frames() {
    for seed in 0..6 {
        in_every_mode(seed, Some(150 + seed * 211));
    }
}
