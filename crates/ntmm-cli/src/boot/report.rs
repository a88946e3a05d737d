//! What the kernel and its programs report on the console.
//!
//! A report is a line that begins with `@`, a word, a blank, and one JSON object. All other lines
//! are text, and so is a line that only looks like a report: a program that runs wild may print
//! anything.

use serde::Deserialize;

use crate::run::figures::{Faults, Lists, MachineFaults, PagingFile};

/// A line of the console.
#[derive(Clone, Debug)]
pub enum Line {
    /// `@ready`: the manager runs and the programs are about to start.
    Ready(Ready),
    /// `@process`: a process has ended.
    Process(Process),
    /// `@result`: every process has ended.
    Result(Totals),
    /// `@bugcheck`: the kernel stops.
    BugCheck(BugCheck),
    /// `@bench`: a figure that the program `bench` has measured.
    Bench(Bench),
    /// `@outcome`: what the program `random` has seen.
    Outcome(serde_json::Value),
    /// Anything else.
    Text(String),
    /// A line that begins like a report and is none.
    Malformed {
        /// The line.
        line: String,
        /// Why it is none.
        problem: String,
    },
}

/// The machine, as the kernel found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Ready {
    /// Processors that run.
    pub cpus: u32,
    /// Frames of memory.
    pub frames: u64,
    /// Frames the manager has.
    pub manager_frames: u64,
    /// Pages of the paging file.
    pub paging_file: u64,
}

/// A process that has ended.
#[derive(Clone, Debug, Deserialize)]
pub struct Process {
    /// Its number.
    pub id: u64,
    /// Its program.
    pub name: String,
    /// The status it ended with.
    pub status: u32,
    /// References to memory it made.
    pub references: u64,
    /// Bytes it compared and found right.
    pub verified: u64,
    /// Most pages that were committed for it.
    pub pages: u64,
    /// Its faults.
    pub faults: Faults,
    /// Most pages in its working set at a time.
    pub working_set_peak: u64,
    /// Pages in its working set when it ended.
    pub working_set: u64,
}

/// The whole machine after the last process.
#[derive(Clone, Debug, Deserialize)]
pub struct Totals {
    /// Time from the first process to the end of the last.
    pub seconds: f64,
    /// Faults of all processes.
    pub faults: MachineFaults,
    /// Transfers to and from the paging file.
    pub paging_file: PagingFile,
    /// Its memory.
    pub machine: Machine,
}

/// The memory of the machine.
#[derive(Clone, Debug, Deserialize)]
pub struct Machine {
    /// Paging mode.
    pub paging: String,
    /// Processors.
    pub cpus: u32,
    /// Frames.
    pub frames: u64,
    /// Frames on each list and in use.
    #[serde(flatten)]
    pub lists: Lists,
    /// Pages committed.
    pub committed: u64,
    /// Pages that could be committed.
    pub commit_limit: u64,
}

/// A bug check.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BugCheck {
    /// NT's code.
    pub code: u32,
    /// NT's name of it.
    pub name: String,
    /// Its parameters.
    pub parameters: [u64; 4],
}

/// The cost of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Bench {
    /// The operation.
    pub name: String,
    /// Instructions it takes.
    pub instructions: u64,
}

impl Line {
    /// Reads a line.
    #[must_use]
    pub fn read(line: &str) -> Self {
        let report = line.strip_prefix('@').and_then(|report| report.split_once(' '));
        let Some((word, object)) = report else {
            return Self::Text(line.to_owned());
        };
        let read = match word {
            "ready" => serde_json::from_str(object).map(Self::Ready),
            "process" => serde_json::from_str(object).map(Self::Process),
            "result" => serde_json::from_str(object).map(Self::Result),
            "bugcheck" => serde_json::from_str(object).map(Self::BugCheck),
            "bench" => serde_json::from_str(object).map(Self::Bench),
            "outcome" => serde_json::from_str(object).map(Self::Outcome),
            _ => return Self::Text(line.to_owned()),
        };
        read.unwrap_or_else(|error| Self::Malformed {
            line: line.to_owned(),
            problem: error.to_string(),
        })
    }
}

impl std::fmt::Display for BugCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d] = self.parameters;
        write!(f, "bug check {:#X} {} ({a:#x}, {b:#x}, {c:#x}, {d:#x})", self.code, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_report_is_read() {
        let lines = [
            r#"@ready {"cpus":2,"frames":8192,"manager_frames":7000,"paging_file":65536}"#,
            concat!(
                r#"@process {"id":1,"name":"verify","status":3221225477,"references":5,"#,
                r#""verified":8,"pages":9,"faults":{"demand_zero":1,"transition":2,"page_file":3},"#,
                r#""working_set_peak":4,"working_set":0}"#
            ),
            concat!(
                r#"@result {"seconds":1.5,"faults":{"demand_zero":1,"transition":2,"#,
                r#""page_file":3,"collided":4,"total":11},"paging_file":{"reads":1,"#,
                r#""pages_read":2,"writes":3,"pages_written":4,"peak_slots":5,"slots":6},"#,
                r#""machine":{"paging":"amd64","cpus":2,"frames":8192,"zeroed":1,"free":2,"#,
                r#""standby":3,"modified":4,"modified_no_write":5,"bad":6,"active":7,"#,
                r#""transition":8,"committed":9,"commit_limit":10}}"#
            ),
            r#"@bugcheck {"code":10,"name":"IRQL_NOT_LESS_OR_EQUAL","parameters":[1,2,3,4]}"#,
            r#"@bench {"name":"null_system_call","instructions":40}"#,
            r#"@outcome {"digest":"00ff"}"#,
        ];
        let [ready, process, result, check, bench, outcome] = lines.map(Line::read);
        assert!(matches!(ready, Line::Ready(Ready { cpus: 2, paging_file: 65536, .. })));
        let Line::Process(process) = process else { panic!("{process:?}") };
        assert_eq!((process.id, process.status, process.faults.page_file), (1, 0xC000_0005, 3));
        let Line::Result(result) = result else { panic!("{result:?}") };
        assert_eq!((result.faults.kinds.transition, result.faults.total), (2, 11));
        assert_eq!((result.machine.lists.transition, result.machine.commit_limit), (8, 10));
        let Line::BugCheck(check) = check else { panic!("{check:?}") };
        assert_eq!(check.to_string(), "bug check 0xA IRQL_NOT_LESS_OR_EQUAL (0x1, 0x2, 0x3, 0x4)");
        let Line::Bench(bench) = bench else { panic!("{bench:?}") };
        assert_eq!((bench.name.as_str(), bench.instructions), ("null_system_call", 40));
        assert!(matches!(outcome, Line::Outcome(value) if value["digest"] == "00ff"));
    }

    #[test]
    fn everything_else_is_text() {
        for text in ["", "plain", "@", "@ready", "@unknown {}", " @ready {}"] {
            assert!(matches!(Line::read(text), Line::Text(line) if line == text), "{text}");
        }
        for wrong in ["@ready {}", "@process {\"id\":1", "@result x", "@outcome "] {
            let line = Line::read(wrong);
            assert!(matches!(line, Line::Malformed { line, .. } if line == wrong), "{wrong}");
        }
    }
}
