//! Misbehaves in every way ring 3 can, one way at a time.
//!
//! Arguments: `kind=K`, and for `fuzz` `seed=S` and `steps=N`.
//!
//! | `kind` | What | Ends with |
//! |---|---|---|
//! | `all` (default) | everything a handler can survive: all of [`instructions`], [`pointers`], [`contexts`] and a short `fuzz` | success, when each went as it must |
//! | a name in [`instructions`] | that one, without a handler | the status listed there |
//! | a name in [`endings`] | what no handler survives | the status listed there |
//! | `fuzz` | services with random arguments | success |
//! | `names` | prints all names with their statuses | success |
//!
//! A single kind first prints `wild: NAME must end with STATUS`, so that whoever runs it need not
//! know the list. A status the kernel must give but did not is printed, and the end is then
//! STATUS_DATA_ERROR.
#![no_std]
#![no_main]

mod contexts;
mod endings;
mod escape;
mod fuzz;
mod instructions;
mod pointers;

use ntmm_user::findings::Findings;
use ntmm_user::{Arguments, NtStatus, println};

ntmm_user::entry!(main);

/// A way to misbehave.
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    /// Misbehaves. Returns when nothing was raised.
    pub run: extern "C" fn(),
    /// What it must raise, any of these; success when it may return.
    pub ends: &'static [NtStatus],
}

impl Case {
    fn announce(&self) {
        for status in self.ends {
            println!("wild: {} must end with {status}", self.name);
        }
    }
}

fn main(arguments: Arguments<'_>) -> NtStatus {
    let mut findings = Findings::new("wild");
    let ended = run(arguments, &mut findings);
    findings.conclude(ended)
}

fn run(arguments: Arguments<'_>, findings: &mut Findings) -> Result<(), NtStatus> {
    arguments.only(&["kind", "seed", "steps"])?;
    let cases = || instructions::CASES.iter().chain(endings::CASES);
    match arguments.text("kind").unwrap_or("all") {
        "all" => {
            escape::install()?;
            instructions::check(findings);
            pointers::check(findings)?;
            contexts::check(findings);
            fuzz::run(findings, 1, 2000)?;
        }
        "fuzz" => {
            let (seed, steps) = (arguments.number("seed", 1)?, arguments.number("steps", 20_000)?);
            escape::install()?;
            fuzz::run(findings, seed, steps)?;
        }
        "names" => cases().for_each(Case::announce),
        name => {
            let Some(case) = cases().find(|case| case.name == name) else {
                println!("wild: there is no kind {name}");
                return Err(NtStatus::INVALID_PARAMETER);
            };
            case.announce();
            (case.run)();
            if !case.ends.contains(&NtStatus::SUCCESS) {
                findings.wrong(name, "an end", "none");
            }
        }
    }
    Ok(())
}
