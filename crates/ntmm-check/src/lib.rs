//! Checks of the ntmm memory manager: random whole-system runs against an independent model and
//! auditors.
//!
//! [`check()`] makes run after run on simulated machines until steps or time are used up or one
//! fails; that one's list of operations is made short. [`replay`] runs a list that was kept.
//!
//! ```
//! use std::time::Duration;
//! use ntmm_check::setup::Paging;
//! use ntmm_check::{CheckOptions, check};
//!
//! let options = CheckOptions {
//!     seed: Some(1),
//!     steps: Some(1_000),
//!     paging: Some(Paging::Amd64),
//!     shrinking: Duration::from_secs(10),
//!     ..CheckOptions::default()
//! };
//! // The first call comes before the first run: the time to print the seed.
//! let outcome = check(&options, &mut |progress| {
//!     println!("seed {}, {} steps", progress.first_seed, progress.totals.steps);
//! });
//! assert!(outcome.totals.steps >= 1_000);
//! if let Some(failed) = &outcome.failure {
//!     panic!("seed {} ({}): {}\n{}", failed.seed, failed.paging, failed.failure, failed.regression());
//! }
//! ```
//!
//! | Module | Holds |
//! |---|---|
//! | `check` | many runs, on several threads |
//! | `generate`, `random` | a scenario from a seed |
//! | [`operation`], [`setup`], `scenario`, [`rights`] | what a scenario says, and its text form |
//! | `runner`, `world`, `worker`, `call`, `touching`, `disk`, `host_memory` | running it on a simulated machine |
//! | `model` | what memory must look like |
//! | [`audit`] | whether the manager's records agree with each other |
//! | [`workload`] | the workload that a kernel can run too |
//! | `failure`, `shrink` | a failure, and the shortest list that has it |
//! | [`sabotage`] | what may be broken on purpose, to prove that all this notices |
#![forbid(unsafe_code)]

pub mod audit;
mod call;
mod check;
mod disk;
mod failure;
mod generate;
mod host_memory;
mod model;
pub mod operation;
mod random;
pub mod rights;
mod runner;
pub mod sabotage;
mod scenario;
pub mod setup;
mod shrink;
mod touching;
mod viewing;
mod worker;
pub mod workload;
mod world;

pub use check::{CheckOptions, CheckOutcome, FailedRun, Progress, Seeds, Stage, Totals};
pub use check::{check, replay};
pub use failure::Failure;
pub use generate::generate;
pub use runner::{Coverage, RunReport, run};
pub use scenario::{BadLine, BadScenario, Scenario};
pub use shrink::{Shrunk, shrink};
