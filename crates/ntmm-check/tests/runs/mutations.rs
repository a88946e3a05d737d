//! Rules broken on purpose: some check has to notice, and the one expected.
//!
//! Seeds are run on sabotaged machines until one fails; the failure says what caught it. The same
//! seed passes on a sound machine.

use ntmm_check::sabotage::{Sabotage, Saboteur};
use ntmm_check::setup::{Conduct, Paging, Setup};
use ntmm_check::{generate, run};
use ntmm_machine::Defect;

/// Seeds tried before a mutation counts as missed.
const SEEDS: u64 = 600;

/// One million in a million.
const ALWAYS: u32 = 1_000_000;

/// What catches wrong bytes: the model, or the auditors when the bytes are a page table's.
const DATA: [&str; 2] = ["model:", "audit:"];

/// What is broken, and where.
struct Mutation {
    saboteur: Saboteur,
    chance: u32,
    /// Makes the machines of the seeds such that the mutation matters.
    adapt: fn(&mut Setup),
}

/// Asserts that the mutation is caught, and by a check whose rule begins with one of `by`.
fn assert_caught(mutation: &Mutation, by: &[&str]) {
    let Mutation { saboteur, chance, adapt } = mutation;
    for (seed, paging) in (0..SEEDS).zip(Paging::ALL.into_iter().cycle()) {
        let mut scenario = generate(seed, paging, 150);
        adapt(&mut scenario.setup);
        let sound = scenario.clone();
        scenario.setup.sabotage = Some(Sabotage { saboteur: *saboteur, chance: *chance });
        if let Some(failure) = run(&scenario).failure {
            assert_eq!(run(&sound).failure, None, "seed {seed} of a sound machine");
            println!("{saboteur}: seed {seed} ({paging}) {failure}");
            assert!(
                by.iter().any(|rule| failure.rule.starts_with(rule)),
                "{saboteur} was caught by {failure}, not by {by:?}"
            );
            return;
        }
    }
    panic!("{SEEDS} seeds do not notice {saboteur}");
}

/// Some machine as the seed has it.
fn any(_setup: &mut Setup) {}

/// Several processors that forget translations and switch all the time.
fn hectic(setup: &mut Setup) {
    setup.cpus = 4;
    setup.conduct = Conduct::Adversarial {
        preempt: 2,
        forget: 800_000,
        speculate: 0,
        spurious: 0,
        retain: 500_000,
    };
}

/// A paging file whose transfers do not fail of themselves.
fn paging(setup: &mut Setup) {
    setup.paging_file = 512;
    setup.read_errors = 0;
    setup.write_errors = 0;
}

#[test]
fn a_skipped_flush_leaves_a_stale_translation() {
    let saboteur = Saboteur::Machine(Defect::SkippedFlush);
    assert_caught(&Mutation { saboteur, chance: 20_000, adapt: any }, &["reachable"]);
}

#[test]
fn a_frame_freed_before_the_flush_is_made_is_still_reachable() {
    let saboteur = Saboteur::Machine(Defect::EarlyAcknowledgement);
    assert_caught(&Mutation { saboteur, chance: 100_000, adapt: any }, &["reachable"]);
}

#[test]
fn a_lost_dirty_bit_loses_data() {
    let saboteur = Saboteur::Machine(Defect::LostDirty);
    assert_caught(&Mutation { saboteur, chance: 100_000, adapt: paging }, &DATA);
}

#[test]
fn a_walker_that_overwrites_entries_revives_them() {
    let saboteur = Saboteur::Machine(Defect::OverwritingWalk);
    assert_caught(&Mutation { saboteur, chance: 300_000, adapt: hectic }, &["audit:"]);
}

#[test]
fn a_transfer_reported_too_early_shows_other_bytes() {
    let saboteur = Saboteur::Machine(Defect::EarlyCompletion);
    assert_caught(&Mutation { saboteur, chance: 100_000, adapt: paging }, &DATA);
}

#[test]
fn a_dropped_write_loses_data() {
    let saboteur = Saboteur::DroppedWrite;
    assert_caught(&Mutation { saboteur, chance: 20_000, adapt: paging }, &DATA);
}

#[test]
fn a_stale_read_shows_old_data() {
    let saboteur = Saboteur::StaleRead;
    assert_caught(&Mutation { saboteur, chance: 50_000, adapt: paging }, &DATA);
}

#[test]
fn an_operation_that_is_not_abandoned_leaks() {
    let saboteur = Saboteur::ForgottenOperation;
    let by = ["audit: Leak", "audit: AddressCreationOwned", "stuck"];
    assert_caught(&Mutation { saboteur, chance: ALWAYS, adapt: any }, &by);
}
