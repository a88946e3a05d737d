//! The figures in `docs/conformance.md` are those of a run.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use ntmm_conformance::{Options, Paging, Profile, Report, read, run};

const CASES: &str = include_str!("../cases.jsonl");

/// Set to put the figures right instead of complaining about them.
const UPDATE: &str = "NTMM_UPDATE";

/// What stands before and after the figures.
const BEGIN: &str = "<!-- figures: begin -->\n";
const END: &str = "<!-- figures: end -->\n";

/// The group a reason for a skip belongs to.
fn group(reason: &str) -> String {
    match reason.split_once(": ") {
        Some((_, why)) => why.to_owned(),
        None if reason.contains("wow64") => "32-bit programs on 64-bit Windows".to_owned(),
        None if reason.ends_with("profile") => "another version of Windows".to_owned(),
        None if reason.starts_with("holds on") => "another architecture".to_owned(),
        None => reason.to_owned(),
    }
}

/// The tables of the document.
fn figures(reports: &[Report]) -> String {
    let mut text = String::from("| Profile | Paging | Passed | Failed | Skipped |\n");
    text += "|---|---|---:|---:|---:|\n";
    let mut groups: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (column, report) in reports.iter().enumerate() {
        let Report { profile, paging, totals, .. } = report;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {profile} | {paging} | {} | {} | {} |",
            totals.passed, totals.failed, totals.skipped
        );
        for (reason, count) in &report.skipped {
            let counts = groups.entry(group(reason)).or_insert_with(|| vec![0; reports.len()]);
            counts[column] += count;
        }
    }
    text += "\nSkipped cases by reason:\n\n| Reason |";
    for Report { profile, paging, .. } in reports {
        let _ = write!(text, " {profile} {paging} |");
    }
    text += "\n|---|";
    text += &"---:|".repeat(reports.len());
    text.push('\n');
    for (group, counts) in groups {
        let _ = write!(text, "| {group} |");
        for count in counts {
            let _ = write!(text, " {count} |");
        }
        text.push('\n');
    }
    text
}

#[test]
fn document_has_the_figures_of_a_run() {
    let entries = read(CASES).expect("the file holds cases");
    let reports: Vec<Report> = Profile::ALL
        .into_iter()
        .flat_map(|profile| Paging::ALL.map(|paging| (profile, paging)))
        .map(|(profile, paging)| run(&entries, &Options { paging, profile, filter: None }))
        .collect();
    let figures = figures(&reports);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/conformance.md");
    let document = fs::read_to_string(&path).expect("the document can be read");
    let (before, rest) = document.split_once(BEGIN).expect("the figures begin");
    let (found, after) = rest.split_once(END).expect("the figures end");
    if env::var_os(UPDATE).is_some() {
        let mended = format!("{before}{BEGIN}{figures}{END}{after}");
        fs::write(&path, mended).expect("the document can be written");
    } else {
        assert_eq!(found, figures, "{UPDATE}=1 mends docs/conformance.md");
    }
}
