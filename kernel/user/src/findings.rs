//! What a program found out: how much it verified, and what was wrong.
//!
//! Every wrong value is printed with its place, up to a limit; the status at the end is success
//! only when there was none.

use core::fmt::{Debug, Display};

use crate::NtStatus;
use crate::println;
use crate::services::ReportVerified;

/// Failures that are printed one by one.
const PRINTED: u64 = 16;

/// The findings of one program or thread.
#[derive(Debug)]
pub struct Findings {
    program: &'static str,
    references: u64,
    bytes: u64,
    failures: u64,
}

impl Findings {
    /// Nothing found yet by `program`.
    #[must_use]
    pub const fn new(program: &'static str) -> Self {
        Self { program, references: 0, bytes: 0, failures: 0 }
    }

    /// Checks the word that was loaded from `address`.
    #[inline]
    pub fn word(&mut self, address: u64, expected: u64, found: u64) {
        self.references += 1;
        self.bytes += 8;
        if expected != found {
            self.wrong(
                format_args!("0x{address:x}"),
                format_args!("{expected:016x}"),
                format_args!("{found:016x}"),
            );
        }
    }

    /// Checks a value of any kind; `what` says where it is from.
    pub fn equal<T: PartialEq + Debug>(&mut self, what: impl Display, expected: T, found: T) {
        self.references += 1;
        if expected != found {
            self.wrong(what, format_args!("{expected:x?}"), format_args!("{found:x?}"));
        }
    }

    /// Counts a failure, and prints it if there were not too many.
    pub fn wrong(&mut self, what: impl Display, expected: impl Display, found: impl Display) {
        self.failures += 1;
        if self.failures <= PRINTED {
            println!("{}: {what}: expected {expected}, found {found}", self.program);
        }
    }

    /// Checks a value that may be any of several.
    pub fn any_of<T: PartialEq + Debug>(&mut self, what: impl Display, expected: &[T], found: T) {
        self.references += 1;
        if !expected.contains(&found) {
            self.wrong(what, format_args!("one of {expected:x?}"), format_args!("{found:x?}"));
        }
    }

    /// How many values were wrong.
    #[must_use]
    pub const fn failures(&self) -> u64 {
        self.failures
    }

    /// Adds what has been verified since the last time to the figures of the process.
    pub fn report(&mut self) {
        let references = core::mem::take(&mut self.references);
        let bytes = core::mem::take(&mut self.bytes);
        let _ = ReportVerified(references, bytes);
    }

    /// Reports, says how it went, and yields the status for the program to end with: that of
    /// `ended` when the program gave up.
    pub fn conclude(mut self, ended: Result<(), NtStatus>) -> NtStatus {
        let (references, bytes) = (self.references, self.bytes);
        self.report();
        match (ended, self.failures) {
            (Err(status), _) => {
                println!("{}: {status}", self.program);
                status
            }
            (Ok(()), 0) => {
                println!("{}: right ({references} checks, {bytes} bytes)", self.program);
                NtStatus::SUCCESS
            }
            (Ok(()), failures) => {
                println!("{}: {failures} wrong", self.program);
                NtStatus::DATA_ERROR
            }
        }
    }
}
