//! The `ntmm` command.
//!
//! `ntmm run` replays recorded programs as processes of a [simulated machine](ntmm_machine)
//! under the [memory manager](ntmm) and proves every byte right ([`run`]); [`report`] makes a
//! page of what happened. `ntmm trace` converts [traces](ntmm_trace) and shows them
//! ([`trace`]). `ntmm check` makes random runs against an independent model ([`check`]), and
//! `ntmm coverage` says what is here of what NT has ([`coverage`]). `ntmm boot` starts the kernel
//! that the manager has on bare x86-64 in QEMU ([`boot`]), and `ntmm bench` measures ([`mod@bench`]).
//! A command that fails says in one line what was wrong and where, and its exit status says of
//! which kind that was ([`failure`]).
#![forbid(unsafe_code)]

pub mod arguments;
pub mod bench;
pub mod boot;
pub mod check;
pub mod conformance;
pub mod coverage;
pub mod failure;
pub mod output;
pub mod report;
pub mod run;
pub mod table;
pub mod trace;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use arguments::{Arguments, Command};
use failure::Failure;

/// The program: reads the command line, does what it says, returns the exit status.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Arguments::try_parse() {
        Ok(arguments) => carry_out(arguments),
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            output::print(&error.render().to_string())
        }
        Err(error) => Err(misused(&error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Without standard error there is still the exit status.
            let _ = writeln!(io::stderr(), "ntmm: {failure}");
            failure.exit_code()
        }
    }
}

fn carry_out(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Some(Command::Run(arguments)) => run::run(&arguments),
        Some(Command::Trace(command)) => trace::trace(&command),
        Some(Command::Check(arguments)) => check::check(&arguments),
        Some(Command::Conformance(arguments)) => conformance::conformance(&arguments),
        Some(Command::Coverage(arguments)) => coverage::coverage(&arguments),
        Some(Command::Boot(arguments)) => boot::boot(&arguments),
        Some(Command::Bench(command)) => bench::bench(&command),
        None => match Arguments::try_parse_from(["ntmm", "run"]) {
            Ok(Arguments { command: Some(Command::Run(defaults)) }) => run::run(&defaults),
            Ok(_) => Ok(()),
            Err(error) => Err(misused(&error)),
        },
    }
}

/// The first paragraph of what the parser says, on one line.
fn misused(error: &clap::Error) -> Failure {
    // The parser would print its help instead.
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::Usage("a command is missing; --help says which there are".to_owned());
    }
    let text = error.render().to_string();
    let lines = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let text = lines.collect::<Vec<_>>().join(" ");
    Failure::Usage(text.strip_prefix("error: ").unwrap_or(&text).to_owned())
}
