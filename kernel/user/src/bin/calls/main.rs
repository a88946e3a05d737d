//! The Nt calls on memory, to the status code.
//!
//! Arguments: `profile=P`, the version of Windows that the kernel was told to behave as, `legacy`
//! (default) or `modern`. Each call is made as it is meant and in each way it refuses: what it
//! returns, what it writes back, and what it leaves alone must be as on Windows.
#![no_std]
#![no_main]

mod extended;
mod locking;
mod making;
mod query;
mod transfer;
mod watch;

use ntmm_user::findings::Findings;
use ntmm_user::{Arguments, NtStatus, exceptions, println};

ntmm_user::entry!(main);

/// The version of Windows that is expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// NT 5.
    Legacy,
    /// Windows 10 and later.
    Modern,
}

impl Profile {
    /// What is expected of a call whose versions differ.
    pub fn choose<T>(self, legacy: T, modern: T) -> T {
        match self {
            Self::Legacy => legacy,
            Self::Modern => modern,
        }
    }
}

fn main(arguments: Arguments<'_>) -> NtStatus {
    let mut findings = Findings::new("calls");
    let ended = run(arguments, &mut findings);
    findings.conclude(ended)
}

fn run(arguments: Arguments<'_>, findings: &mut Findings) -> Result<(), NtStatus> {
    arguments.only(&["profile"])?;
    let profile = match arguments.text("profile").unwrap_or("legacy") {
        "legacy" => Profile::Legacy,
        "modern" => Profile::Modern,
        other => {
            println!("calls: there is no profile {other}");
            return Err(NtStatus::INVALID_PARAMETER);
        }
    };
    exceptions::install()?;
    making::check(findings, profile)?;
    locking::check(findings)?;
    transfer::check(findings, profile)?;
    watch::check(findings)?;
    query::check(findings, profile)?;
    extended::check(findings, profile)
}
