//! The Nt calls beside the host's own, in one run: what the service costs in each.
//!
//! The manager's side is the call in its NT shape, checks and all, as an emulator or a library
//! makes it: a function call, on one processor of a machine whose hardware takes no time. The
//! host's side is a system call, with its trap. So these are costs of a service made in software,
//! which say what a user of the library pays, not which kernel is faster. Memory is untouched in
//! the first pair; in the third each page has been written before, which is not measured on either
//! side. A page to be protected is written too, and is all of its allocation, or of its mapping,
//! so that neither side has to split anything.
//!
//! `cargo bench -p ntmm --bench calls_beside_host`
//!
//! The table at the end has the medians of the samples, their ratios, and what is aimed at.

mod host;
mod idle;

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use host::{Mapping, RegionQuery, Rights};
use idle::{Idle, Zeroing};
use ntmm::nt::constants::{MEM_COMMIT, MEM_DECOMMIT, MEM_RELEASE, MEM_RESERVE};
use ntmm::nt::{
    AllocateParameters, AllocateVirtualMemory, Caller, FreeParameters, FreeVirtualMemory,
    Information, Process, Profile, ProtectParameters, ProtectVirtualMemory, QueryParameters,
    QueryVirtualMemory, Range, Target,
};
use ntmm::working_set::limits::{Hardness, WorkingSetLimits};
use ntmm::{AddressSpaceId, Fault, Manager, NtStatus, ProcessorMode};
use ntmm_pte::protection::{PAGE_READONLY, PAGE_READWRITE};
use ntmm_pte::{AccessKind, Amd64, PAGE_SIZE, Va};

/// Pages that are touched before they are decommitted one by one.
const BATCH: u64 = 64;

/// Allocations a process has anyway, as the host's has its own.
const ALLOCATIONS: u32 = 32;

/// Regions to query among.
const REGIONS: u64 = 4096;

/// A process of the manager.
struct Process64 {
    manager: Manager<Idle<Amd64>>,
    space: AddressSpaceId,
    caller: Caller,
}

impl Process64 {
    fn new() -> Self {
        let manager = idle::manager(Zeroing::Done);
        let limits = WorkingSetLimits::new(8192, 10_000, Hardness::Soft).expect("in order");
        let space = manager.create_address_space(limits).expect("a space");
        let caller = Caller::program::<Amd64>(Profile::Legacy);
        let process = Self { manager, space, caller };
        for _ in 0..ALLOCATIONS {
            process.allocate(0, 0x1_0000, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
        }
        process
    }

    fn target(&self) -> Process {
        Ok(Target::current(self.space))
    }

    fn allocate(&self, base: u64, size: u64, kind: u32, protection: u32) -> u64 {
        let parameters = AllocateParameters {
            process: self.target(),
            base: Ok(base),
            zero_bits: 0,
            size: Ok(size),
            kind,
            protection,
        };
        let call = AllocateVirtualMemory::new(self.caller, parameters);
        let Range { base, .. } = idle::run(&self.manager, call).output.expect("memory");
        base
    }

    fn free(&self, base: u64, size: u64, kind: u32) {
        let parameters =
            FreeParameters { process: self.target(), base: Ok(base), size: Ok(size), kind };
        let outcome = idle::run(&self.manager, FreeVirtualMemory::new(self.caller, parameters));
        assert_eq!(outcome.status, NtStatus::SUCCESS);
    }

    fn protect(&self, base: u64, protection: u32) {
        let parameters = ProtectParameters {
            process: self.target(),
            base: Ok(base),
            size: Ok(PAGE_SIZE),
            protection,
            old: Ok(()),
        };
        let outcome = idle::run(&self.manager, ProtectVirtualMemory::new(self.caller, parameters));
        assert_eq!(outcome.status, NtStatus::SUCCESS);
    }

    fn query(&self, address: u64) -> (u64, u64) {
        let parameters = QueryParameters {
            process: self.target(),
            address,
            class: 0,
            buffer: Ok(()),
            length: 0x30,
            return_length: Ok(()),
        };
        let call = QueryVirtualMemory::new(self.caller, parameters, &mut []);
        match idle::run(&self.manager, call).information {
            Some(Information::Basic(basic)) => (basic.base, basic.size),
            _ => panic!("basic information"),
        }
    }

    /// Faults a page in for a write.
    fn touch(&self, address: u64) {
        let (va, mode) = (Va::new(address), ProcessorMode::User);
        idle::run(&self.manager, Fault::new(self.space, va, AccessKind::Write, mode));
    }
}

/// The samples of a pair.
#[derive(Default)]
struct Pair {
    name: &'static str,
    aim: f64,
    manager: RefCell<Vec<f64>>,
    host: RefCell<Vec<f64>>,
}

impl Pair {
    fn new(name: &'static str, aim: f64) -> Self {
        Self { name, aim, ..Self::default() }
    }

    /// Measures one side; `time` makes so many calls. The few samples of the warm-up are among
    /// those that the median is taken of.
    fn measure(
        &self,
        criterion: &mut Criterion,
        side: &str,
        samples: &RefCell<Vec<f64>>,
        mut time: impl FnMut(u64) -> Duration,
    ) {
        criterion.benchmark_group(self.name).bench_function(side, |bencher| {
            bencher.iter_custom(|calls| {
                let elapsed = time(calls);
                samples.borrow_mut().push(elapsed.as_nanos() as f64 / calls as f64);
                elapsed
            });
        });
    }

    fn line(&self) -> String {
        let median = |samples: &RefCell<Vec<f64>>| {
            let mut samples = samples.borrow_mut();
            samples.sort_by(f64::total_cmp);
            samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let (manager, host) = (median(&self.manager), median(&self.host));
        let Self { name, aim, .. } = self;
        format!("{name:<34} {manager:>9.0} {host:>9.0} {:>7.3} {aim:>7.2}", manager / host)
    }
}

/// Times `calls` calls of one kind.
fn timed(calls: u64, mut call: impl FnMut(u64)) -> Duration {
    let start = Instant::now();
    for number in 0..calls {
        call(number);
    }
    start.elapsed()
}

/// Times calls in batches, each of which something is done before.
fn timed_batches(calls: u64, mut prepare: impl FnMut(u64), mut call: impl FnMut(u64)) -> Duration {
    let mut total = Duration::ZERO;
    let mut left = calls;
    while left > 0 {
        let batch = left.min(BATCH);
        prepare(batch);
        total += timed(batch, &mut call);
        left -= batch;
    }
    total
}

fn allocation(criterion: &mut Criterion, process: &Process64) -> Pair {
    const SIZE: u64 = 0x1_0000;
    let pair = Pair::new("reserve, commit, free 64 KiB", 0.25);
    pair.measure(criterion, "ntmm", &pair.manager, |calls| {
        timed(calls, |_| {
            let base = process.allocate(0, SIZE, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
            process.free(base, 0, MEM_RELEASE);
        })
    });
    pair.measure(criterion, "mmap, munmap", &pair.host, |calls| {
        timed(calls, |_| drop(black_box(Mapping::new(SIZE as usize, Rights::Write))))
    });
    pair
}

fn protection(criterion: &mut Criterion, process: &Process64) -> Pair {
    let pair = Pair::new("protect one page", 0.12);
    let base = process.allocate(0, PAGE_SIZE, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    process.touch(base);
    pair.measure(criterion, "ntmm", &pair.manager, |calls| {
        timed(calls, |number| {
            let rights = if number % 2 == 0 { PAGE_READONLY } else { PAGE_READWRITE };
            process.protect(base, rights);
        })
    });
    // Between two pages without rights, no mapping beside it is like it.
    let mapping = Mapping::new(3 * PAGE_SIZE as usize, Rights::None);
    mapping.protect(1, Rights::Write);
    mapping.touch(1);
    pair.measure(criterion, "mprotect", &pair.host, |calls| {
        timed(calls, |number| {
            mapping.protect(1, if number % 2 == 0 { Rights::Read } else { Rights::Write });
        })
    });
    pair
}

fn decommit(criterion: &mut Criterion, process: &Process64) -> Pair {
    let pair = Pair::new("decommit one written page", 0.20);
    let size = BATCH * PAGE_SIZE;
    let base = process.allocate(0, size, MEM_RESERVE, PAGE_READWRITE);
    pair.measure(criterion, "ntmm", &pair.manager, |calls| {
        let prepare = |pages| {
            process.allocate(base, pages * PAGE_SIZE, MEM_COMMIT, PAGE_READWRITE);
            (0..pages).for_each(|page| process.touch(base + page * PAGE_SIZE));
        };
        timed_batches(calls, prepare, |page| {
            process.free(base + page * PAGE_SIZE, PAGE_SIZE, MEM_DECOMMIT);
        })
    });
    let mapping = Mapping::new(size as usize, Rights::Write);
    pair.measure(criterion, "madvise(DONTNEED)", &pair.host, |calls| {
        let prepare = |pages| (0..pages).for_each(|page| mapping.touch(page as usize));
        timed_batches(calls, prepare, |page| mapping.forget(page as usize))
    });
    pair
}

fn query(criterion: &mut Criterion, process: &Process64) -> (Pair, &'static str) {
    let pair = Pair::new("query among 4096 regions", 0.35);
    // Every other one has other rights, so that no two neighbours are one region.
    let bases: Vec<u64> = (0..REGIONS)
        .map(|number| {
            let rights = if number % 2 == 0 { PAGE_READONLY } else { PAGE_READWRITE };
            process.allocate(0, PAGE_SIZE, MEM_RESERVE | MEM_COMMIT, rights)
        })
        .collect();
    // An odd step goes through all of them, far from one to the next.
    let scattered = |number: u64| number.wrapping_mul(1_657) % REGIONS;
    pair.measure(criterion, "ntmm", &pair.manager, |calls| {
        timed(calls, |number| {
            let base = bases[scattered(number) as usize];
            assert_eq!(black_box(process.query(base)), (base, PAGE_SIZE));
        })
    });
    let mapping = Mapping::new((REGIONS * PAGE_SIZE) as usize, Rights::Write);
    (0..REGIONS).step_by(2).for_each(|page| mapping.protect(page as usize, Rights::Read));
    let host = RegionQuery::new();
    pair.measure(criterion, host.name(), &pair.host, |calls| {
        timed(calls, |number| {
            let address = mapping.page(scattered(number) as usize) as u64;
            let region = black_box(host.region(address));
            assert_eq!(region, Some((address, address + PAGE_SIZE)));
        })
    });
    (pair, host.name())
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let process = Process64::new();
    let first = [
        allocation(&mut criterion, &process),
        protection(&mut criterion, &process),
        decommit(&mut criterion, &process),
    ];
    let (last, host_query) = query(&mut criterion, &process);
    criterion.final_summary();
    println!("nanoseconds, median                     ntmm      host   ratio     aim");
    for pair in first.iter().chain([&last]) {
        println!("{}", pair.line());
    }
    println!("The host is asked for a region by {host_query}.");
}
