//! What the runner makes of cases, on a toy.

use ntmm_conformance::case::{Entry, read};
use ntmm_conformance::report::{Options, Report, Totals, run_on};
use ntmm_conformance::runner::{Failure, Outcome};
use ntmm_conformance::{Paging, Profile};

use crate::toy::Toys;

/// A case: steps and call as JSON, arguments of the call, expectation.
fn case(setup: &str, call: &str, args: &str, expect: &str) -> String {
    format!(
        r#"{{"id":"t-1","source":"","api":"toy","arch":"any","os":"any","mode":"user","setup":[{setup}],"call":"{call}","args":{{{args}}},"expect":{expect},"notes":""}}"#
    )
}

const SUCCESS: &str = r#"{"status":"0x00000000","outputs":{}}"#;

fn options() -> Options {
    Options { paging: Paging::Amd64, profile: Profile::Legacy, filter: None }
}

fn report(text: &str) -> Report {
    run_on(&read(text).expect("cases"), &options(), &Toys::new())
}

fn outcome(text: &str) -> Outcome {
    report(text).cases.remove(0).outcome
}

fn failure(text: &str) -> Failure {
    match outcome(text) {
        Outcome::Failed(failure) => failure,
        other => panic!("{other:?} instead of a failure"),
    }
}

fn reason(text: &str) -> String {
    match outcome(text) {
        Outcome::Skipped { reason } => reason,
        other => panic!("{other:?} instead of a skip"),
    }
}

#[test]
fn a_case_passes_when_everything_is_as_expected() {
    let setup = r#"{"call":"toy.set","args":{"At":7,"Value":65536},"bind":{"Value":"$v"}}"#;
    let expect = r#"{"status":"0x00000000","outputs":{"value":"$v","At":7}}"#;
    assert_eq!(outcome(&case(setup, "toy.get", r#""At":7"#, expect)), Outcome::Passed);
    let expect = r#"{"status":"0x00000000","outputs":{"value":{"align":4096,"lt":65537,"ne":0}}}"#;
    assert_eq!(outcome(&case(setup, "toy.get", r#""At":7"#, expect)), Outcome::Passed);
}

#[test]
fn another_status_fails() {
    let found = failure(&case("", "toy.fail", r#""Status":"0xC0000008""#, SUCCESS));
    assert_eq!(found.at, "toy.fail");
    assert_eq!(found.expected, "STATUS_SUCCESS (0x00000000)");
    assert_eq!(found.found, "STATUS_INVALID_HANDLE (0xC0000008)");
}

#[test]
fn alternatives_and_win32_errors_are_accepted() {
    let answers = |status: &str, expect: &str| {
        outcome(&case("", "toy.fail", &format!(r#""Status":"{status}""#), expect))
    };
    let any = r#"{"status":"0xC00000F2","status_any":["0xC000000D"],"outputs":{}}"#;
    assert_eq!(answers("0xC00000F2", any), Outcome::Passed);
    assert_eq!(answers("0xC000000D", any), Outcome::Passed);
    assert!(matches!(answers("0xC0000045", any), Outcome::Failed(_)));
    let win32 = r#"{"status":"0xC00000F2","win32_error":87,"outputs":{}}"#;
    assert_eq!(answers("0xC0000045", win32), Outcome::Passed);
    assert_eq!(answers("0xC000001B", win32), Outcome::Passed);
    assert!(matches!(answers("0xC0000018", win32), Outcome::Failed(_)));
    assert!(matches!(answers("0x00000000", win32), Outcome::Failed(_)));
}

#[test]
fn wrong_outputs_fail_with_both_values() {
    let setup = r#"{"call":"toy.set","args":{"At":1,"Value":32}}"#;
    for (expected, text) in [
        ("33", "0x21"),
        (r#"{"align":64}"#, "a multiple of 0x40"),
        (r#"{"lt":32}"#, "below 0x20"),
        (r#"{"le":31}"#, "at most 0x1f"),
        (r#"{"gt":32}"#, "above 0x20"),
        (r#"{"ge":33}"#, "at least 0x21"),
        (r#"{"ne":32}"#, "other than 0x20"),
        ("[32]", "[0x20]"),
    ] {
        let expect = format!(r#"{{"status":"0x00000000","outputs":{{"value":{expected}}}}}"#);
        let found = failure(&case(setup, "toy.get", r#""At":1"#, &expect));
        assert_eq!((found.at.as_str(), found.expected.as_str()), ("value", text));
        assert_eq!(found.found, "0x20");
    }
}

#[test]
fn an_output_that_is_not_stored_keeps_its_input_value() {
    let holds = |output: &str, value: &str| {
        let expect = format!(r#"{{"status":"0x00000000","outputs":{{"{output}":{value}}}}}"#);
        outcome(&case("", "toy.set", r#""At":1,"Value":5"#, &expect))
    };
    assert_eq!(holds("Value", "5"), Outcome::Passed);
    assert_eq!(holds("Value", r#""@unchanged""#), Outcome::Passed);
    assert_eq!(holds("ReturnLength", r#""@unchanged""#), Outcome::Passed);
    assert!(matches!(holds("Before", r#""@unchanged""#), Outcome::Failed(_)));
    assert!(matches!(holds("ReturnLength", "5"), Outcome::Failed(_)));
}

#[test]
fn outputs_of_an_alternative_that_fails_are_not_looked_at() {
    let expect =
        r#"{"status":"0x00000000","status_any":["0xC0000017"],"outputs":{"Base":{"ne":0}}}"#;
    let text = case("", "toy.fail", r#""Status":"0xC0000017""#, expect);
    assert_eq!(outcome(&text), Outcome::Passed);
}

#[test]
fn exceptions_are_told_from_returned_statuses() {
    let raised = r#"{"status":"0xC0000005","raised":true,"outputs":{}}"#;
    let returned = r#"{"status":"0xC0000005","outputs":{}}"#;
    assert_eq!(outcome(&case("", "toy.get", r#""At":1"#, raised)), Outcome::Passed);
    assert!(matches!(outcome(&case("", "toy.get", r#""At":1"#, returned)), Outcome::Failed(_)));
    // A memory access can answer in one way only.
    assert_eq!(outcome(&case("", "mem.read8", r#""addr":1"#, returned)), Outcome::Passed);
}

#[test]
fn a_step_that_fails_is_named() {
    let good = r#"{"call":"toy.set","args":{"At":1,"Value":2}}"#;
    let bad = r#"{"call":"toy.get","args":{"At":9},"status":"0x00000000"}"#;
    let found = failure(&case(&format!("{good},{bad}"), "toy.get", r#""At":1"#, SUCCESS));
    assert_eq!(found.at, "setup step 2, toy.get");
    assert_eq!(found.found, "STATUS_ACCESS_VIOLATION (0xC0000005)");
}

#[test]
fn a_step_may_be_expected_to_fail() {
    let step = r#"{"call":"toy.get","args":{"At":9},"status":"0xC0000005"}"#;
    assert_eq!(
        outcome(&case(step, "toy.lie2", "", SUCCESS)),
        Outcome::Failed(Failure {
            at: "toy.lie2".to_owned(),
            expected: "an answer".to_owned(),
            found: "no toy does toy.lie2".to_owned(),
        })
    );
    assert_eq!(outcome(&case(step, "toy.set", r#""At":1,"Value":1"#, SUCCESS)), Outcome::Passed);
}

#[test]
fn a_step_without_a_status_may_succeed_in_any_way() {
    let step = |status: &str| {
        format!(r#"{{"call":"toy.fail","args":{{"Status":"{status}"}},"status":null}}"#)
    };
    let with = |status| outcome(&case(&step(status), "toy.set", r#""At":1,"Value":1"#, SUCCESS));
    assert_eq!(with("0x40000003"), Outcome::Passed);
    assert!(matches!(with("0x80000005"), Outcome::Failed(_)));
}

#[test]
fn what_nobody_knows_fails_and_is_never_skipped() {
    assert_eq!(failure(&case("", "NtFrobnicate", "", SUCCESS)).found, "an unknown call");
    let later = r#"{"call":"toy.later","args":{}}"#;
    assert_eq!(failure(&case(later, "NtFrobnicate", "", SUCCESS)).at, "NtFrobnicate");
    for argument in [r#""At":"$nothing""#, r#""At":"@nothing""#, r#""At":"1/0""#, r#""Where":1"#] {
        assert_eq!(failure(&case("", "toy.get", argument, SUCCESS)).at, "toy.get");
    }
    let expect = r#"{"status":"0x00000000","outputs":{"toy.peek(1)":1}}"#;
    let found = failure(&case("", "toy.set", r#""At":1,"Value":1"#, expect));
    assert_eq!(found.found, "no toy does toy.peek");
}

#[test]
fn later_calls_and_names_are_skipped_with_their_reason() {
    let later = r#"{"call":"toy.later","args":{}}"#;
    assert_eq!(reason(&case(later, "toy.get", "", SUCCESS)), "toy.later: later calls come later");
    let text = case("", "toy.get", r#""At":"@module(ntdll)+4""#, SUCCESS);
    assert_eq!(reason(&text), "toys have no modules");
}

#[test]
fn cases_that_hold_elsewhere_are_skipped_before_a_system_is_made() {
    let text = case("", "toy.get", r#""At":1"#, SUCCESS);
    for (field, value, expected) in [
        ("arch", "x86", "holds on x86, not on amd64"),
        ("arch", "wow64", "there is no 32-bit subsystem (wow64)"),
        ("os", ">=vista", "holds on >=vista, not in the legacy profile"),
    ] {
        let elsewhere =
            text.replace(&format!(r#""{field}":"any""#), &format!(r#""{field}":"{value}""#));
        let toys = Toys::new();
        let report = run_on(&read(&elsewhere).expect("a case"), &options(), &toys);
        assert_eq!(report.skipped.get(expected), Some(&1), "{:?}", report.skipped);
        assert_eq!(toys.made.get(), 0);
    }
}

#[test]
fn checks_are_run_afterwards() {
    let expect =
        r#"{"status":"0x00000000","outputs":{"mem.read8(@arg.At)":9,"teb.StackLimit":28672}}"#;
    assert_eq!(outcome(&case("", "toy.set", r#""At":3,"Value":9"#, expect)), Outcome::Passed);
    let found = failure(&case("", "toy.set", r#""At":3,"Value":8"#, expect));
    assert_eq!((found.at.as_str(), found.found.as_str()), ("mem.read8(@arg.At)", "8"));
}

#[test]
fn a_machine_that_stops_or_is_broken_behind_a_call_fails_the_case() {
    assert_eq!(
        failure(&case("", "toy.stop", "", SUCCESS)).found,
        "the machine stopped: a toy breaks"
    );
    let found = failure(&case("", "toy.lie", "", SUCCESS));
    assert_eq!(
        (found.at.as_str(), found.found.as_str()),
        ("afterwards", "the machine stopped: a toy lied")
    );
}

#[test]
fn reports_count_and_select() {
    let good = case("", "toy.set", r#""At":1,"Value":1"#, SUCCESS);
    let bad = case("", "toy.get", r#""At":1"#, SUCCESS).replace("t-1", "t-2");
    let later = case("", "toy.later", "", SUCCESS).replace("t-1", "t-3");
    let unreadable = case("", "toy.get", r#""At":0.5"#, SUCCESS).replace("t-1", "t-4");
    let text = [good, bad, later, unreadable].join("\n");
    let whole = report(&text);
    assert_eq!(whole.totals, Totals { passed: 1, failed: 2, skipped: 1 });
    assert_eq!(whole.apis["toy"], whole.totals);
    let failing: Vec<&str> = whole.failures().map(|(line, _)| line.id.as_str()).collect();
    assert_eq!(failing, ["t-2", "t-4"]);
    assert!(whole.to_string().ends_with("1 passed, 2 failed, 1 skipped\n"));

    let entries: Vec<Entry> = read(&text).expect("cases");
    let options = Options { filter: Some("t-3".to_owned()), ..options() };
    let part = run_on(&entries, &options, &Toys::new());
    assert_eq!(part.totals, Totals { passed: 0, failed: 0, skipped: 1 });
}

#[test]
fn reports_are_written_as_json() {
    let text = case("", "toy.fail", r#""Status":"0xC0000008""#, SUCCESS);
    let json: serde_json::Value = serde_json::to_value(report(&text)).expect("a report is data");
    assert_eq!(json["paging"], "amd64");
    assert_eq!(json["totals"]["failed"], 1);
    assert_eq!(json["cases"][0]["id"], "t-1");
    assert_eq!(json["cases"][0]["outcome"], "failed");
    assert_eq!(json["cases"][0]["found"], "STATUS_INVALID_HANDLE (0xC0000008)");
}

#[test]
fn every_case_has_a_system_of_its_own() {
    let text = case(
        "",
        "toy.set",
        r#""At":1,"Value":1"#,
        r#"{"status":"0x00000000","outputs":{"Before":0}}"#,
    );
    let twice = format!("{text}\n{text}");
    assert_eq!(report(&twice).totals.passed, 2);
}
