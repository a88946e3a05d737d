//! `ntmm boot` as a command: what it prints, what it says when something is missing.

use std::fs;

use ntmm_cli::arguments::{Arguments, Command as Asked};
use serde_json::Value;

use crate::common::{
    argument, boot, boot_command, directory, kernel, number, outcome, qemu_is_here,
};
use crate::stub::{self, End};

/// A small boot of the kernel.
const SMALL: [&str; 6] = ["--cpus", "1", "--ram", "24M", "--program", "verify pages=64"];

#[test]
fn the_console_comes_first_and_the_table_after_it() {
    if !qemu_is_here() {
        return;
    }
    let run = boot(kernel(), &SMALL);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{}", run.stdout);
    let at = |text: &str| run.stdout.find(text).unwrap_or_else(|| panic!("no {text:?} in {run:?}"));
    assert!(at("verify: right") < at("\n1 process on amd64, 1 processor with "), "{}", run.stdout);
    assert!(at("\n1 verify ") < at("\nmachine "), "{}", run.stdout);
    assert!(at("bytes compared and found right") > at("paging-file slots"), "{}", run.stdout);
    assert!(!run.stdout.contains('@'), "reports are not for people: {}", run.stdout);
}

/// The keys of an object and of the objects in it, those of the first of a list.
fn keys(value: &Value, path: &str, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                into.push(format!("{path}/{name}"));
                keys(value, &format!("{path}/{name}"), into);
            }
        }
        Value::Array(values) => {
            if let Some(first) = values.first() {
                keys(first, &format!("{path}/0"), into);
            }
        }
        _ => {}
    }
}

#[test]
fn json_is_the_object_of_a_run() {
    if !qemu_is_here() {
        return;
    }
    let run = boot(kernel(), &[&SMALL[..], &["--json"]].concat());
    let booted = run.json(0);
    assert!(run.stderr.contains("verify: right"), "the console goes there: {}", run.stderr);
    assert!(number(&booted, "/verified") > 0);
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/../../traces/sort.ntt");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ntmm"));
    let simulated = outcome(command.args(["run", "--json", trace])).json(0);
    let (mut of_boot, mut of_run) = (Vec::new(), Vec::new());
    keys(&booted, "", &mut of_boot);
    keys(&simulated, "", &mut of_run);
    // There is no sweep after the programs of a boot.
    of_run.retain(|key| !key.starts_with("/sweep/"));
    assert_eq!(of_boot, of_run);
}

#[test]
fn several_programs_are_several_processes() {
    if !qemu_is_here() {
        return;
    }
    let more = ["--program", "guard", "--program", "verify pages=32 seed=9", "--json"];
    let figures = boot(kernel(), &[&SMALL[..], &more[..]].concat()).json(0);
    let names: Vec<&str> = figures["processes"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|process| process["name"].as_str())
        .collect();
    assert_eq!(names, ["verify", "guard", "verify"]);
}

#[test]
fn what_the_guest_ends_with_is_the_exit_status() {
    if !qemu_is_here() {
        return;
    }
    let directory = directory("exit_status");
    let check = r#"@bugcheck {"code":26,"name":"MEMORY_MANAGEMENT","parameters":[1,2,3,255]}"#;
    let stopped = "the kernel stopped: bug check 0x1A MEMORY_MANAGEMENT (0x1, 0x2, 0x3, 0xff)";
    let process = concat!(
        r#"@process {"id":2,"name":"wild","status":3221225477,"references":0,"verified":0,"#,
        r#""pages":1,"faults":{"demand_zero":0,"transition":0,"page_file":0},"#,
        r#""working_set_peak":1,"working_set":0}"#
    );
    let failed = "process 2 (wild) ended with STATUS_ACCESS_VIOLATION (0xC0000005)";
    for (text, number, code, complaint) in [
        (check, 0x12, 1, stopped),
        ("", 0x12, 1, "the kernel stopped with a bug check that it did not report"),
        (process, 0x11, 1, failed),
        ("cannot boot: frames are short\n", 0x13, 3, "the kernel could not boot: frames are short"),
        ("", 0x10, 1, "the kernel ended without its result"),
    ] {
        let kernel = stub::write(&directory, &format!("{text}\n"), End::Exit(number));
        let run = boot(&kernel, &["--program", "stub"]);
        assert_eq!(run.complaint(code), complaint);
    }
    let kernel = stub::write(&directory, "@result {}\n", End::Exit(0x10));
    let run = boot(&kernel, &["--program", "stub"]);
    assert!(run.complaint(1).contains("missing field"), "{}", run.stderr);
}

#[test]
fn a_missing_qemu_is_named_with_its_package() {
    let directory = directory("no_qemu");
    let kernel = stub::write(&directory, "", End::Exit(0x10));
    let mut command = boot_command(&kernel, &["--program", "stub"]);
    let run = outcome(command.env("PATH", ""));
    let complaint = run.complaint(2);
    assert!(complaint.contains("qemu-system-x86_64 is not installed"), "{complaint}");
    assert!(complaint.contains("apt-get install"), "{complaint}");
    assert!(complaint.ends_with(" qemu-system-x86"), "{complaint}");
    fs::copy(&kernel, directory.join("bench")).expect("temporary files can be written");
    let mut bench = std::process::Command::new(env!("CARGO_BIN_EXE_ntmm"));
    bench.args(["bench", "kernel", "--kernel", argument(&kernel)]).env("PATH", "");
    assert!(outcome(&mut bench).complaint(2).contains("qemu-system-x86_64 is not installed"));
}

#[test]
fn missing_images_are_named_with_what_builds_them() {
    let directory = directory("no_images");
    let missing = directory.join("ntmm-kernel");
    let how = "cd kernel && cargo build --release";
    let run = boot(&missing, &[]);
    assert!(run.complaint(2).contains(argument(&missing)), "{}", run.stderr);
    assert!(run.complaint(2).ends_with(how), "{}", run.stderr);
    let mut by_variable = std::process::Command::new(env!("CARGO_BIN_EXE_ntmm"));
    let run = outcome(by_variable.arg("boot").env("NTMM_KERNEL", &missing));
    assert!(run.complaint(2).contains(argument(&missing)), "{}", run.stderr);
    let kernel = stub::write(&directory, "", End::Exit(0x10));
    let run = boot(&kernel, &["--program", "nothing 12"]);
    assert!(run.complaint(2).starts_with("no program \"nothing\" beside the kernel image in "));
    assert!(run.complaint(2).contains(how), "{}", run.stderr);
    let text = directory.join("text");
    fs::write(&text, "no image").expect("temporary file");
    let run = boot(&text, &[]);
    assert!(run.complaint(2).ends_with("is not an ELF image"), "{}", run.stderr);
}

#[test]
fn the_size_of_a_paging_file_that_exists_is_not_changed_in_silence() {
    let directory = directory("paging_file_size");
    let kernel = stub::write(&directory, "", End::Exit(0x13));
    let file = directory.join("page.img");
    fs::write(&file, vec![0; 1 << 20]).expect("temporary file");
    let said = |size| {
        let arguments = ["--program", "stub", "--pagefile", argument(&file)];
        let run = boot(&kernel, &[&arguments[..], &["--pagefile-size", size]].concat());
        assert_eq!(fs::metadata(&file).expect("it stays").len(), 1 << 20);
        run.stderr
    };
    assert!(said("2M").contains("is used at its own size, 1024K"), "{}", said("2M"));
    assert!(!said("1M").contains("own size"), "{}", said("1M"));
}

#[test]
fn arguments_that_mean_nothing_to_a_program_are_refused() {
    if !qemu_is_here() {
        return;
    }
    for program in [
        "verify foo=1",
        "verify pages",
        "verify pages=0",
        "reuse pages=0",
        "threads count=0",
        "threads count=1000",
        "guard now",
        "stack kind=nosuch",
        "wild depth=1",
    ] {
        let run = boot(kernel(), &["--no-pagefile", "--program", program]);
        assert!(run.complaint(1).contains("STATUS_INVALID_PARAMETER"), "{program}: {run:?}");
    }
}

#[test]
fn paging_files_that_cannot_be_are_refused() {
    let directory = directory("paging_files");
    let kernel = stub::write(&directory, "", End::Exit(0x10));
    let refused = |arguments: &[&str], what: &str| {
        let run = boot(&kernel, arguments);
        assert!(run.complaint(2).contains(what), "{}", run.stderr);
    };
    let file = directory.join("page.img");
    for (size, what) in [(4096, "at least 1M"), ((1 << 20) + 512, "whole pages")] {
        fs::write(&file, vec![0; size]).expect("temporary file");
        refused(&["--pagefile", argument(&file)], what);
        assert_eq!(fs::metadata(&file).expect("it is left alone").len(), size as u64);
    }
    refused(&["--pagefile", argument(&directory)], argument(&directory));
    let nowhere = directory.join("no/such/page.img");
    refused(&["--pagefile", argument(&nowhere)], argument(&nowhere));
    refused(&["--pagefile-size", "1000K"], "at least 1M");
    refused(&["--pagefile-size", "1048577"], "whole pages");
    refused(&["--pagefile", argument(&file), "--no-pagefile"], "--no-pagefile");
}

#[test]
fn files_of_the_archive_have_names_of_their_own() {
    let directory = directory("archive");
    let kernel = stub::write(&directory, "", End::Exit(0x10));
    let missing = directory.join("missing");
    let run = boot(&kernel, &["--program", "stub", "--archive", argument(&missing)]);
    assert!(run.complaint(2).contains(argument(&missing)), "{}", run.stderr);
    for name in ["programs", "stub"] {
        let file = directory.join(name);
        if !file.exists() {
            fs::write(&file, "text").expect("temporary file");
        }
        let run = boot(&kernel, &["--program", "stub", "--archive", argument(&file)]);
        let expected = format!("the archive would have two files named {name:?}");
        assert_eq!(run.complaint(2), expected);
    }
}

#[test]
fn bad_usage_is_refused() {
    use clap::Parser;
    for arguments in [
        ["--ram", "15M"],
        ["--ram", "5G"],
        ["--ram", "16385K"],
        ["--cpus", "0"],
        ["--cpus", "5"],
        ["--timeout", "0"],
        ["--timeout", "soon"],
        ["--program", " "],
        ["--word", ""],
        ["--word", "ram=3000 seed=7"],
        ["--program", "verify\nguard"],
        ["--pagefile-size", "0"],
    ] {
        let line = ["ntmm", "boot"].into_iter().chain(arguments);
        assert!(Arguments::try_parse_from(line).is_err(), "{arguments:?}");
    }
    let asked = Arguments::try_parse_from(["ntmm", "boot"]).expect("everything has a default");
    let Some(Asked::Boot(boot)) = asked.command else { panic!("{asked:?}") };
    assert_eq!((boot.ram.get(), boot.cpus, boot.no_pagefile), (32 << 20, 2, false));
}
