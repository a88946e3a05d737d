//! Processes that map, unmap and give back physical pages on several processors that keep every
//! translation as long as they may, while another process wants the memory.

use std::collections::BTreeMap;
use std::rc::Rc;

use ntmm::frames::PageLocation;
use ntmm::virtual_memory::{
    Allocate, AllocatePhysicalPages, AllocationType, FrameNumbers, FreePhysicalPages,
    MapPhysicalPages, MemoryUse, Placement,
};
use ntmm::working_set::WorkingSetLimits;
use ntmm::{AddressSpaceId, DeleteAddressSpace, NtStatus, Step};
use ntmm_check::audit::{Baseline, Depth, Scratch, audit, audit_teardown};
use ntmm_machine::{
    Adversary, Behaviour, Clock, Config, Cpu, Hardware, Machine, MemoryAccess, MemoryDisk, NoTrace,
    Outcome, Preemption, Program, ProgramStep, Progress, Simulation,
};
use ntmm_pte::{AccessKind, Amd64, Bytes, I386, PAGE_SIZE, Pae, Pages, Pfn, Protection, Va};

/// Pages of a window, and physical pages of a thread at most.
const WINDOW: usize = 12;

/// Where the window of a thread, or the memory of one that has none, is.
fn base(number: usize) -> u64 {
    0x10_0000 + number as u64 * 0x10_0000
}

/// Frames an operation may keep.
#[derive(Clone)]
struct Frames(Rc<[Pfn]>);

impl FrameNumbers for Frames {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn frame(&self, place: usize) -> Option<Pfn> {
        self.0.get(place).copied()
    }
}

type Map = MapPhysicalPages<&'static [Va], Frames>;

/// What a thread is about.
enum Doing {
    /// It chooses.
    Nothing,
    Mapping {
        call: Map,
        first: usize,
        frames: Option<Frames>,
        count: usize,
    },
    Freeing {
        call: FreePhysicalPages<Frames>,
        frames: Frames,
    },
    /// Reads or writes a page of the window.
    Touching {
        page: usize,
        stamp: Option<u64>,
    },
}

/// Owns physical pages, switches a window between them and knows what each of them holds.
struct Switcher {
    space: AddressSpaceId,
    number: usize,
    random: u64,
    left: u32,
    held: BTreeMap<Pfn, u64>,
    window: [Option<Pfn>; WINDOW],
    doing: Doing,
    access: MemoryAccess,
}

impl Switcher {
    fn new(space: AddressSpaceId, number: usize, seed: u64) -> Self {
        let random = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (number as u64 + 1) << 32;
        Self {
            space,
            number,
            random,
            left: 400,
            held: BTreeMap::new(),
            window: [None; WINDOW],
            doing: Doing::Nothing,
            access: MemoryAccess::new(),
        }
    }

    fn draw(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 20) as usize % below
    }

    fn page(&self, page: usize) -> Va {
        Va::new(base(self.number) + page as u64 * PAGE_SIZE)
    }

    /// Some of the pages, each once.
    fn some(&mut self, most: usize) -> Frames {
        let mut all: Vec<_> = self.held.keys().copied().collect();
        let count = self.draw(all.len().min(most) + 1);
        let chosen = (0..count).map(|_| all.swap_remove(self.draw(all.len())));
        Frames(chosen.collect())
    }

    /// Takes new pages, which read as zeroes; says what to wait for.
    fn allocate<M: Hardware>(&mut self, cpu: &mut Cpu<'_, M, NoTrace>) -> Option<ProgramStep> {
        let mut room = [Pfn::new(0); 4];
        let mut call = AllocatePhysicalPages::new(self.space, &mut room);
        match cpu.step(&mut call) {
            Step::Done(granted) => {
                for &pfn in &room[..granted] {
                    assert_eq!(self.held.insert(pfn, 0), None, "a page is granted once");
                }
            }
            Step::Raise(status) => assert_eq!(status, NtStatus::INSUFFICIENT_RESOURCES),
            Step::Wait(wait) => {
                cpu.abandon(call);
                return Some(ProgramStep::Wait(wait));
            }
        }
        None
    }

    /// Chooses what to do next.
    fn choose<M: Hardware>(&mut self, cpu: &mut Cpu<'_, M, NoTrace>) -> Option<ProgramStep> {
        self.left -= 1;
        if self.held.len() < 4
            && let Some(step) = self.allocate(cpu)
        {
            return Some(step);
        }
        let first = self.draw(WINDOW);
        self.doing = match self.draw(10) {
            0 if self.held.len() < WINDOW => return self.allocate(cpu),
            0 => return None,
            1 => {
                let frames = self.some(6);
                Doing::Freeing { call: FreePhysicalPages::new(self.space, frames.clone()), frames }
            }
            2 => {
                let count = self.draw(WINDOW - first) + 1;
                let call = Map::unmap_at(self.space, self.page(first), count);
                Doing::Mapping { call, first, frames: None, count }
            }
            3..=5 => {
                let frames = self.some(WINDOW - first);
                let count = frames.count();
                let call = Map::at(self.space, self.page(first), frames.clone());
                Doing::Mapping { call, first, frames: Some(frames), count }
            }
            6 | 7 => Doing::Touching { page: first, stamp: Some(self.random | 1) },
            _ => Doing::Touching { page: first, stamp: None },
        };
        None
    }

    /// What mapping must end with.
    fn expected(&self, first: usize, frames: Option<&Frames>) -> Result<(), NtStatus> {
        let frames = frames.map_or(&[][..], |frames| &frames.0);
        let run = first..first + frames.len();
        let elsewhere = |pfn: &Pfn| {
            let at = self.window.iter().position(|mapped| mapped.as_ref() == Some(pfn));
            at.is_some_and(|at| !run.contains(&at))
        };
        if frames.iter().any(elsewhere) { Err(NtStatus::CONFLICTING_ADDRESSES) } else { Ok(()) }
    }

    fn forget(&mut self, frames: &Frames) {
        for mapped in &mut self.window {
            *mapped = mapped.filter(|pfn| !frames.0.contains(pfn));
        }
    }
}

impl<M: Hardware> Program<M, NoTrace> for Switcher {
    fn run(&mut self, cpu: &mut Cpu<'_, M, NoTrace>) -> ProgramStep {
        while cpu.may_continue() {
            if self.left == 0 {
                return ProgramStep::Exit;
            }
            match std::mem::replace(&mut self.doing, Doing::Nothing) {
                Doing::Nothing => {
                    if let Some(step) = self.choose(cpu) {
                        return step;
                    }
                }
                Doing::Mapping { mut call, first, frames, count } => {
                    let ended = match cpu.step(&mut call) {
                        Step::Wait(wait) => {
                            self.doing = Doing::Mapping { call, first, frames, count };
                            return ProgramStep::Wait(wait);
                        }
                        Step::Done(()) => Ok(()),
                        Step::Raise(status) => Err(status),
                    };
                    assert_eq!(ended, self.expected(first, frames.as_ref()));
                    if ended.is_ok() {
                        if let Some(frames) = &frames {
                            self.forget(frames);
                        }
                        for page in 0..count {
                            self.window[first + page] =
                                frames.as_ref().and_then(|frames| frames.frame(page));
                        }
                    }
                }
                Doing::Freeing { mut call, frames } => match cpu.step(&mut call) {
                    Step::Wait(wait) => {
                        self.doing = Doing::Freeing { call, frames };
                        return ProgramStep::Wait(wait);
                    }
                    Step::Done(count) => {
                        assert_eq!(count, frames.count());
                        self.held.retain(|pfn, _| !frames.0.contains(pfn));
                        self.forget(&frames);
                    }
                    Step::Raise(status) => panic!("{status}"),
                },
                Doing::Touching { page, stamp } => {
                    let va = self.page(page);
                    let outcome = match stamp {
                        Some(stamp) => self.access.store_number(cpu, va, 8, stamp),
                        None => match self.access.load_number(cpu, va, 8) {
                            Outcome::Done(found) => {
                                let pfn = self.window[page].expect("a page is mapped");
                                assert_eq!(found, self.held[&pfn], "{pfn:?} at {va}");
                                Outcome::Done(())
                            }
                            Outcome::Stop(step) => Outcome::Stop(step),
                            Outcome::Raise(status) => Outcome::Raise(status),
                        },
                    };
                    match (outcome, stamp) {
                        (Outcome::Stop(step), _) => {
                            self.doing = Doing::Touching { page, stamp };
                            return step;
                        }
                        (Outcome::Raise(status), _) => {
                            assert_eq!(status, NtStatus::ACCESS_VIOLATION);
                            assert_eq!(self.window[page], None, "{va}");
                        }
                        (Outcome::Done(()), Some(stamp)) => {
                            let pfn = self.window[page].expect("a page is mapped");
                            self.held.insert(pfn, stamp);
                        }
                        (Outcome::Done(()), None) => {}
                    }
                }
            }
        }
        ProgramStep::Continue
    }

    fn abandon(&mut self, cpu: &mut Cpu<'_, M, NoTrace>) {
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Mapping { call, .. } => cpu.abandon(call),
            Doing::Freeing { call, .. } => cpu.abandon(call),
            Doing::Nothing | Doing::Touching { .. } => {}
        }
        self.access.abandon(cpu);
    }
}

/// Reads pages of others' windows, whatever is there, so that its processor remembers them; or
/// writes memory of its own again and again, so that frames are wanted.
struct Toucher {
    base: u64,
    pages: u64,
    kind: AccessKind,
    left: u64,
    access: MemoryAccess,
}

impl<M: Hardware> Program<M, NoTrace> for Toucher {
    fn run(&mut self, cpu: &mut Cpu<'_, M, NoTrace>) -> ProgramStep {
        while cpu.may_continue() {
            if self.left == 0 {
                return ProgramStep::Exit;
            }
            let page = self.left * 7 % self.pages;
            let va = Va::new(self.base + page * PAGE_SIZE);
            let outcome = if self.kind == AccessKind::Write {
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
                Outcome::Raise(status) if self.kind == AccessKind::Write => {
                    panic!("{status} at {va}")
                }
                Outcome::Done(()) | Outcome::Raise(_) => self.left -= 1,
            }
        }
        ProgramStep::Continue
    }

    fn abandon(&mut self, cpu: &mut Cpu<'_, M, NoTrace>) {
        self.access.abandon(cpu);
    }
}

/// A process with this region.
fn process<M: Hardware>(
    simulation: &mut Simulation<M, NoTrace>,
    regions: &[(usize, u64, AllocationType, MemoryUse)],
) -> AddressSpaceId {
    let limits = WorkingSetLimits::for_memory(400);
    let space = simulation.manager().create_address_space(limits).expect("frames for the tables");
    for &(number, pages, kind, usage) in regions {
        let (at, size) = (Placement::At(Va::new(base(number))), Bytes::new(pages * PAGE_SIZE));
        let mut allocate = Allocate::new(space, at, size, kind, Protection::READWRITE).of(usage);
        simulation.complete(&mut allocate).expect("the machine runs").expect("allocated");
    }
    space
}

/// No processor reaches a frame that is on a list, and all records agree once no call is under
/// way.
fn check<M: Hardware>(simulation: &Simulation<M, NoTrace>) {
    for location in [PageLocation::Zeroed, PageLocation::Free] {
        for pfn in simulation.manager().list_frames(location) {
            assert_eq!(simulation.machine().check_unreachable(pfn), Ok(()), "{location:?}");
        }
    }
}

/// Whether a thread is killed on the way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Killed,
    Spared,
}

fn go<M: Hardware>(seed: u64, fate: Fate) {
    let adversary =
        Adversary { preemption: Preemption::AtPoints { mean: 20 }, ..Adversary::default() };
    let config = Config {
        cpus: 4,
        seed,
        behaviour: Behaviour::Adversarial(adversary),
        quantum: 40,
        ..Config::plain(Pages::new(260))
    };
    let machine = Machine::<M, NoTrace>::new(config, Clock::new(), NoTrace);
    let size = Pages::new(1024);
    let file = machine.attach(Box::new(MemoryDisk::new(size)));
    let mut simulation = Simulation::new(machine, ntmm::Config::default()).expect("it boots");
    simulation.manager().create_paging_file(file, size, size).expect("a paging file");
    let baseline = Baseline::of(simulation.manager());
    let window = |number| (number, 16, AllocationType::Reserve, MemoryUse::AddressWindow);
    let (both, ordinary) = (AllocationType::ReserveAndCommit, MemoryUse::Ordinary);
    let spaces = [
        process(&mut simulation, &[window(0), window(1)]),
        process(&mut simulation, &[(2, 120, both, ordinary)]),
    ];
    let mut threads = Vec::new();
    for number in 0..2 {
        let switcher = Switcher::new(spaces[0], number, seed);
        threads.push(simulation.spawn(Some(spaces[0]), Box::new(switcher)));
        let (access, pages) = (MemoryAccess::new(), WINDOW as u64);
        let toucher =
            Toucher { base: base(number), pages, kind: AccessKind::Read, left: 2000, access };
        simulation.spawn(Some(spaces[0]), Box::new(toucher));
    }
    let (access, pages) = (MemoryAccess::new(), 120);
    let toucher = Toucher { base: base(2), pages, kind: AccessKind::Write, left: 3000, access };
    simulation.spawn(Some(spaces[1]), Box::new(toucher));
    let mut steps = 0_u64;
    while simulation.step().unwrap_or_else(|halt| panic!("seed {seed}: {halt}")) != Progress::Ended
    {
        steps += 1;
        if steps.is_multiple_of(64) {
            simulation.settle().unwrap_or_else(|halt| panic!("seed {seed}: {halt}"));
            check(&simulation);
        }
        if fate == Fate::Killed && steps == 500 + seed * 97 {
            simulation.kill(threads[0]);
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
    audit(simulation.manager(), &mut scratch).unwrap_or_else(|defect| panic!("{seed}: {defect}"));
    audit_teardown(simulation.manager(), &baseline)
        .unwrap_or_else(|defect| panic!("{seed}: {defect}"));
}

#[test]
fn every_page_holds_what_its_owner_wrote() {
    for seed in 0..6 {
        go::<I386>(seed, Fate::Spared);
        go::<Pae>(seed, Fate::Spared);
        go::<Amd64>(seed, Fate::Spared);
    }
}

#[test]
fn killed_threads_leave_no_claims() {
    for seed in 0..12 {
        go::<I386>(seed, Fate::Killed);
        go::<Pae>(seed, Fate::Killed);
        go::<Amd64>(seed, Fate::Killed);
    }
}
