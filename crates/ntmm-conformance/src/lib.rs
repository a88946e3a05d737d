//! Conformance cases of the Nt memory calls, run against the memory manager.
//!
//! A [case](case::Case) is a fact that holds on real Windows: some calls that prepare the scene,
//! one call, and what it answers (spec API 22). The crate reads cases, runs each on a machine
//! that was switched on for it alone, and reports what was expected and what came.
//!
//! ```
//! use ntmm_conformance::{Options, Paging, Profile, read, run};
//!
//! let text = r#"{"id":"free-052","source":"","api":"NtFreeVirtualMemory","arch":"any","os":"any",
//!     "mode":"kernel","setup":[],"call":"NtFreeVirtualMemory",
//!     "args":{"ProcessHandle":-1,"BaseAddress":0,"RegionSize":0,"FreeType":32768},
//!     "expect":{"status":"0xC00000A0","outputs":{}},"notes":""}"#
//!     .replace('\n', " ");
//! let options = Options { paging: Paging::Amd64, profile: Profile::Legacy, filter: None };
//! let report = run(&read(&text)?, &options);
//! assert_eq!(report.totals.passed, 1);
//! # Ok::<(), ntmm_conformance::ReadError>(())
//! ```
//!
//! | Module | Holds |
//! |---|---|
//! | [`case`] | cases as they are written, parsed |
//! | [`expression`] | values as they are written: numbers, `$variables`, `@names`, arithmetic |
//! | [`value`] | what they come to: numbers, pointers, buffers; a call's arguments |
//! | [`environment`] | how they come to it |
//! | [`predicate`] | expectations of outputs, and checks that are made afterwards |
//! | [`version`] | versions of Windows, architectures, which case is run where |
//! | [`vocabulary`] | the calls the harness knows, and those that come later |
//! | [`system`] | what a case runs on, as a trait |
//! | [`windows`] | the manager on a simulated machine, with processes and handles |
//! | [`runner`] | one case from its first step to its outcome |
//! | [`report`] | many cases, counted |
#![forbid(unsafe_code)]

pub mod case;
pub mod environment;
pub mod expression;
pub mod predicate;
pub mod report;
pub mod runner;
pub mod structure;
pub mod system;
mod text;
pub mod value;
pub mod version;
pub mod vocabulary;
pub mod win32;
pub mod windows;

pub use case::{Case, Entry, ReadError, read};
pub use report::{Options, Report, run, run_on};
pub use runner::Outcome;
pub use version::{Paging, Profile};
