//! What the manager's own work costs: faults, calls, trimming, on one processor of a machine
//! with ample memory whose hardware takes no time. Frames are not really zeroed, transfers move
//! nothing, flushes are acknowledged at once, nothing is traced.
//!
//! `cargo bench -p ntmm --bench faults`

mod idle;

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use idle::{Idle, Zeroing};
use ntmm::virtual_memory::{Allocate, AllocationType, Free, FreeType, Placement, Protect};
use ntmm::working_set::limits::{EmptyWorkingSet, Hardness, WorkingSetLimits};
use ntmm::{
    AddressSpaceId, Engine, EngineStep, Fault, FaultKind, Manager, Operation, ProcessorMode,
};
use ntmm_pte::{AccessKind, Amd64, Bytes, I386, PAGE_SIZE, Pae, PagingMode, Protection, Va};

/// Pages of the region the faults are taken in.
const PAGES: u64 = 4096;

/// The machine with one address space and a committed region in it.
struct Bench<M: PagingMode> {
    manager: Manager<Idle<M>>,
    space: AddressSpaceId,
    region: Va,
}

impl<M: PagingMode> Bench<M> {
    fn new() -> Self {
        let manager = idle::manager::<M>(Zeroing::Skipped);
        let limits = WorkingSetLimits::new(8192, 10_000, Hardness::Soft).expect("in order");
        let space = manager.create_address_space(limits).expect("a space");
        let mut bench = Self { manager, space, region: Va::new(0) };
        bench.region = bench.allocate(PAGES * PAGE_SIZE);
        // The list of the working set grows to its size once.
        bench.fault_all();
        bench.free(FreeType::Decommit);
        bench
    }

    fn run<O: Operation<Idle<M>>>(&self, operation: O) -> O::Output {
        idle::run(&self.manager, operation)
    }

    fn allocate(&self, bytes: u64) -> Va {
        let kind = AllocationType::ReserveAndCommit;
        let size = Bytes::new(bytes);
        self.run(Allocate::new(self.space, Placement::Lowest, size, kind, Protection::READWRITE))
            .base
    }

    /// Decommits and commits the region again, or gives it up.
    fn free(&self, kind: FreeType) {
        let size = Bytes::new(PAGES * PAGE_SIZE);
        self.run(Free::new(self.space, self.region, size, kind));
        if kind == FreeType::Decommit {
            let (at, kind) = (Placement::At(self.region), AllocationType::Commit);
            self.run(Allocate::new(self.space, at, size, kind, Protection::READWRITE));
        }
    }

    fn fault(&self, page: u64) -> FaultKind {
        let va = Va::new(self.region.get() + page * PAGE_SIZE);
        self.run(Fault::new(self.space, va, AccessKind::Read, ProcessorMode::User))
    }

    #[inline(never)]
    fn fault_all(&self) -> Duration {
        let start = Instant::now();
        for page in 0..PAGES {
            self.fault(page);
        }
        start.elapsed()
    }

    fn empty(&self) -> Duration {
        let start = Instant::now();
        self.run(EmptyWorkingSet::new(self.space));
        start.elapsed()
    }

    fn engine(&self, engine: Engine) {
        while self.manager.step_engine(engine) == EngineStep::Worked {
            idle::complete(&self.manager);
        }
    }
}

/// Measures rounds over all pages of the region, and scales to one page.
fn per_page(c: &mut Criterion, name: &str, mut round: impl FnMut() -> Duration) {
    c.bench_function(name, |b| {
        b.iter_custom(|pages| {
            let rounds = pages.div_ceil(PAGES);
            let total: Duration = (0..rounds).map(|_| round()).sum();
            total.mul_f64(pages as f64 / (rounds * PAGES) as f64)
        });
    });
}

fn faults<M: PagingMode>(c: &mut Criterion) {
    let bench = Bench::<M>::new();
    per_page(c, &format!("demand zero, from the zeroed list, {}", M::NAME), || {
        bench.engine(Engine::Zeroing);
        let time = bench.fault_all();
        bench.free(FreeType::Decommit);
        time
    });
    per_page(c, &format!("demand zero, from the free list, {}", M::NAME), || {
        let time = bench.fault_all();
        bench.free(FreeType::Decommit);
        time
    });
    bench.fault_all();
    per_page(c, &format!("transition, from the modified list, {}", M::NAME), || {
        bench.empty();
        bench.fault_all()
    });
    per_page(c, &format!("transition, from the standby list, {}", M::NAME), || {
        bench.empty();
        bench.engine(Engine::ModifiedWriter);
        bench.fault_all()
    });
    per_page(c, &format!("trim, {}", M::NAME), || {
        let time = bench.empty();
        bench.fault_all();
        time
    });
    assert_eq!(bench.fault(7), FaultKind::Spurious);
    c.bench_function(&format!("spurious fault, {}", M::NAME), |b| b.iter(|| bench.fault(7)));
}

fn calls<M: PagingMode>(c: &mut Criterion) {
    let bench = Bench::<M>::new();
    let release = |at| {
        bench.run(Free::new(bench.space, at, Bytes::new(0), FreeType::Release));
    };
    c.bench_function(&format!("reserve, commit and release 64 KiB, {}", M::NAME), |b| {
        b.iter(|| release(bench.allocate(0x1_0000)));
    });
    bench.fault_all();
    let mut closed = false;
    c.bench_function(&format!("protect one page, {}", M::NAME), |b| {
        b.iter(|| {
            closed = !closed;
            let protection = if closed { Protection::READONLY } else { Protection::READWRITE };
            let size = Bytes::new(PAGE_SIZE);
            bench.run(Protect::new(bench.space, bench.region, size, protection))
        });
    });
}

fn all(c: &mut Criterion) {
    faults::<Amd64>(c);
    calls::<Amd64>(c);
    faults::<Pae>(c);
    faults::<I386>(c);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = all
}
criterion_main!(benches);
