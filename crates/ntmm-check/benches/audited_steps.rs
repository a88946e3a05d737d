//! What a step of a tiny machine and its audit cost: 40 frames above those the manager boots
//! with, eight runs of two hundred operations each, on one thread of the host and on as many at
//! once as it has processors. `ntmm check` makes such runs on all processors of the host, most of
//! them on larger machines.
//!
//! `cargo bench -p ntmm-check --bench audited_steps`

use std::thread;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ntmm_check::setup::{Conduct, Paging};
use ntmm_check::{Scenario, generate, run};

/// The runs of a mode.
fn scenarios(paging: Paging, conduct: Conduct) -> Vec<Scenario> {
    (1..=8)
        .map(|seed| {
            let mut scenario = generate(seed, paging, 200);
            scenario.setup.frames = 40;
            scenario.setup.conduct = conduct;
            scenario
        })
        .collect()
}

fn audited_steps(criterion: &mut Criterion) {
    let preemptive =
        Conduct::Adversarial { preempt: 20, forget: 0, speculate: 0, spurious: 0, retain: 0 };
    for (name, conduct) in [("plain", Conduct::Plain), ("preemptive", preemptive)] {
        let mut group = criterion.benchmark_group(format!("audited_steps/{name}"));
        group.sample_size(10);
        for paging in Paging::ALL {
            let scenarios = scenarios(paging, conduct);
            let reports: Vec<_> = scenarios.iter().map(run).collect();
            assert!(reports.iter().all(|report| report.failure.is_none()), "a run fails");
            let audits = reports.iter().map(|report| report.audits).sum();
            group.throughput(Throughput::Elements(audits));
            let audit_all = || scenarios.iter().map(|one| run(one).audits).sum::<u64>();
            group.bench_function(paging.name(), |bencher| bencher.iter(audit_all));
            let threads = thread::available_parallelism().map_or(1, usize::from);
            group.throughput(Throughput::Elements(audits * threads as u64));
            group.bench_function(format!("{}/{threads} at once", paging.name()), |bencher| {
                bencher.iter(|| {
                    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(audit_all))));
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, audited_steps);
criterion_main!(benches);
