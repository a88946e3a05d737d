//! Why a command did not do what it was asked, and the exit status that says so.
//!
//! Every failure is one line: what is wrong and where.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ntmm::status::{BugCheckCode, NtStatus};
use ntmm_machine::Halt;
use ntmm_trace::{DoesNotFit, TraceError};

use crate::boot::error::BootError;
use crate::run::shadow::Mismatch;

/// A failed command.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A program read other bytes than were stored.
    #[error(
        "data wrong: process {process}, address {va:#x}: expected byte {:#04x}, found {:#04x} ({during})",
        mismatch.expected, mismatch.found
    )]
    WrongData {
        /// Number and name of the process.
        process: String,
        /// Address of the first wrong byte.
        va: u64,
        /// What was expected and what was found.
        mismatch: Mismatch,
        /// What the program was doing.
        during: String,
    },
    /// The machine ended before the programs did.
    #[error("the machine stopped: {0}")]
    Halted(#[from] Halt),
    /// A run of a check failed.
    #[error("the check failed: {0}")]
    Check(String),
    /// Cases came out differently than on Windows.
    #[error("{0} conformance cases failed")]
    Conformance(u64),
    /// Memory was not given back.
    #[error("{0} pages are still committed after every process is gone")]
    Leaked(u64),
    /// A trace cannot be read, or a compact trace cannot be written.
    #[error("{0}")]
    Trace(#[from] TraceError),
    /// A trace is of a kind of file that cannot be replayed.
    #[error("{}: {problem}", file.display())]
    Input {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A trace is too large for the address space.
    #[error("{trace}: {problem}")]
    DoesNotFit {
        /// The trace.
        trace: String,
        /// How much is needed.
        problem: DoesNotFit,
    },
    /// An option asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// The host refuses to write a file.
    #[error("{what} {}: {error}", path.display())]
    Host {
        /// What the file is.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What the host said.
        error: io::Error,
    },
    /// The manager refused to give a process what it needs.
    #[error("process {process}: {what}: {status}")]
    Refused {
        /// Number and name of the process.
        process: String,
        /// What it asked for.
        what: String,
        /// The manager's answer.
        status: NtStatus,
    },
    /// The disk under the paging file failed.
    #[error("{0}")]
    PagingDisk(String),
    /// A boot did not end well.
    #[error("{0}")]
    Boot(#[from] BootError),
}

impl Failure {
    /// The host's refusal.
    pub fn host(what: &'static str, path: &Path, error: io::Error) -> Self {
        Self::Host { what, path: path.to_owned(), error }
    }

    /// The exit status.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Halted(Halt::Stuck(_)) => 3,
            Self::Halted(Halt::BugCheck(check))
                if matches!(check.code, BugCheckCode::NoPagesAvailable) =>
            {
                3
            }
            Self::WrongData { .. }
            | Self::Halted(_)
            | Self::Check(_)
            | Self::Conformance(_)
            | Self::Leaked(_) => 1,
            Self::Trace(_)
            | Self::Input { .. }
            | Self::DoesNotFit { .. }
            | Self::Usage(_)
            | Self::Host { .. } => 2,
            Self::Refused { .. } | Self::PagingDisk(_) => 3,
            Self::Boot(error) => error.code(),
        }
    }

    /// The exit status, for the system.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }
}
