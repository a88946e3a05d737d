//! `ntmm check --calls`: random calls, answered by the manager and by a model of the rules.

use std::fmt::Write;

use ntmm_differential::call::GROUPS;
use ntmm_differential::{FailedRun, Options, Outcome};

use super::{host_threads, time_of};
use crate::arguments::CheckArguments;
use crate::failure::Failure;
use crate::output::print;
use crate::run::progress::{Bar, Visibility};
use crate::table::grouped;

/// Makes the calls.
///
/// # Errors
/// The two sides disagree.
pub(super) fn check_calls(arguments: &CheckArguments) -> Result<(), Failure> {
    let options = Options {
        seed: arguments.seed,
        calls: arguments.steps,
        time: time_of(arguments),
        paging: arguments.paging,
        threads: host_threads(),
        sabotage: None,
    };
    let bar = Bar::new(Visibility::OnTerminal);
    bar.begin("calls");
    let mut told = Ok(());
    let mut begun = false;
    let outcome = ntmm_differential::check(&options, &mut |progress| {
        if !begun {
            begun = true;
            told = bar.beside(|| print(&format!("seed {}\n", progress.first_seed)));
        }
        match (options.time, options.calls) {
            (Some(time), _) => {
                bar.set(progress.elapsed.as_millis() as u64, time.as_millis() as u64);
            }
            (None, calls) => {
                let made = progress.counts.calls();
                bar.set(made, calls.unwrap_or(made));
            }
        }
    });
    drop(bar);
    told?;
    print(&summary(&outcome, options.threads))?;
    match outcome.failure {
        None => Ok(()),
        Some(failed) => {
            print(&format!("\n{failed}\n"))?;
            let FailedRun { seed, rules, .. } = failed;
            let version = rules.version.name();
            Err(Failure::Check(format!(
                "seed {seed} ({}, {version}): the manager and the model disagree",
                rules.paging
            )))
        }
    }
}

/// What was done, and how fast.
fn summary(outcome: &Outcome, threads: u32) -> String {
    let Outcome { first_seed, last_seed, counts, elapsed, .. } = outcome;
    let mut text = format!("seeds {first_seed} to {last_seed}\n");
    for (name, (made, succeeded)) in GROUPS.iter().zip(counts.groups) {
        let (made, succeeded) = (grouped(made), grouped(succeeded));
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<22} {made:>15}, {succeeded:>13} successful");
    }
    let _ = writeln!(
        text,
        "{} calls, and {} queries that compare address spaces, in {:.1} s on {threads} threads: \
         {} calls a second",
        grouped(counts.calls()),
        grouped(counts.comparisons),
        elapsed.as_secs_f64(),
        grouped(outcome.calls_per_second() as u64)
    );
    text
}
