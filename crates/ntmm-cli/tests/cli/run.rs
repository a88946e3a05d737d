//! Runs that go well: what they count, in every mode and form of trace.

use std::fs;
use std::io::Write;

use serde_json::Value;

use crate::common::{CODE_PAGES, DATA_PAGES, argument, directory, ntmm, small_trace};

/// A number of a JSON object.
fn number(value: &Value, path: &str) -> u64 {
    let found = value.pointer(path).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no number at {path} in {value}"))
}

#[test]
fn every_mode_pages_and_gets_every_byte_back() {
    let directory = directory("modes");
    let trace = small_trace();
    let path = trace.write(&directory);
    for mode in ["amd64", "pae", "i386"] {
        let run = ntmm(["run", argument(&path), "--ram", "640K", "--paging", mode, "--json"]);
        let figures = run.json();
        assert_eq!(figures["machine"]["paging"], mode);
        assert_eq!(number(&figures, "/references"), trace.references);
        let swept = (DATA_PAGES + CODE_PAGES) * 4096;
        assert_eq!(number(&figures, "/verified"), trace.read + swept);
        assert_eq!(number(&figures, "/sweep/pages"), DATA_PAGES + CODE_PAGES);
        assert!(number(&figures, "/faults/demand_zero") >= DATA_PAGES);
        assert!(number(&figures, "/faults/page_file") > DATA_PAGES, "{figures}");
        assert!(number(&figures, "/paging_file/pages_written") > DATA_PAGES, "{figures}");
        assert!(figures["seconds"].is_f64());
    }
}

#[test]
fn the_object_has_the_promised_fields() {
    let directory = directory("fields");
    let path = small_trace().write(&directory);
    let figures = ntmm(["run", argument(&path), "--ram", "640K", "--json"]).json();
    for field in ["demand_zero", "transition", "page_file"] {
        number(&figures, &format!("/faults/{field}"));
        number(&figures, &format!("/processes/0/faults/{field}"));
    }
    for field in ["reads", "pages_read", "writes", "pages_written", "peak_slots"] {
        number(&figures, &format!("/paging_file/{field}"));
    }
    let lists = [
        "zeroed",
        "free",
        "standby",
        "modified",
        "active",
        "transition",
        "bad",
        "modified_no_write",
    ];
    let located: u64 = lists.iter().map(|list| number(&figures, &format!("/machine/{list}"))).sum();
    assert_eq!(located, number(&figures, "/machine/frames"));
    assert_eq!(located, 160);
    assert_eq!(figures["processes"][0]["name"], "demo");
    assert!(number(&figures, "/processes/0/working_set_peak") > 0);
}

#[test]
fn threads_and_processors_change_no_byte() {
    let directory = directory("threads");
    let trace = small_trace();
    let path = trace.write(&directory);
    let path = argument(&path);
    for (threads, cpus) in [("1", "4"), ("2", "1"), ("4", "3"), ("9", "32")] {
        let run = ntmm([
            "run",
            path,
            path,
            "--ram",
            "1M",
            "--threads",
            threads,
            "--cpus",
            cpus,
            "--json",
        ]);
        let figures = run.json();
        assert_eq!(number(&figures, "/references"), 2 * trace.references);
        assert_eq!(figures["processes"].as_array().map(Vec::len), Some(2));
    }
}

#[test]
fn threads_meet_at_pages_being_read() {
    let directory = directory("collisions");
    // Pages far apart, so that no read brings in a neighbour, in a round that threads share.
    let mut text = String::new();
    for round in 0..2000_u64 {
        let page = round / 2 % 200;
        text.push_str(&format!(" M {:08x},8\n", 0x1000_0000 + page * 0x4000 + round % 8 * 8));
    }
    let path = directory.join("meet.lk");
    fs::write(&path, text).expect("temporary files can be written");
    let run =
        ntmm(["run", argument(&path), "--ram", "400K", "--threads", "8", "--cpus", "4", "--json"]);
    let figures = run.json();
    assert!(number(&figures, "/faults/page_file") > 0, "{figures}");
    assert!(number(&figures, "/faults/collided") > 0, "{figures}");
}

#[test]
fn the_same_command_makes_the_same_run() {
    let directory = directory("same");
    let path = small_trace().write(&directory);
    let run = || {
        let run = ntmm([
            "run",
            argument(&path),
            argument(&path),
            "--ram",
            "900K",
            "--threads",
            "3",
            "--cpus",
            "2",
            "--seed",
            "17",
            "--json",
        ]);
        let mut figures = run.json();
        figures["seconds"] = Value::Null;
        figures
    };
    assert_eq!(run(), run());
}

#[test]
fn every_form_of_a_trace_is_the_same_program() {
    let directory = directory("forms");
    let trace = small_trace();
    let text = trace.write(&directory);
    let gzipped = directory.join("demo.lk.gz");
    let file = fs::File::create(&gzipped).expect("temporary files can be written");
    let mut packer = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    packer.write_all(trace.text.as_bytes()).expect("temporary files can be written");
    packer.finish().expect("temporary files can be written");
    let compact = directory.join("demo.ntt");
    let converted = ntmm(["trace", "convert", argument(&gzipped), argument(&compact)]);
    assert_eq!(converted.code, 0, "{}", converted.stderr);

    let run = |path| ntmm(["run", argument(path), "--ram", "640K", "--json"]).json();
    let (from_text, from_gzip, from_compact) = (run(&text), run(&gzipped), run(&compact));
    assert_eq!(from_text["faults"], from_gzip["faults"]);
    assert_eq!(number(&from_compact, "/references"), trace.references);
    assert_eq!(from_compact["processes"][0]["name"], "demo");
    assert_eq!(number(&from_compact, "/sweep/pages"), number(&from_text, "/sweep/pages"));
}

#[test]
fn without_arguments_the_bundled_traces_page() {
    let run = ntmm([]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for program in ["1 sqlite3", "2 python3.11", "3 sort", "4 cc1", "machine"] {
        assert!(run.stdout.lines().any(|line| line.starts_with(program)), "{}", run.stdout);
    }
    let figures = ntmm(["run", "--json", "--ram", "12M"]).json();
    assert!(number(&figures, "/references") >= 4 * 30_000_000);
    assert!(number(&figures, "/paging_file/pages_read") > 1000, "{figures}");
}

#[test]
fn quiet_says_nothing() {
    let directory = directory("quiet");
    let path = small_trace().write(&directory);
    let run = ntmm(["run", argument(&path), "--quiet"]);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "", ""));
}
