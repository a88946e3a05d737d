//! `ntmm conformance`: facts that hold on real Windows, checked against the manager.
//!
//! The cases that come with ntmm are part of the program; others are read from files of the same
//! form. Each paging mode has a [report](Report) of its own.

use std::fs;
use std::io;
use std::path::Path;

use ntmm_conformance::{Entry, Options, Paging, Report, read, run};
use serde::Serialize;

use crate::arguments::ConformanceArguments;
use crate::failure::Failure;
use crate::output::{print, print_json};

const CASES: &str = include_str!("../../ntmm-conformance/cases.jsonl");

/// What came of all modes.
#[derive(Debug, Serialize)]
struct Reports {
    passed: u64,
    failed: u64,
    skipped: u64,
    reports: Vec<Report>,
}

/// Runs the command.
///
/// # Errors
/// A file cannot be read or is no file of cases; a case fails; standard output cannot be written.
pub fn conformance(arguments: &ConformanceArguments) -> Result<(), Failure> {
    let entries = match &arguments.cases[..] {
        [] => parse(Path::new("the cases that come with ntmm"), CASES)?,
        files => {
            let lists = files.iter().map(|file| load(file)).collect::<Result<Vec<_>, _>>()?;
            lists.into_iter().flatten().collect()
        }
    };
    let modes = arguments.paging.map_or(Paging::ALL.to_vec(), |paging| vec![paging]);
    let reports = modes.into_iter().map(|paging| {
        let (profile, filter) = (arguments.profile, arguments.filter.clone());
        run(&entries, &Options { paging, profile, filter })
    });
    let reports: Vec<Report> = reports.collect();
    let sum = |count: fn(&Report) -> u64| reports.iter().map(count).sum();
    let all = Reports {
        passed: sum(|report| report.totals.passed),
        failed: sum(|report| report.totals.failed),
        skipped: sum(|report| report.totals.skipped),
        reports,
    };
    if all.passed + all.failed + all.skipped == 0 {
        return Err(Failure::Usage("no case has that text in its id or call".to_owned()));
    }
    let failed = all.failed;
    if arguments.json {
        print_json(&all)?
    } else {
        print(&text(&all))?
    }
    if failed == 0 { Ok(()) } else { Err(Failure::Conformance(failed)) }
}

fn load(file: &Path) -> Result<Vec<Entry>, Failure> {
    let refuse = |error: io::Error| Failure::host("cannot read", file, error);
    parse(file, &fs::read_to_string(file).map_err(refuse)?)
}

fn parse(file: &Path, text: &str) -> Result<Vec<Entry>, Failure> {
    let refuse = |error: ntmm_conformance::ReadError| Failure::Input {
        file: file.to_owned(),
        problem: error.to_string(),
    };
    read(text).map_err(refuse)
}

/// Each mode under a heading of its own, and the sum of several as the last line.
fn text(all: &Reports) -> String {
    let one =
        |report: &Report| format!("{} paging, {} Windows\n{report}", report.paging, report.profile);
    let modes: Vec<String> = all.reports.iter().map(one).collect();
    let sum = match modes.len() {
        1 => String::new(),
        _ => format!(
            "\nall modes: {} passed, {} failed, {} skipped\n",
            all.passed, all.failed, all.skipped
        ),
    };
    modes.join("\n") + &sum
}
