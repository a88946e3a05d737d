//! Why a boot did not end well.

use ntmm::status::{BugCheckCode, NtStatus};

use super::archive::ArchiveError;
use super::image::ImageError;
use super::qemu::QemuError;
use super::report::BugCheck;

/// A boot that did not end well.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// An image is missing or is none.
    #[error("{0}")]
    Image(#[from] ImageError),
    /// A file cannot be put in the archive.
    #[error("{0}")]
    Archive(#[from] ArchiveError),
    /// The machine did not run to an end of the guest's choosing.
    #[error("{0}")]
    Qemu(#[from] QemuError),
    /// The kernel could not boot.
    #[error("the kernel could not boot: {reason}")]
    CouldNotBoot {
        /// The last line on its console.
        reason: String,
    },
    /// A word of the kernel's command line means nothing to it.
    #[error("the kernel refuses {reason}")]
    BadWord {
        /// The last line on its console.
        reason: String,
    },
    /// The kernel stopped.
    #[error("the kernel stopped: {0}")]
    BugCheck(BugCheck),
    /// The kernel stopped and could not say why.
    #[error("the kernel stopped with a bug check that it did not report")]
    SilentBugCheck,
    /// Programs ended with another status than 0.
    #[error("{}", failed(processes))]
    Programs {
        /// Their processes.
        processes: Vec<FailedProcess>,
    },
    /// The kernel said that all was well, but not what came of it.
    #[error("the kernel ended without its result{}", because(problem.as_deref()))]
    NoResult {
        /// A line of the console that could not be understood.
        problem: Option<String>,
    },
}

/// A process that ended with another status than 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedProcess {
    /// Its number.
    pub id: u64,
    /// Its program.
    pub name: String,
    /// How it ended.
    pub status: NtStatus,
}

/// One line about every process that failed.
fn failed(processes: &[FailedProcess]) -> String {
    let one = |process: &FailedProcess| {
        format!("process {} ({}) ended with {}", process.id, process.name, process.status)
    };
    match processes {
        [] => "a program failed, and the kernel did not report which".to_owned(),
        processes => processes.iter().map(one).collect::<Vec<_>>().join("; "),
    }
}

fn because(problem: Option<&str>) -> String {
    problem.map(|problem| format!("; its console: {problem}")).unwrap_or_default()
}

/// Whether a status says that memory was refused.
const fn is_refusal(status: NtStatus) -> bool {
    matches!(
        status,
        NtStatus::COMMITMENT_LIMIT | NtStatus::NO_MEMORY | NtStatus::INSUFFICIENT_RESOURCES
    )
}

impl BootError {
    /// The exit status.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Image(_)
            | Self::Archive(_)
            | Self::BadWord { .. }
            | Self::Qemu(QemuError::Missing | QemuError::Start(_) | QemuError::Refused { .. }) => 2,
            Self::CouldNotBoot { .. } => 3,
            Self::BugCheck(check) if check.code == BugCheckCode::NoPagesAvailable as u32 => 3,
            Self::Programs { processes }
                if !processes.is_empty()
                    && processes.iter().all(|process| is_refusal(process.status)) =>
            {
                3
            }
            Self::Qemu(_)
            | Self::BugCheck(_)
            | Self::SilentBugCheck
            | Self::Programs { .. }
            | Self::NoResult { .. } => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(statuses: &[NtStatus]) -> BootError {
        let process = |(id, status): (u64, &NtStatus)| FailedProcess {
            id,
            name: "verify".to_owned(),
            status: *status,
        };
        BootError::Programs { processes: (1..).zip(statuses).map(process).collect() }
    }

    #[test]
    fn refused_memory_has_a_status_of_its_own() {
        let refused = NtStatus::COMMITMENT_LIMIT;
        assert_eq!(programs(&[refused, NtStatus::NO_MEMORY]).code(), 3);
        assert_eq!(programs(&[refused, NtStatus::ACCESS_VIOLATION]).code(), 1);
        assert_eq!(programs(&[]).code(), 1);
        let check = |code| BugCheck { code, name: String::new(), parameters: [0; 4] };
        assert_eq!(BootError::BugCheck(check(0x4D)).code(), 3);
        assert_eq!(BootError::BugCheck(check(0x1A)).code(), 1);
    }

    #[test]
    fn every_failed_process_is_named() {
        let text = programs(&[NtStatus::ACCESS_VIOLATION, NtStatus::new(7)]).to_string();
        assert_eq!(
            text,
            "process 1 (verify) ended with STATUS_ACCESS_VIOLATION (0xC0000005); \
             process 2 (verify) ended with status 0x00000007"
        );
    }
}
