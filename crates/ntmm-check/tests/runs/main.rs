//! Whole-system runs: kept regressions, fixed seeds, and sabotaged machines that must be found
//! out.

mod mutations;
mod regressions;
mod scenarios;
mod seeds;
