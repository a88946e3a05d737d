//! Random Nt memory calls, made twice: by the manager on a simulated machine, and by a model of
//! the rules that is a map from page to state.
//!
//! After each call statuses and everything written back must be equal; after every 64 calls the
//! whole address space is queried on both sides. A seed and a combination of paging mode and
//! version reproduce a run, and a run that fails is made short. `ntmm check --calls` does this
//! for as long as one likes.
//!
//! ```
//! use ntmm_differential::{Options, check};
//!
//! let options = Options { seed: Some(1), calls: Some(20_000), ..Options::default() };
//! let outcome = check(&options, &mut |_| {});
//! if let Some(failed) = &outcome.failure {
//!     panic!("{failed}");
//! }
//! ```
//!
//! Of what pages hold only single bytes are looked at, so that a page is noticed that is lost:
//! `ntmm-check`'s model has all of it, and runs programs. Not made here, since the rules are about
//! something else than allocations and pages: NtReadVirtualMemory and NtWriteVirtualMemory, the
//! other classes of NtQueryVirtualMemory, NtSetInformationVirtualMemory, and physical pages.
//!
//! | Module | Holds |
//! |---|---|
//! | [`call`] | calls and answers, as plain numbers |
//! | [`rules`] | versions, and the bounds of address spaces |
//! | `model` | the rules |
//! | `subject` | the manager, making the same calls |
//! | `generate`, `random` | random calls |
//! | `run`, `check` | one run; many, and the shortening of a list |
//! | [`hostile`] | calls with whatever a hostile caller can pass; only that they do no harm is checked |
//! | [`sabotage`] | what may be broken on purpose, to prove that all this notices |
#![forbid(unsafe_code)]

pub mod call;
mod check;
mod generate;
pub mod hostile;
mod model;
mod random;
pub mod rules;
mod run;
pub mod sabotage;
mod subject;

pub use check::{FailedRun, Options, Outcome, check, replay};
pub use run::{Counts, Difference, Disagreement};
