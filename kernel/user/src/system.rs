//! System-wide figures and commands, working-set limits, files of the boot archive.

use crate::NtStatus;
use crate::services::{
    NtQuerySystemInformation, NtSetInformationProcess, NtSetSystemInformation, ReadArchive,
};
use crate::structures::{Handle, Performance, QuotaLimits};

/// SystemPerformanceInformation.
const PERFORMANCE_CLASS: u64 = 2;
/// SystemMemoryListInformation.
const MEMORY_LIST_CLASS: u64 = 80;
/// ProcessQuotaLimits.
const QUOTA_LIMITS_CLASS: u64 = 1;

/// What the memory lists can be told to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Command {
    /// Take all pages out of the working sets of all processes.
    EmptyWorkingSets = 2,
    /// Write all modified pages; comes back when the list is empty.
    FlushModifiedList = 3,
}

/// The figures now.
///
/// # Errors
/// The status of NtQuerySystemInformation.
pub fn performance() -> Result<Performance, NtStatus> {
    let mut figures = Performance::default();
    // SAFETY: the pointer is to a local of the length named.
    unsafe {
        NtQuerySystemInformation(
            PERFORMANCE_CLASS,
            (&raw mut figures).cast(),
            size_of::<Performance>() as u64,
            core::ptr::null_mut(),
        )
    }
    .into_result()?;
    Ok(figures)
}

/// Has `command` carried out.
///
/// # Errors
/// The status of NtSetSystemInformation.
pub fn command(command: Command) -> Result<(), NtStatus> {
    let word = command as u32;
    // SAFETY: the pointer is to a local of the length named.
    unsafe { NtSetSystemInformation(MEMORY_LIST_CLASS, &raw const word, 4) }.into_result()
}

/// Sets the limits of the working set.
///
/// # Errors
/// The status of NtSetInformationProcess.
pub fn set_working_set(limits: QuotaLimits) -> Result<(), NtStatus> {
    // SAFETY: the pointer is to a local of the length named.
    unsafe {
        NtSetInformationProcess(
            Handle::CURRENT_PROCESS,
            QUOTA_LIMITS_CLASS,
            (&raw const limits).cast(),
            size_of::<QuotaLimits>() as u64,
        )
    }
    .into_result()
}

/// Takes all pages out of the working set.
///
/// # Errors
/// The status of NtSetInformationProcess.
pub fn empty_working_set() -> Result<(), NtStatus> {
    set_working_set(QuotaLimits::EMPTY)
}

/// Reads file `name` of the boot archive into `buffer`; yields its bytes.
///
/// # Errors
/// The status of ReadArchive.
pub fn read_archive<'b>(name: &str, buffer: &'b mut [u8]) -> Result<&'b [u8], NtStatus> {
    let mut returned = 0;
    // SAFETY: the buffer is borrowed for the time of the call, and its length named.
    unsafe { ReadArchive(name, buffer.as_mut_ptr(), buffer.len() as u64, &raw mut returned) }
        .into_result()?;
    let length = usize::try_from(returned).unwrap_or(usize::MAX);
    buffer.get(..length).ok_or(NtStatus::BUFFER_TOO_SMALL)
}
