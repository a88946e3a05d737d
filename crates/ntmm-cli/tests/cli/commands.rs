//! `ntmm check`, `ntmm coverage` and help.

use std::fs;

use crate::common::{argument, directory, ntmm};

#[test]
fn a_check_says_its_seed_first_and_repeats() {
    let run = || ntmm(["check", "--seed", "9", "--steps", "20000", "--paging", "pae"]);
    let (one, other) = (run(), run());
    assert_eq!(one.code, 0, "{}{}", one.stdout, one.stderr);
    assert_eq!(one.stdout.lines().next(), Some("seed 9"));
    assert!(one.stdout.contains("audited steps a second"), "{}", one.stdout);
    let work = |text: &str| {
        let line = text.lines().last().and_then(|line| line.split_once(" in "));
        line.map(|(work, _)| work.to_owned())
    };
    assert_eq!(work(&one.stdout), work(&other.stdout));
}

#[test]
fn a_check_of_calls_says_its_seed_first_and_how_fast_it_was() {
    let run = ntmm(["check", "--calls", "--seed", "7", "--steps", "20000", "--paging", "i386"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.starts_with("seed 7\nseeds 7 to "), "{}", run.stdout);
    assert!(run.stdout.ends_with(" calls a second\n"), "{}", run.stdout);
}

#[test]
fn kept_lists_run_again() {
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/../ntmm-check/regressions");
    for entry in fs::read_dir(regressions).expect("the kept lists") {
        let list = entry.expect("a kept list").path();
        let run = ntmm(["check", argument(&list)]);
        assert_eq!(run.code, 0, "{}", run.stderr);
    }
    let directory = directory("lists");
    let list = directory.join("bad.ops");
    fs::write(&list, "no such thing\n").expect("temporary file");
    let run = ntmm(["check", argument(&list)]);
    assert!(run.complaint(2).starts_with(argument(&list)), "{}", run.stderr);
}

#[test]
fn coverage_is_a_table_or_an_object() {
    let object = ntmm(["coverage", "--json"]).json();
    let count = |status: &str| object[status].as_u64().expect("a count");
    assert_eq!(object["rows"].as_array().map(Vec::len), Some(222));
    assert_eq!(count("done") + count("partial") + count("todo"), 222);
    let table = ntmm(["coverage"]);
    assert_eq!(table.code, 0);
    assert_eq!(table.stdout.lines().count(), 222 + 4);
}

#[test]
fn help_says_what_a_reference_costs() {
    let help = ntmm(["run", "--help"]);
    assert_eq!(help.code, 0);
    assert!(help.stdout.contains("10 ns"), "{}", help.stdout);
    assert!(ntmm(["--version"]).stdout.starts_with("ntmm 0."));
}
