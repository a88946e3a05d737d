//! The manager and the model agree, and would notice if they did not.

use std::time::Duration;

use ntmm_check::setup::Paging;
use ntmm_differential::call::GROUPS;
use ntmm_differential::sabotage::Sabotage;
use ntmm_differential::{Disagreement, Options, check};

/// Asserts that this many calls from a seed on are answered alike.
fn assert_agreement(paging: Paging) {
    let options =
        Options { seed: Some(1), calls: Some(200_000), paging: Some(paging), ..Options::default() };
    let outcome = check(&options, &mut |_| {});
    if let Some(failed) = &outcome.failure {
        panic!("{failed}");
    }
    assert!(outcome.counts.calls() >= 200_000);
    // Calls that all fail would agree about little.
    for (name, (made, succeeded)) in GROUPS.iter().zip(outcome.counts.groups) {
        println!("{name}: {made}, {succeeded} successful");
        assert!(made >= 50, "{name}: {made} calls");
        assert!(succeeded >= 50 || *name == "flush", "{name}: {succeeded} of {made} calls succeed");
    }
    // What may happen either way does.
    assert!(outcome.counts.open_first >= 100 && outcome.counts.open_other >= 20);
}

#[test]
fn agreement_in_i386() {
    assert_agreement(Paging::I386);
}

#[test]
fn agreement_in_pae() {
    assert_agreement(Paging::Pae);
}

#[test]
fn agreement_in_amd64() {
    assert_agreement(Paging::Amd64);
}

#[test]
fn sabotage_is_noticed() {
    for sabotage in Sabotage::ALL {
        let options = Options {
            seed: Some(1),
            calls: Some(200_000),
            time: Some(Duration::from_secs(600)),
            paging: Some(Paging::Amd64),
            sabotage: Some(sabotage),
            ..Options::default()
        };
        let outcome = check(&options, &mut |_| {});
        let failed = outcome.failure.unwrap_or_else(|| panic!("nobody notices {sabotage:?}"));
        println!("{sabotage:?}: {failed}\n");
        assert!(failed.calls.len() <= 12, "the list is not short: {failed}");
    }
}

/// What no call can see is noticed by the audit of the machine: during a check after so many
/// runs, and at the end of one that is too short for that. Runs hold 512 calls.
#[test]
fn what_no_call_sees_is_noticed_by_an_audit() {
    for calls in [100_000, 2_000] {
        let options = Options {
            seed: Some(1),
            calls: Some(calls),
            paging: Some(Paging::Pae),
            sabotage: Some(Sabotage::LeakedProcess),
            ..Options::default()
        };
        let outcome = check(&options, &mut |_| {});
        let failed = outcome.failure.unwrap_or_else(|| panic!("no audit within {calls} calls"));
        assert!(outcome.counts.calls() < 50_000, "{:?}", outcome.counts);
        assert!((1..=2).contains(&failed.calls.len()), "the list is not short: {failed}");
        assert!(matches!(failed.disagreement, Disagreement::Stopped(_)), "{failed}");
    }
}
