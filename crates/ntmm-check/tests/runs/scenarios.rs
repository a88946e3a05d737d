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
