//! What a memory reference costs the host on a machine that behaves plainly: a hit in the
//! translation buffer, and a miss on a page whose tables are resident; first on hand-built
//! tables, then as a program's loads with the manager, scheduler and clock around them.
//!
//! `cargo bench -p ntmm-machine --bench reference`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ntmm::virtual_memory::{Allocate, AllocationType, Placement};
use ntmm::working_set::WorkingSetLimits;
use ntmm::working_set::limits::Hardness;
use ntmm_machine::cpu::ActiveSpace;
use ntmm_machine::ram::FRAME_BYTES;
use ntmm_machine::retained::SpaceTag;
use ntmm_machine::{
    Clock, Config, Cpu, CpuId, Machine, MemoryAccess, NoTrace, Outcome, Privilege, Program,
    ProgramStep, Simulation,
};
use ntmm_pte::{AccessKind, Amd64, Bytes, Pages, Pfn, Protection, Va};

const CPU: CpuId = CpuId(0);
/// Present, writable, user, accessed and dirty.
const FLAGS: u64 = 0x67;
/// Page tables the pages are spread over, and pages in each.
const TABLES: u64 = 16;
const PAGES: u64 = 512;

/// A machine whose frames 4 and up map `TABLES * PAGES` pages from address 0.
fn machine() -> Machine<Amd64> {
    let frames = 3 + TABLES + TABLES * PAGES;
    let machine = Machine::new(Config::plain(Pages::new(frames)), Clock::new(), NoTrace);
    let ram = machine.ram();
    let slot = |frame: u64| ram.slot(Pfn::new(frame as u32)).expect("inside memory");
    ram.store(slot(0), 0, 8, 1 << 12 | FLAGS);
    ram.store(slot(1), 0, 8, 2 << 12 | FLAGS);
    for table in 0..TABLES {
        ram.store(slot(2), table as usize * 8, 8, (3 + table) << 12 | FLAGS);
        for page in 0..PAGES {
            let frame = 3 + TABLES + table * PAGES + page;
            ram.store(slot(3 + table), page as usize * 8, 8, frame << 12 | FLAGS);
        }
    }
    machine.activate(CPU, Some(ActiveSpace { tag: SpaceTag(0), root: slot(0) }));
    machine
}

/// Loads eight bytes through the machine's translation.
#[inline]
fn load(machine: &Machine<Amd64>, va: Va) -> u64 {
    match machine.translate(CPU, va, AccessKind::Read, Privilege::User) {
        Ok(slot) => machine.ram().load(slot, va.get() as usize % FRAME_BYTES, 8),
        Err(fault) => panic!("{fault:?}"),
    }
}

fn reference(criterion: &mut Criterion) {
    let machine = machine();
    let mut group = criterion.benchmark_group("reference");
    let count = 4096_u64;
    group.throughput(Throughput::Elements(count));
    // 64 pages: all fit.
    let near: Vec<Va> = (0..count).map(|n| Va::new(n * 7 % 64 * 4096 + n * 8 % 4088)).collect();
    group.bench_function("hit", |bencher| {
        bencher.iter(|| near.iter().fold(0, |sum, va| sum ^ load(&machine, black_box(*va))));
    });
    // Each page falls on the entry of the one before it, in another table.
    let far: Vec<Va> = (0..count)
        .map(|n| {
            Va::new(
                (n % 16 * PAGES * 2 + n / 16 % 8 * 67) % (TABLES * PAGES) * 4096 + n * 264 % 4088,
            )
        })
        .collect();
    group.bench_function("miss", |bencher| {
        bencher.iter(|| far.iter().fold(0, |sum, va| sum ^ load(&machine, black_box(*va))));
    });
    group.finish();
}

const BASE: u64 = 0x10_0000;
const QUANTUM: u32 = 100_000;

/// Loads eight bytes from each address in turn, for ever.
struct Loader {
    access: MemoryAccess,
    addresses: Vec<Va>,
    next: usize,
}

impl Program<Amd64, NoTrace> for Loader {
    fn run(&mut self, cpu: &mut Cpu<'_, Amd64, NoTrace>) -> ProgramStep {
        loop {
            for va in &self.addresses[self.next..] {
                if !cpu.may_continue() {
                    return ProgramStep::Continue;
                }
                match self.access.load_number(cpu, *va, 8) {
                    Outcome::Done(value) => black_box(value),
                    Outcome::Stop(step) => return step,
                    Outcome::Raise(status) => panic!("{status}"),
                };
                self.next += 1;
            }
            self.next = 0;
        }
    }

    fn abandon(&mut self, cpu: &mut Cpu<'_, Amd64, NoTrace>) {
        self.access.abandon(cpu);
    }
}

/// A machine with memory for everything and one thread that loads from so many pages `stride`
/// bytes apart, warmed up.
fn simulation(pages: u64, stride: u64) -> Simulation<Amd64, NoTrace> {
    let config = Config { quantum: QUANTUM, ..Config::plain(Pages::new(60_000)) };
    let machine = Machine::new(config, Clock::new(), NoTrace);
    let mut simulation = Simulation::new(machine, ntmm::Config::default()).expect("enough memory");
    let limits = WorkingSetLimits::new(40_000, 50_000, Hardness::Soft).expect("in order");
    let space = simulation.manager().create_address_space(limits).expect("enough memory");
    let mut allocate = Allocate::new(
        space,
        Placement::At(Va::new(BASE)),
        Bytes::new(pages * stride),
        AllocationType::ReserveAndCommit,
        Protection::READWRITE,
    );
    let allocated = simulation.complete(&mut allocate).expect("the machine runs");
    assert!(allocated.is_ok());
    let addresses = (0..4096)
        .map(|number| Va::new(BASE + number % pages * stride + number * 264 % 4088))
        .collect();
    let loader = Loader { access: MemoryAccess::new(), addresses, next: 0 };
    simulation.spawn(Some(space), Box::new(loader));
    for _ in 0..100 {
        simulation.step().expect("the machine runs");
    }
    simulation
}

fn program(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("program");
    group.throughput(Throughput::Elements(u64::from(QUANTUM)));
    // 64 pages next to each other all hit; 16 that are 4 MiB apart all miss.
    for (name, pages, stride) in [("hit", 64, 4096), ("miss", 16, 4 << 20)] {
        let mut simulation = simulation(pages, stride);
        group.bench_function(name, |bencher| {
            bencher.iter(|| simulation.step().expect("the machine runs"));
        });
    }
    group.finish();
}

criterion_group!(benches, reference, program);
criterion_main!(benches);
