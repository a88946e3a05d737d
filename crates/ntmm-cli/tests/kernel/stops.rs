//! A kernel that is broken on purpose stops with NT's code and parameters, never silently.

use ntmm_cli::boot::qemu::Ending;
use ntmm_pte::Bytes;
use serde_json::Value;

use crate::common::qemu_is_here;
use crate::guest::Guest;

/// Breaks the kernel in one way; the code and the parameters it stops with.
fn stop(kind: &str) -> (u64, Vec<u64>) {
    let guest = Guest {
        ram: Bytes::new(24 << 20),
        cpus: 2,
        disk: 0,
        words: vec![format!("selftest={kind}"), "patience=2".to_owned()],
        programs: Vec::new(),
    };
    let (lines, ending) = guest.boot(&format!("stop-{kind}"));
    assert_eq!(ending, Ending::BugCheck, "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("*** STOP: ")), "{lines:#?}");
    let report = lines.iter().find_map(|line| line.strip_prefix("@bugcheck "));
    let report: Value = serde_json::from_str(report.expect("the stop is reported")).expect("JSON");
    let parameters = report["parameters"].as_array().expect("a list");
    let parameters = parameters.iter().map(|one| one.as_u64().expect("a number")).collect();
    (report["code"].as_u64().expect("a number"), parameters)
}

#[test]
fn broken_kernels_stop_with_codes() {
    if !qemu_is_here() {
        return;
    }
    const WRITE: u64 = 1;
    const EXECUTE: u64 = 2;
    const DOUBLE_FAULT: u64 = 8;
    const DISPATCH: u64 = 2;
    // The access is the second parameter of the first two.
    for (kind, code, place, parameter) in [
        ("code", 0x50, 1, WRITE),
        ("data", 0x50, 1, EXECUTE),
        ("stack", 0x7F, 0, DOUBLE_FAULT),
        ("dispatch", 0x0A, 1, DISPATCH),
        ("hang", 0x133, 1, DISPATCH),
        ("deaf", 0x101, 1, 0),
        ("panic", 0xE3, 0, 0),
    ] {
        let (found, parameters) = stop(kind);
        assert_eq!((found, parameters[place]), (code, parameter), "{kind}: {parameters:x?}");
    }
}
