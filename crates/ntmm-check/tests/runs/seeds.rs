//! Fixed seeds in each paging mode.

use ntmm_check::setup::Paging;
use ntmm_check::{CheckOptions, CheckOutcome, check};

fn checked(options: &CheckOptions) -> CheckOutcome {
    let outcome = check(options, &mut |_| {});
    let totals = &outcome.totals;
    println!("{:?}: {} steps, {} audits", outcome.seeds, totals.steps, totals.audits);
    if let Some(failed) = &outcome.failure {
        panic!(
            "seed {} ({}): {}\n{}",
            failed.seed,
            failed.paging,
            failed.failure,
            failed.regression()
        );
    }
    outcome
}

/// Runs seeds of a mode and requires that they went everywhere.
fn check_mode(paging: Paging) {
    let outcome = checked(&CheckOptions {
        seed: Some(1),
        steps: Some(150_000),
        paging: Some(paging),
        threads: 1,
        ..CheckOptions::default()
    });
    let coverage = outcome.totals.coverage;
    for (way, count) in [
        ("demand-zero faults", coverage.demand_zero),
        ("transition faults", coverage.transition),
        ("page-file faults", coverage.page_file),
        ("collided faults", coverage.collided),
        ("guard pages", coverage.guard_pages),
        ("pages read", coverage.pages_read),
        ("pages written", coverage.pages_written),
        ("failed reads", coverage.failed_reads),
        ("failed writes", coverage.failed_writes),
        ("pages trimmed", coverage.trimmed),
        ("pages replaced", coverage.replaced),
        ("shootdowns", coverage.shootdowns),
        ("preemptions", coverage.preemptions),
        ("refused allocations", coverage.refused_allocations),
        ("frames lent", coverage.frames_lent),
        ("frames taken back", coverage.frames_taken),
        ("refused removals", coverage.refused_removals),
    ] {
        assert!(count > 0, "no {way}");
    }
}

#[test]
fn seeds_pass_on_i386() {
    check_mode(Paging::I386);
}

#[test]
fn seeds_pass_on_pae() {
    check_mode(Paging::Pae);
}

#[test]
fn seeds_pass_on_amd64() {
    check_mode(Paging::Amd64);
}

#[test]
fn threads_of_the_host_do_not_change_what_is_counted() {
    let options =
        CheckOptions { seed: Some(77), steps: Some(30_000), threads: 1, ..CheckOptions::default() };
    let one = checked(&options);
    let three = checked(&CheckOptions { threads: 3, ..options });
    assert_eq!((one.totals, &one.seeds), (three.totals, &three.seeds));
    assert!(one.totals.steps >= 30_000);
    let counts: Vec<u64> = one.seeds.iter().map(|seeds| seeds.count).collect();
    assert_eq!(counts.iter().sum::<u64>(), one.totals.runs);
}
