//! Hostile calls do no harm.

use ntmm_differential::hostile::survive;
use ntmm_differential::rules::Rules;

#[test]
fn hostile_calls_end_with_a_status_and_failing_ones_change_nothing() {
    for rules in Rules::all() {
        for seed in 1..=2 {
            let survived = survive(rules, seed, 10_000)
                .unwrap_or_else(|why| panic!("seed {seed}, {rules:?}: {why}"));
            // Both kinds of end must come up for this to say anything.
            assert!(survived.failures > 1_000 && survived.successes > 500, "{survived:?}");
            assert!(survived.with_mappings > 100, "{survived:?}");
        }
    }
}
