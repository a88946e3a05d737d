//! A program sees the same on every machine: the outcomes of seeded workloads do not depend on
//! memory, processors, disks, interleaving, neighbours or paging mode.

use std::ops::Range;

use ntmm_check::sabotage::{Sabotage, Saboteur};
use ntmm_check::setup::{Conduct, Paging, Setup};
use ntmm_check::workload::{Job, SimulatedRun, ample, expected, run_on_simulator};
use ntmm_machine::Defect;
use ntmm_workload::Counts;

const STEPS: u32 = 2_000;

/// So little memory that pages come and go all the time.
fn tight() -> Setup {
    Setup {
        frames: 40,
        paging_file: 8192,
        quantum: 500,
        minimum: 20,
        maximum: 40,
        modified_maximum: 8,
        ..Setup::default()
    }
}

const ADVERSARY: Conduct = Conduct::Adversarial {
    preempt: 20,
    forget: 250_000,
    speculate: 20_000,
    spurious: 500_000,
    retain: 500_000,
};

fn job(seed: u64) -> Job {
    Job { seed, steps: STEPS }
}

/// Runs workloads on a machine and compares what each saw with what it must see.
fn check(setup: &Setup, jobs: &[Job]) -> SimulatedRun {
    let run =
        run_on_simulator(setup, jobs).unwrap_or_else(|failure| panic!("{setup:?}: {failure}"));
    assert_eq!(run.outcomes.len(), jobs.len());
    for (job, outcome) in jobs.iter().zip(&run.outcomes) {
        let expected = expected(*job).expect("the ample machine runs");
        let agreed = outcome.agreed_steps(&expected);
        assert_eq!(*outcome, expected, "seed {} parts after step {agreed} of {setup:?}", job.seed);
    }
    run
}

/// Runs seeds one by one; how many pages were read back.
fn check_each(setup: &Setup, seeds: Range<u64>) -> u64 {
    seeds.map(|seed| check(setup, &[job(seed)]).page_file).sum()
}

fn assert_paged(read_back: u64) {
    assert!(read_back > 1_000, "only {read_back} pages were read back");
}

#[test]
fn little_memory_is_not_seen() {
    assert_paged(check_each(&tight(), 0..12));
}

#[test]
fn an_adversary_is_not_seen() {
    let setup = Setup { conduct: ADVERSARY, seed: 1, ..tight() };
    assert_paged(check_each(&setup, 12..18));
    let setup = Setup { conduct: ADVERSARY, seed: 2, ..ample() };
    check_each(&setup, 18..22);
}

#[test]
fn a_second_processor_is_not_seen() {
    let setup = Setup { cpus: 2, ..tight() };
    assert_paged(check_each(&setup, 22..28));
    let setup = Setup { cpus: 2, conduct: ADVERSARY, seed: 3, ..tight() };
    assert_paged(check_each(&setup, 28..34));
}

#[test]
fn neighbours_are_not_seen() {
    let jobs: Vec<Job> = (34..38).map(job).collect();
    for conduct in [Conduct::Plain, ADVERSARY] {
        let setup = Setup { cpus: 2, conduct, seed: 4, frames: 80, ..tight() };
        assert_paged(check(&setup, &jobs).page_file);
    }
}

#[test]
fn the_paging_mode_is_not_seen() {
    for paging in [Paging::I386, Paging::Pae] {
        assert_paged(check_each(&Setup { paging, ..tight() }, 38..44));
    }
}

#[test]
fn a_broken_machine_is_seen() {
    for saboteur in [
        Saboteur::DroppedWrite,
        Saboteur::StaleRead,
        Saboteur::Machine(Defect::LostDirty),
        Saboteur::Machine(Defect::SkippedFlush),
    ] {
        let sabotage = Some(Sabotage { saboteur, chance: 50_000 });
        let setup = Setup { sabotage, conduct: ADVERSARY, seed: 5, ..tight() };
        let seen = (0..12).map(job).any(|job| {
            // Some defects end the machine before a program notices.
            run_on_simulator(&setup, &[job])
                .is_ok_and(|run| run.outcomes != [expected(job).expect("the ample machine runs")])
        });
        assert!(seen, "{saboteur} stays unseen");
    }
}

#[test]
fn seeds_differ_and_go_everywhere() {
    let outcomes: Vec<_> = (0..40).map(|seed| expected(job(seed)).expect("it runs")).collect();
    let mut digests: Vec<u64> = outcomes.iter().map(|outcome| outcome.digest).collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), outcomes.len());
    let sum = |part: fn(&Counts) -> u32| outcomes.iter().map(|it| part(&it.counts)).sum::<u32>();
    for (way, count, least) in [
        ("successful calls", sum(|it| it.allocate + it.free + it.protect - it.failed), 3_000),
        ("failed calls", sum(|it| it.failed), 1_000),
        ("queries", sum(|it| it.query), 500),
        ("emptied working sets", sum(|it| it.empty), 100),
        ("access violations", sum(|it| it.access_violations), 2_000),
        ("guard pages", sum(|it| it.guard_pages), 400),
        ("loads that found something", sum(|it| it.nonzero_loads), 5_000),
    ] {
        assert!(count >= least, "{way}: {count}");
    }
    assert_eq!(sum(|it| it.other_exceptions), 0);
}
