//! Bad input: one line that says what is wrong and where, the right exit status, no files.

use std::fs;
use std::path::Path;

use crate::common::{argument, directory, files, ntmm, small_trace};

#[test]
fn a_malformed_line_is_named() {
    let directory = directory("malformed");
    let path = directory.join("bad.lk");
    fs::write(&path, "==1== x\nI  0401ab70,3\n L nonsense\n").expect("temporary file");
    let run = ntmm(["run", argument(&path)]);
    assert!(run.complaint(2).starts_with(&format!("{}:3: ", path.display())));
}

#[test]
fn an_empty_trace_is_refused() {
    let directory = directory("empty");
    let path = directory.join("empty.lk");
    fs::write(&path, "").expect("temporary file");
    let run = ntmm(["run", argument(&path)]);
    assert!(run.complaint(2).starts_with(argument(&path)));
}

#[test]
fn truncated_traces_leave_no_results() {
    let directory = directory("truncated");
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../traces/sort.ntt");
    let bytes = fs::read(bundled).expect("a bundled trace");
    let compact = directory.join("cut.ntt");
    fs::write(&compact, &bytes[..bytes.len() / 2]).expect("temporary file");
    let (report, events) = (directory.join("report.html"), directory.join("events.csv"));
    let run = ntmm([
        "run",
        argument(&compact),
        "--report",
        argument(&report),
        "--events",
        argument(&events),
        "--json",
    ]);
    assert!(run.complaint(2).contains("truncated"), "{}", run.stderr);
    assert!(run.complaint(2).starts_with(argument(&compact)));
    assert_eq!(run.stdout, "");
    assert_eq!(files(&directory), ["cut.ntt"]);

    let gzipped = directory.join("cut.lk.gz");
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut packer, small_trace().text.as_bytes()).expect("memory");
    let bytes = packer.finish().expect("memory");
    fs::write(&gzipped, &bytes[..bytes.len() - 100]).expect("temporary file");
    let run = ntmm(["run", argument(&gzipped)]);
    assert!(run.complaint(2).contains("truncated"), "{}", run.stderr);
    let output = directory.join("out.ntt");
    let run = ntmm(["trace", "convert", argument(&gzipped), argument(&output)]);
    assert!(run.complaint(2).contains("truncated"), "{}", run.stderr);
    assert_eq!(files(&directory), ["cut.lk.gz", "cut.ntt"]);
}

#[test]
fn missing_and_unfit_files_are_named() {
    let directory = directory("missing");
    let missing = directory.join("nothing.lk");
    let run = ntmm(["run", argument(&missing)]);
    assert!(run.complaint(2).starts_with(argument(&missing)));
    let run = ntmm(["run", argument(&directory)]);
    assert!(run.complaint(2).starts_with(argument(&directory)));
    let run = ntmm(["trace", "show", argument(&missing)]);
    assert!(run.complaint(2).starts_with(argument(&missing)));
}

#[test]
fn the_least_memory_is_named_and_enough() {
    let directory = directory("least");
    let path = directory.join("one.lk");
    fs::write(&path, " S 10000000,8\n L 10000000,8\n").expect("temporary file");
    for mode in ["amd64", "pae", "i386"] {
        let run = ntmm(["run", argument(&path), "--paging", mode, "--ram", "64K"]);
        let complaint = run.complaint(2);
        let (_, least) = complaint.split_once("the minimum is ").expect("a minimum is named");
        let least: u64 = least.trim_end_matches(" KiB").parse().expect("a number of KiB");
        let with = |kibibytes: u64| {
            let ram = format!("{kibibytes}K");
            ntmm(["run", argument(&path), "--paging", mode, "--ram", &ram, "--quiet"])
        };
        assert_eq!(with(least).code, 0, "{}", with(least).stderr);
        assert_eq!(with(least - 4).code, 2);
    }
}

#[test]
fn memory_that_cannot_be_had_is_status_3() {
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/../../traces/sort.ntt");
    let run = ntmm(["run", trace, "--ram", "2M", "--pagefile-size", "1M"]);
    let complaint = run.complaint(3);
    assert!(complaint.starts_with("process 1 (sort): cannot commit 0x"), "{complaint}");
    assert!(complaint.contains("STATUS_COMMITMENT_LIMIT"), "{complaint}");
}

#[test]
fn paging_files_that_cannot_be_are_refused() {
    let directory = directory("paging_files");
    let trace = small_trace().write(&directory);
    let trace = argument(&trace);
    let run = ntmm(["run", trace, "--pagefile-size", "1020K"]);
    assert!(run.complaint(2).contains("the smallest has 1024K"), "{}", run.stderr);
    let run = ntmm(["run", trace, "--pagefile-size", "5G", "--paging", "i386"]);
    assert!(run.complaint(2).contains("the largest has"), "{}", run.stderr);
    let nowhere = directory.join("no/such/page.sys");
    let run = ntmm(["run", trace, "--pagefile", argument(&nowhere)]);
    assert!(run.complaint(2).contains(argument(&nowhere)), "{}", run.stderr);
    let run = ntmm(["run", trace, "--pagefile", argument(&directory)]);
    assert!(run.complaint(2).contains("not a regular file"), "{}", run.stderr);
    assert_eq!(files(&directory), ["demo.lk"]);
}

#[test]
fn outputs_that_cannot_be_written_are_refused_before_the_run() {
    let directory = directory("unwritable");
    let trace = small_trace().write(&directory);
    let nowhere = directory.join("no/such/file");
    for option in ["--report", "--events"] {
        let run = ntmm(["run", argument(&trace), option, argument(&nowhere)]);
        assert!(run.complaint(2).contains(argument(&nowhere)), "{}", run.stderr);
        assert_eq!(run.stdout, "");
    }
    assert_eq!(files(&directory), ["demo.lk"]);
}

#[test]
fn a_trace_is_not_overwritten() {
    let directory = directory("overwrite");
    let trace = small_trace();
    let path = trace.write(&directory);
    for option in ["--report", "--events", "--pagefile"] {
        let run = ntmm(["run", argument(&path), option, argument(&path)]);
        assert!(run.complaint(2).contains("is one of the traces"), "{}", run.stderr);
        assert_eq!(fs::read_to_string(&path).expect("still there"), trace.text);
    }
}

#[test]
fn an_address_of_no_process_cannot_be_watched() {
    let directory = directory("watch_nothing");
    let trace = small_trace().write(&directory);
    let events = directory.join("events.csv");
    let run = ntmm(["run", argument(&trace), "--watch", "0x10", "--events", argument(&events)]);
    assert!(run.complaint(2).starts_with("--watch: "), "{}", run.stderr);
    assert_eq!(files(&directory), ["demo.lk"]);
}

#[test]
fn bad_usage_is_one_line() {
    for arguments in [
        ["run", "--ram", "lots"],
        ["run", "--ram", "5G"],
        ["run", "--cpus", "33"],
        ["run", "--threads", "0"],
        ["run", "--paging", "x86"],
        ["run", "--seed", "-1"],
        ["run", "--pagefile-size", "4M:2M"],
        ["run", "--watch", "here"],
        ["run", "--no-such-option", "1"],
        ["trace", "convert", "only-one"],
        ["check", "--minutes", "soon"],
    ] {
        ntmm(arguments).complaint(2);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_no_success() {
    use std::process::{Command, Stdio};
    let directory = directory("full");
    let trace = small_trace().write(&directory);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let status = Command::new(env!("CARGO_BIN_EXE_ntmm"))
        .args(["run", argument(&trace)])
        .stdout(full)
        .stderr(Stdio::null())
        .status();
    assert_eq!(status.expect("the program starts").code(), Some(2));
}

#[test]
fn a_command_that_is_missing_is_said() {
    for group in ["bench", "trace"] {
        let complaint = "a command is missing; --help says which there are";
        assert_eq!(ntmm([group]).complaint(2), complaint);
    }
}
