//! All cases, in every paging mode and both profiles.

use ntmm_conformance::{Options, Paging, Profile, read, run};

const CASES: &str = include_str!("../cases.jsonl");

fn all_cases(paging: Paging, profile: Profile) {
    let entries = read(CASES).expect("the file holds cases");
    let report = run(&entries, &Options { paging, profile, filter: None });
    assert_eq!(report.totals.cases(), entries.len() as u64);
    assert_eq!(report.totals.failed, 0, "{paging}, {profile}\n{report}");
    assert_ne!(report.totals.passed, 0);
}

#[test]
fn i386_legacy() {
    all_cases(Paging::I386, Profile::Legacy);
}

#[test]
fn i386_modern() {
    all_cases(Paging::I386, Profile::Modern);
}

#[test]
fn pae_legacy() {
    all_cases(Paging::Pae, Profile::Legacy);
}

#[test]
fn pae_modern() {
    all_cases(Paging::Pae, Profile::Modern);
}

#[test]
fn amd64_legacy() {
    all_cases(Paging::Amd64, Profile::Legacy);
}

#[test]
fn amd64_modern() {
    all_cases(Paging::Amd64, Profile::Modern);
}
