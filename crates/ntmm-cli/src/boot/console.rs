//! Following the console of a booted kernel: text passes through, reports are kept.

use std::io::{self, Write};
use std::path::Path;

use ntmm::status::NtStatus;

use super::error::{BootError, FailedProcess};
use super::qemu::Ending;
use super::report::{BugCheck, Line, Process, Totals};
use crate::failure::Failure;
use crate::output::print;
use crate::run::figures::{Figures, MachineFigures, ProcessFigures, status_name};

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
    /// Frames of the machine, those included that the manager never has.
    frames: u64,
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
            frames: 0,
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
            Line::Ready(ready) => self.frames = ready.frames,
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
        let Self {
            frames, mut processes, totals, bug_check, last_text, malformed, failure, ..
        } = self;
        processes.sort_by_key(|process| process.id);
        let complete = totals.is_some();
        let figures = totals.map(|totals| figures(frames, processes, totals));
        let reason = || last_text.strip_prefix(CANNOT_BOOT).unwrap_or(&last_text).to_owned();
        let result = match (ending, bug_check) {
            (Ending::CouldNotBoot, _) => Err(BootError::CouldNotBoot { reason: reason() }),
            (Ending::BadWord, _) => Err(BootError::BadWord { reason: reason() }),
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

/// The kernel's reports as the figures of a run. What the manager does not have at the end, of the
/// machine's `frames`, the kernel has.
fn figures(frames: u64, processes: Vec<Process>, totals: Totals) -> Figures {
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
            frames: frames.max(machine.frames),
            lists: machine.lists,
            kernel: frames.saturating_sub(machine.frames),
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
        status_name: status_name(NtStatus::new(process.status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lent_at_run_time_is_counted_once() {
        let mut console = Console::new(Stream::Error);
        for line in [
            r#"@ready {"cpus":1,"frames":8000,"manager_frames":5000,"paging_file":0}"#,
            concat!(
                r#"@result {"seconds":1.5,"faults":{"demand_zero":0,"transition":0,"#,
                r#""page_file":0,"collided":0,"total":0},"paging_file":{"reads":0,"#,
                r#""pages_read":0,"writes":0,"pages_written":0,"peak_slots":0,"slots":0},"#,
                r#""machine":{"paging":"amd64","cpus":1,"frames":7000,"zeroed":0,"free":6900,"#,
                r#""standby":0,"modified":0,"modified_no_write":0,"bad":0,"active":100,"#,
                r#""transition":0,"committed":9,"commit_limit":10}}"#
            ),
        ] {
            console.line(line);
        }
        let (figures, result) = console.verdict(Ending::Good);
        result.expect("a good end");
        let machine = figures.expect("the machine has reported").machine;
        assert_eq!((machine.frames, machine.lists.active, machine.kernel), (8000, 100, 1000));
    }
}
