//! Cases are read whole or named with what is wrong.

use ntmm_conformance::case::{Entry, read};
use ntmm_conformance::expression::Expression;
use ntmm_conformance::version::{Architecture, OsRange, Version};
use ntmm_conformance::vocabulary::{Knowledge, knowledge};

const CASES: &str = include_str!("../../cases.jsonl");

/// A case as a line, with some of its fields replaced.
fn line(replacements: &[(&str, &str)]) -> String {
    let fields = [
        ("id", r#""x-1""#),
        ("source", r#""""#),
        ("api", r#""NtClose""#),
        ("arch", r#""any""#),
        ("os", r#""any""#),
        ("mode", r#""user""#),
        ("setup", "[]"),
        ("call", r#""NtClose""#),
        ("args", "{}"),
        ("expect", r#"{"status":"0x00000000","outputs":{}}"#),
        ("notes", r#""""#),
    ];
    let written: Vec<String> = fields
        .iter()
        .map(|(name, value)| {
            let replaced = replacements.iter().find(|(field, _)| field == name);
            format!("\"{name}\":{}", replaced.map_or(*value, |(_, value)| *value))
        })
        .collect();
    format!("{{{}}}", written.join(","))
}

fn malformed(replacements: &[(&str, &str)]) -> String {
    match read(&line(replacements)).expect("it has an id").remove(0) {
        Entry::Malformed(malformed) => malformed.to_string(),
        Entry::Case(case) => panic!("{case:?} was read"),
    }
}

#[test]
fn every_case_of_the_file_is_read() {
    let entries = read(CASES).expect("the file holds cases");
    assert_eq!(entries.len(), 650);
    for entry in &entries {
        if let Entry::Malformed(malformed) = entry {
            panic!("{malformed}");
        }
    }
}

#[test]
fn every_call_of_the_file_is_known_or_comes_later() {
    for entry in read(CASES).expect("the file holds cases") {
        let Entry::Case(case) = entry else { continue };
        for call in case.calls() {
            assert_ne!(knowledge(call), Knowledge::Unknown, "{}: {call}", case.id);
        }
    }
}

#[test]
fn a_case_keeps_what_was_written() {
    let text = line(&[
        ("arch", r#""x86""#),
        ("os", r#"">=win10-1803""#),
        ("args", r#"{"Handle":"$base+0x1000","RegionSize":-1}"#),
    ]);
    let Entry::Case(case) = read(&text).expect("a case").remove(0) else {
        panic!("the case is not read");
    };
    assert_eq!(case.architecture, Architecture::X86);
    assert_eq!(case.os, OsRange::From(Version::Windows10(1803)));
    assert_eq!(case.call.arguments["Handle"].to_string(), "$base+0x1000");
    assert_eq!(case.call.arguments["RegionSize"], Expression::Integer(-1));
}

#[test]
fn what_is_wrong_with_a_case_is_said_with_its_id_and_the_text() {
    for (field, value, text) in [
        ("args", r#"{"BaseAddress":"$base+"}"#, "$base+"),
        ("args", r#"{"BaseAddress":"$base 7"}"#, "$base 7"),
        ("args", r#"{"BaseAddress":"@f(1"}"#, "@f(1"),
        ("args", r#"{"BaseAddress":1.5}"#, "1.5"),
        ("args", r#"{"BaseAddress":"0x1FFFFFFFFFFFFFFFF"}"#, "0x1FFFFFFFFFFFFFFFF"),
        ("arch", r#""mips""#, "mips"),
        ("os", r#"">=nt351""#, "nt351"),
        ("mode", r#""both""#, "both"),
        ("expect", r#"{"status":"OK","outputs":{}}"#, "OK"),
        ("expect", r#"{"status":"0x00000000","outputs":{"Size":{"near":3}}}"#, "near"),
        ("expect", r#"{"status":"0x00000000","outputs":{"mem.read8($x":3}}"#, "mem.read8($x"),
        ("expect", r#"{"status":"0x00000000","sometimes":true}"#, "sometimes"),
        ("setup", r#"[{"call":"NtClose","args":{},"bind":{"Handle":"h"}}]"#, "`h`"),
        ("setup", r#"[{"call":"NtClose","args":{},"twice":true}]"#, "twice"),
    ] {
        let message = malformed(&[(field, value)]);
        assert!(message.contains("x-1") && message.contains(text), "{message}");
    }
}

#[test]
fn unknown_fields_are_errors() {
    let text = line(&[("notes", r#""","extra":1"#)]);
    let Entry::Malformed(malformed) = read(&text).expect("it has an id").remove(0) else {
        panic!("an unknown field was accepted");
    };
    assert!(malformed.reason.contains("extra"), "{malformed}");
}

#[test]
fn a_line_that_is_no_case_ends_the_reading() {
    let text = format!("{}\n\nnonsense\n", line(&[]));
    let error = read(&text).expect_err("the third line is no case");
    assert_eq!(error.line, 3);
    assert_eq!(read("{}\n").expect_err("no id").line, 1);
    assert_eq!(read("[1]\n").expect_err("no object").line, 1);
}

#[test]
fn the_vocabulary_tells_later_calls_from_unknown_ones() {
    assert_eq!(knowledge("NtProtectVirtualMemory"), Knowledge::Known);
    assert_eq!(knowledge("mem.read8"), Knowledge::Known);
    for call in ["NtCreateSection", "MmMapViewOfSection", "section.map", "file.create"] {
        assert_eq!(knowledge(call), Knowledge::Known, "{call}");
    }
    for later in ["pe.build", "NtReadFile", "file.frobnicate", "IoAllocateMdl"] {
        assert!(matches!(knowledge(later), Knowledge::Later(_)), "{later}");
    }
    for unknown in ["NtFrobnicate", "mem.peek", "ntallocatevirtualmemory", "", "thread.sleep"] {
        assert_eq!(knowledge(unknown), Knowledge::Unknown, "{unknown}");
    }
}
