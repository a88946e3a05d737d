//! What runs write besides their result: reports, events, watched pages, paging files.

use std::collections::BTreeSet;
use std::fs;

use crate::common::{DATA_PAGES, argument, directory, files, ntmm, small_trace};

#[test]
fn a_report_is_one_page_that_needs_nothing_else() {
    let directory = directory("report");
    let trace = small_trace().write(&directory);
    let report = directory.join("report.html");
    fs::write(&report, "an older report").expect("temporary files can be written");
    let run = ntmm(["run", argument(&trace), "--ram", "640K", "--report", argument(&report)]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(files(&directory), ["demo.lk", "report.html"]);
    let page = fs::read_to_string(&report).expect("the report is text");
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    for elsewhere in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link"] {
        assert!(!page.contains(elsewhere), "the page refers to {elsewhere}");
    }
    assert!(page.matches("<svg").count() >= 4, "two plots and some maps");
    assert!(page.contains("page file") && page.contains("demo"));
    assert!(page.contains("prefers-color-scheme: dark"));
}

#[test]
fn events_are_a_table_of_all_that_happened() {
    let directory = directory("events");
    let trace = small_trace().write(&directory);
    let events = directory.join("events.csv");
    let run =
        ntmm(["run", argument(&trace), "--ram", "640K", "--events", argument(&events), "--json"]);
    let figures = run.json();
    let text = fs::read_to_string(&events).expect("events are text");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("time_ns,event,process,va,access,outcome,pfn,from,to,pages"));
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    assert!(rows.iter().all(|row| row.len() == 10));
    let times: Vec<u64> = rows.iter().map(|row| row[0].parse().expect("a time")).collect();
    assert!(times.is_sorted());
    let kinds: BTreeSet<&str> = rows.iter().map(|row| row[1]).collect();
    assert_eq!(kinds, BTreeSet::from(["fault", "move", "read", "trim", "write"]));
    // The sweep at the end adds faults to those of the replay.
    let faults = |kind| rows.iter().filter(|row| row[1] == "fault" && row[5] == kind).count();
    let counted = |kind: &str| figures["faults"][kind].as_u64().expect("a count") as usize;
    assert!(faults("page-file") >= counted("page_file"));
    assert!(faults("transition") >= counted("transition"));
    assert!(faults("demand-zero") >= DATA_PAGES as usize);
    assert_eq!(faults("demand-zero"), counted("demand_zero"));
}

#[test]
fn a_watched_page_goes_through_its_life() {
    let directory = directory("watch");
    let trace = small_trace().write(&directory);
    // Where docs/trace-format.md puts the second region: a free block after the first.
    let run = ntmm(["run", argument(&trace), "--ram", "640K", "--watch", "0x30000"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let life: Vec<&str> =
        run.stdout.lines().filter(|line| line.contains("process 1 (demo)")).collect();
    let states = [
        "demand zero",
        "* demand-zero fault (write)",
        "valid, frame",
        "* leaves the working set",
        "goes from transition to modified",
        "in transition, frame",
        "in paging file 0, slot",
        "* page-file fault",
    ];
    let mut rest = life.iter();
    for state in states {
        assert!(
            rest.any(|line| line.contains(state)),
            "{state:?} is missing, or not in order:\n{}",
            life.join("\n")
        );
    }
    assert!(run.stdout.contains("every byte right"));

    let apart = ntmm(["run", argument(&trace), "--ram", "640K", "--watch", "0x30000", "--json"]);
    apart.json();
    assert!(apart.stderr.contains("* demand-zero fault"));
}

#[test]
fn a_named_paging_file_stays_and_replaces_an_older_one() {
    let directory = directory("paging_file");
    let trace = small_trace().write(&directory);
    let file = directory.join("page.sys");
    fs::write(&file, "older").expect("temporary files can be written");
    let run = ntmm([
        "run",
        argument(&trace),
        "--ram",
        "640K",
        "--pagefile",
        argument(&file),
        "--pagefile-size",
        "3M:4M",
        "--json",
    ]);
    let figures = run.json();
    assert_eq!(figures["paging_file"]["slots"], 3 * 256 - 1);
    let pages = fs::read(&file).expect("the paging file is there");
    assert_eq!(pages.len(), 4 << 20);
    assert!(pages[..4096].iter().all(|byte| *byte == 0), "slot 0 is never used");
    assert!(pages.iter().any(|byte| *byte != 0), "pages were written");
}
