//! `ntmm check`: random runs of whole machines against an independent model and auditors, or of
//! single calls against a model of their rules.

mod calls;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use ntmm_check::{CheckOptions, CheckOutcome, FailedRun, Progress, Stage};

use crate::arguments::CheckArguments;
use crate::failure::Failure;
use crate::output::print;
use crate::run::progress::{Bar, Visibility};
use crate::table::grouped;

/// Runs the command.
///
/// # Errors
/// A run failed, or a list of operations cannot be read.
pub fn check(arguments: &CheckArguments) -> Result<(), Failure> {
    if arguments.calls {
        calls::check_calls(arguments)
    } else if arguments.lists.is_empty() {
        check_seeds(arguments)
    } else {
        arguments.lists.iter().try_for_each(|list| check_list(list))
    }
}

/// Makes the runs of a kept list of operations.
fn check_list(list: &Path) -> Result<(), Failure> {
    let text =
        fs::read_to_string(list).map_err(|error| Failure::host("cannot read", list, error))?;
    let report = ntmm_check::replay(&text)
        .map_err(|error| Failure::Input { file: list.to_owned(), problem: error.to_string() })?;
    match report.failure {
        None => print(&format!("{}: {} steps, good\n", list.display(), grouped(report.steps))),
        Some(failure) => Err(Failure::Check(format!("{}: {}", list.display(), one_line(&failure)))),
    }
}

/// Threads to check on: as many as the host has processors.
fn host_threads() -> u32 {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u32
}

/// The time after which nothing begins.
fn time_of(arguments: &CheckArguments) -> Option<Duration> {
    arguments.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0))
}

fn check_seeds(arguments: &CheckArguments) -> Result<(), Failure> {
    let options = CheckOptions {
        seed: arguments.seed,
        steps: arguments.steps,
        time: time_of(arguments),
        paging: arguments.paging,
        threads: host_threads(),
        ..CheckOptions::default()
    };
    let bar = Bar::new(Visibility::OnTerminal);
    let mut told = Ok(());
    let mut begun = false;
    let outcome = ntmm_check::check(&options, &mut |progress| {
        if !begun {
            begun = true;
            told = bar.beside(|| print(&format!("seed {}\n", progress.first_seed)));
        }
        show(&bar, &options, progress);
    });
    drop(bar);
    told?;
    print(&summary(&outcome))?;
    match outcome.failure {
        None => Ok(()),
        Some(failed) => {
            print(&format!("\n{}", failed.regression()))?;
            Err(Failure::Check(failure_line(&failed)))
        }
    }
}

fn show(bar: &Bar, options: &CheckOptions, progress: &Progress) {
    bar.begin(match progress.stage {
        Stage::Running => "check",
        Stage::Shrinking => "shrink",
    });
    match (options.time, options.steps) {
        (Some(time), _) => {
            bar.set(progress.elapsed.as_millis() as u64, time.as_millis() as u64);
        }
        (None, Some(steps)) => bar.set(progress.totals.steps, steps),
        (None, None) => bar.set(progress.totals.steps, progress.totals.steps),
    }
}

/// What was run, and how fast.
fn summary(outcome: &CheckOutcome) -> String {
    let totals = outcome.totals;
    let mut text = String::new();
    for seeds in &outcome.seeds {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{}: seeds {} to {}",
            seeds.paging,
            seeds.first,
            seeds.first.wrapping_add(seeds.count.saturating_sub(1))
        );
    }
    let _ = writeln!(
        text,
        "{} runs, {} steps, {} of them audited, {} references in {:.1} s: {} audited steps a second",
        grouped(totals.runs),
        grouped(totals.steps),
        grouped(totals.audits),
        grouped(totals.references),
        outcome.elapsed.as_secs_f64(),
        grouped(outcome.audits_per_second() as u64)
    );
    text
}

fn failure_line(failed: &FailedRun) -> String {
    format!("seed {} ({}): {}", failed.seed, failed.paging, one_line(&failed.failure))
}

fn one_line(failure: &ntmm_check::Failure) -> String {
    failure.to_string().replace('\n', " ")
}
