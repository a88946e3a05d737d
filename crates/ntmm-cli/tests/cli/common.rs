//! Running the program, and a small trace that does a bit of everything.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What a run of the program left behind.
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Standard output as JSON of a run that went well.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.stderr);
        serde_json::from_str(&self.stdout).expect("standard output is JSON")
    }

    /// The one line that a failed run says, after its exit status was found right.
    pub fn complaint(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        self.stderr.strip_prefix("ntmm: ").expect("complaints are signed").trim_end()
    }
}

/// Runs the program.
pub fn ntmm<const COUNT: usize>(arguments: [&str; COUNT]) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_ntmm")).args(arguments).output();
    let output = output.expect("the program starts");
    Outcome {
        code: output.status.code().expect("the program ends by itself"),
        stdout: String::from_utf8(output.stdout).expect("output is text"),
        stderr: String::from_utf8(output.stderr).expect("complaints are text"),
    }
}

/// An empty directory for a test.
pub fn directory(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("the directory for temporary files can be written");
    path
}

/// A path as an argument.
pub fn argument(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

/// Names of the files in a directory.
pub fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.expect("the entry is there").file_name().into_string().expect("names are text")
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// Pages of data of the small trace, and pages of code.
pub const DATA_PAGES: u64 = 300;
pub const CODE_PAGES: u64 = 7;
const ROUNDS: u64 = 5;

/// Address of the first data page, above 2 GiB and above the 8 TiB of an amd64 process.
pub const DATA: u64 = 0x7fff_0000_0000;
const CODE: u64 = 0x40_1000;

/// A trace and what it adds up to.
pub struct SmallTrace {
    pub text: String,
    pub references: u64,
    /// Bytes that it reads.
    pub read: u64,
}

/// Goes over the data pages in an order of its own each time: stores and loads, unaligned,
/// crossing into the next page, and modifications.
pub fn small_trace() -> SmallTrace {
    let mut trace = SmallTrace {
        text: String::from("==7== Lackey\n==7== Command: /usr/bin/demo --all\n==7==\n"),
        references: 0,
        read: 0,
    };
    for round in 0..ROUNDS {
        for number in 0..DATA_PAGES {
            let page = DATA + (number * 77 + round * 13) % DATA_PAGES * 4096;
            trace.add("I ", CODE + number % CODE_PAGES * 4096 + round * 64, 5);
            trace.add(" S", page + 8 * round + 3, 8);
            trace.add(" L", page, 64);
            if page != DATA + (DATA_PAGES - 1) * 4096 {
                trace.add(" S", page + 4096 - round - 1, 16);
                trace.add(" L", page + 4090, 17);
            }
            trace.add(" M", page + 128 + round, 4);
        }
    }
    trace
}

impl SmallTrace {
    fn add(&mut self, mark: &str, va: u64, size: u64) {
        writeln!(self.text, "{mark} {va:08x},{size}").expect("writing to a string");
        self.references += 1;
        if mark != " S" {
            self.read += size;
        }
    }

    /// Writes the trace into a directory.
    pub fn write(&self, directory: &Path) -> PathBuf {
        let path = directory.join("demo.lk");
        fs::write(&path, &self.text).expect("temporary files can be written");
        path
    }
}
