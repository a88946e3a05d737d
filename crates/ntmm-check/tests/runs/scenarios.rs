//! Scenarios as text, and that they determine their runs.

use ntmm_check::setup::Paging;
use ntmm_check::{Scenario, generate, run};

#[test]
fn the_text_of_a_scenario_is_the_scenario() {
    for (seed, paging) in (0..300).zip(Paging::ALL.into_iter().cycle()) {
        let scenario = generate(seed, paging, 60);
        assert_eq!(Scenario::parse(&scenario.to_string()), Ok(scenario), "seed {seed}");
    }
}

#[test]
fn a_scenario_makes_one_run() {
    for (seed, paging) in (0..12).zip(Paging::ALL.into_iter().cycle()) {
        let scenario = generate(seed, paging, 100);
        assert_eq!(run(&scenario), run(&scenario), "seed {seed}");
    }
}

#[test]
fn bad_lines_are_named() {
    for (text, wanted) in [
        ("frames many", "line 1: \"many\" is no value for frames"),
        ("colour 3", "line 1: \"colour 3\" is no setting"),
        ("cpus 1\n\n0.0 store own0 0 1 0", "line 3: size of an access is missing"),
        ("cpus 1\n\n0.0 load own9 0 1 0 1", "line 3: \"own9\" is no region"),
        ("cpus 1\n\ncreate 0 1", "line 3: \"1\" is no end of the line"),
    ] {
        let error = Scenario::parse(text).expect_err(text);
        assert_eq!(error.to_string(), wanted);
    }
}

/// Two threads store and load more than memory holds while a third lends frames and takes them
/// back, in the middle of which it is killed.
const MEMORY: &str = "\
frames 80
withheld 40
cpus 3
conduct adversarial 20 250000 20000 500000 500000
threads 3

create 0
0.0 allocate own0 60 readwrite slot
0.1 allocate own0 60 readwrite slot
0.2 lend 80 40
0.0 store own0 0 60 0 8
0.1 store own0 0 60 0 8
0.2 take-back 80 40
0.0 load own0 0 60 0 8
0.1 load own0 0 60 0 8
0.2 lend 90 10
0.2 take-back 85 10
0.2 lend 80 10
pass 1
kill 0.2 40
0.0 store own0 0 60 8 8
0.1 load own0 0 60 0 8
0.2 take-back 60 40
pass 1
0.0 load own0 0 60 8 8
0.2 take-back 80 20
";

#[test]
fn memory_comes_and_goes_as_a_list_says() {
    for paging in Paging::ALL {
        let scenario = Scenario::parse(&format!("paging {paging}\n{MEMORY}")).expect("a list");
        let report = run(&scenario);
        assert_eq!(report.failure, None, "{paging}");
        let coverage = report.coverage;
        // 40 + 10 + 10 frames are lent; 40 come back at once, the others in the end.
        assert!(coverage.frames_lent >= 60, "{paging}: {coverage:?}");
        assert!(coverage.frames_taken >= 60, "{paging}: {coverage:?}");
        assert!(coverage.refused_removals >= 1, "{paging}: 85 to 90 are not lent: {coverage:?}");
    }
}
