//! Following the console of a booted kernel: text passes through, reports are kept.

use std::io::{self, Write};
use std::path::Path;

use ntmm::status::NtStatus;

use super::error::{BootError, FailedProcess};
use super::qemu::Ending;
use super::report::{BugCheck, Line, Process, Totals};
use crate::failure::Failure;
use crate::output::print;
use crate::run::figures::{Figures, Lists, MachineFigures, ProcessFigures};

/// What the kernel's line begins with that says why it cannot boot.
const CANNOT_BOOT: &str = "cannot boot: ";

/// Where the text of a console goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error, when standard output is for the result alone.
    Error,
}

/// What has been seen on a console.
#[derive(Debug)]
pub struct Console {
    stream: Stream,
    /// Frames the kernel has kept for itself.
    kept: u64,
    processes: Vec<Process>,
    totals: Option<Totals>,
    bug_check: Option<BugCheck>,
    /// The last line of text that is not empty.
    last_text: String,
    /// What is wrong with the first line that only looks like a report.
    malformed: Option<String>,
    /// Why text could not be passed on.
    failure: Option<Failure>,
}

impl Console {
    /// A console on which nothing has been seen.
    #[must_use]
    pub const fn new(stream: Stream) -> Self {
        Self {
            stream,
            kept: 0,
            processes: Vec::new(),
            totals: None,
            bug_check: None,
            last_text: String::new(),
            malformed: None,
            failure: None,
        }
    }

    /// Takes a line.
    pub fn line(&mut self, line: &str) {
        match Line::read(line) {
            Line::Ready(ready) => self.kept = ready.frames.saturating_sub(ready.manager_frames),
            Line::Process(process) => self.processes.push(process),
            Line::Result(totals) => self.totals = Some(totals),
            Line::BugCheck(check) => self.bug_check = Some(check),
            // What programs report is for whoever has asked for these programs.
            Line::Bench(_) | Line::Outcome(_) => self.pass_on(line),
            Line::Text(_) => {
                if !line.trim().is_empty() {
                    line.trim().clone_into(&mut self.last_text);
                }
                self.pass_on(line);
            }
            Line::Malformed { line, problem } => {
                self.pass_on(&line);
                self.malformed.get_or_insert_with(|| format!("{problem} in {line:?}"));
            }
        }
    }

    fn pass_on(&mut self, line: &str) {
        if self.failure.is_some() {
            return;
        }
        let text = format!("{line}\n");
        let passed = match self.stream {
            Stream::Output => print(&text),
            Stream::Error => io::stderr().write_all(text.as_bytes()).map_err(|error| {
                Failure::host("cannot write to", Path::new("standard error"), error)
            }),
        };
        self.failure = passed.err();
    }

    /// What came of a boot that ended this way: the figures, if the kernel got so far as to
    /// report them, and what went wrong.
    pub fn verdict(self, ending: Ending) -> (Option<Figures>, Result<(), Failure>) {
        let failed = self.failed_processes();
        let Self { kept, mut processes, totals, bug_check, last_text, malformed, failure, .. } =
            self;
        processes.sort_by_key(|process| process.id);
        let complete = totals.is_some();
        let figures = totals.map(|totals| figures(kept, processes, totals));
        let result = match (ending, bug_check) {
            (Ending::CouldNotBoot, _) => {
                let reason = last_text.strip_prefix(CANNOT_BOOT).unwrap_or(&last_text).to_owned();
                Err(BootError::CouldNotBoot { reason })
            }
            (Ending::BugCheck, Some(check)) => Err(BootError::BugCheck(check)),
            (Ending::BugCheck, None) => Err(BootError::SilentBugCheck),
            (Ending::ProgramFailed, _) => Err(BootError::Programs { processes: failed }),
            (Ending::Good, _) if !complete => Err(BootError::NoResult { problem: malformed }),
            (Ending::Good, _) => Ok(()),
        };
        (figures, failure.map_or_else(|| result.map_err(Failure::from), Err))
    }

    fn failed_processes(&self) -> Vec<FailedProcess> {
        let failed = self.processes.iter().filter(|process| process.status != 0);
        let failed = failed.map(|process| FailedProcess {
            id: process.id,
            name: process.name.clone(),
            status: NtStatus::new(process.status),
        });
        failed.collect()
    }
}

/// The kernel's reports as the figures of a run. What the kernel has kept is in use, as the
/// manager's own frames are.
fn figures(kept: u64, processes: Vec<Process>, totals: Totals) -> Figures {
    let processes: Vec<ProcessFigures> = processes.into_iter().map(process_figures).collect();
    let machine = totals.machine;
    Figures {
        references: processes.iter().map(|process| process.references).sum(),
        seconds: totals.seconds,
        virtual_seconds: None,
        verified: processes.iter().map(|process| process.verified).sum(),
        faults: totals.faults,
        paging_file: totals.paging_file,
        machine: MachineFigures {
            paging: machine.paging.into(),
            cpus: machine.cpus,
            threads: None,
            seed: None,
            frames: machine.frames + kept,
            lists: Lists { active: machine.lists.active + kept, ..machine.lists },
            committed: machine.committed,
            commit_limit: machine.commit_limit,
        },
        sweep: None,
        processes,
    }
}

fn process_figures(process: Process) -> ProcessFigures {
    ProcessFigures {
        name: process.name,
        trace: None,
        references: process.references,
        records: None,
        pages: process.pages,
        faults: process.faults,
        working_set_peak: process.working_set_peak,
        working_set: process.working_set,
        verified: process.verified,
        status: process.status,
    }
}
