//! The system services, one function each, in the shape NT declares them.
//!
//! They pass on what they are given: the kernel checks. Output pointers are written only when
//! the service succeeds, unless noted. Programs that have no reason to be here use
//! [`crate::memory`], [`crate::threads`] and [`crate::system`].
//!
//! # Safety
//! Common to all: pointers that the kernel writes through must point to memory that may be
//! overwritten; and memory that anything in the program still relies on must not be freed,
//! decommitted or made inaccessible. Pointers and numbers that are plainly wrong are safe, since
//! the kernel answers them with a status.
#![allow(non_snake_case, reason = "the services keep their NT names")]
#![allow(clippy::missing_safety_doc, reason = "the module's own section holds for all")]
#![allow(clippy::too_many_arguments, reason = "the services keep their NT arguments")]

use crate::NtStatus;
use crate::gate::call;
use crate::structures::{Context, ExtendedParameter, Handle, InitialStack};

/// Service numbers, as `eax` holds them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
#[expect(missing_docs, reason = "each is the number of the function of the same name")]
pub enum Service {
    YieldExecution = 0,
    AllocateVirtualMemory = 1,
    FreeVirtualMemory = 2,
    ProtectVirtualMemory = 3,
    QueryVirtualMemory = 4,
    TerminateProcess = 5,
    TerminateThread = 6,
    CreateThreadEx = 7,
    Continue = 8,
    DisplayString = 9,
    DelayExecution = 10,
    QuerySystemInformation = 11,
    SetSystemInformation = 12,
    SetInformationProcess = 13,
    ReportVerified = 14,
    ReadArchive = 15,
    RegisterExceptionDispatcher = 16,
    WaitForThread = 17,
    AllocateVirtualMemoryEx = 18,
    LockVirtualMemory = 19,
    UnlockVirtualMemory = 20,
    FlushVirtualMemory = 21,
    ReadVirtualMemory = 22,
    WriteVirtualMemory = 23,
    GetWriteWatch = 24,
    ResetWriteWatch = 25,
}

impl From<Service> for u64 {
    fn from(service: Service) -> Self {
        Self::from(service as u32)
    }
}

/// Lets another thread run.
pub fn NtYieldExecution() -> NtStatus {
    // SAFETY: the service touches nothing of the program's.
    unsafe { call!(Service::YieldExecution) }
}

/// Reserves or commits memory (API 3). `base` and `size` are rounded on return; a base of zero
/// lets the manager choose.
pub unsafe fn NtAllocateVirtualMemory(
    process: Handle,
    base: *mut u64,
    zero_bits: u64,
    size: *mut u64,
    kind: u32,
    protect: u32,
) -> NtStatus {
    // SAFETY: the caller's.
    unsafe { call!(Service::AllocateVirtualMemory, process, base, zero_bits, size, kind, protect) }
}

/// Decommits or releases memory (API 4).
pub unsafe fn NtFreeVirtualMemory(
    process: Handle,
    base: *mut u64,
    size: *mut u64,
    kind: u32,
) -> NtStatus {
    // SAFETY: the caller's.
    unsafe { call!(Service::FreeVirtualMemory, process, base, size, kind) }
}

/// Changes the protection of committed memory (API 5).
pub unsafe fn NtProtectVirtualMemory(
    process: Handle,
    base: *mut u64,
    size: *mut u64,
    protect: u32,
    old_protect: *mut u32,
) -> NtStatus {
    // SAFETY: the caller's.
    unsafe { call!(Service::ProtectVirtualMemory, process, base, size, protect, old_protect) }
}

/// Says what is at an address (API 7). `returned` may be null.
pub unsafe fn NtQueryVirtualMemory(
    process: Handle,
    base: u64,
    class: u32,
    information: *mut u8,
    length: u64,
    returned: *mut u64,
) -> NtStatus {
    // SAFETY: the caller's.
    unsafe {
        call!(Service::QueryVirtualMemory, process, base, class, information, length, returned)
    }
}

/// Ends the process and all its threads. Returns only when it fails.
pub fn NtTerminateProcess(process: Handle, status: NtStatus) -> NtStatus {
    // SAFETY: nothing of the program runs afterwards that could rely on anything.
    unsafe { call!(Service::TerminateProcess, process, status) }
}

/// Ends the thread. Returns only when it fails.
pub fn NtTerminateThread(thread: Handle, status: NtStatus) -> NtStatus {
    // SAFETY: the thread's stack stays as it is; what others borrow from it remains valid.
    unsafe { call!(Service::TerminateThread, thread, status) }
}

/// Starts a thread at `start`, with `argument` in `rdi` and `rsp` 8 below the base of `stack`.
pub unsafe fn NtCreateThreadEx(
    process: Handle,
    id: *mut u64,
    start: u64,
    argument: u64,
    stack: *const InitialStack,
) -> NtStatus {
    // SAFETY: the caller's.
    unsafe { call!(Service::CreateThreadEx, process, id, start, argument, stack) }
}

/// Loads all registers from `context`. Returns only when it fails.
pub unsafe fn NtContinue(context: *const Context) -> NtStatus {
    // SAFETY: the caller's.
    unsafe { call!(Service::Continue, context) }
}

/// Writes UTF-8 text to the console, unbroken by that of others.
pub fn NtDisplayString(text: &str) -> NtStatus {
    // SAFETY: the kernel reads the text, which is borrowed for the time of the call.
    unsafe { call!(Service::DisplayString, text.as_ptr(), text.len() as u64) }
}

/// Waits for so many microseconds.
pub fn NtDelayExecution(microseconds: u64) -> NtStatus {
    // SAFETY: the service touches nothing of the program's.
    unsafe { call!(Service::DelayExecution, microseconds) }
}

/// Reads system-wide figures; `class` 2 is [`crate::structures::Performance`].
pub unsafe fn NtQuerySystemInformation(
    class: u64,
    buffer: *mut u8,
    length: u64,
    returned: *mut u64,
) -> NtStatus {
    // SAFETY: the caller's.
    unsafe { call!(Service::QuerySystemInformation, class, buffer, length, returned) }
}

/// Gives the system a command; `class` 80, see [`crate::system::Command`].
pub unsafe fn NtSetSystemInformation(class: u64, command: *const u32, length: u64) -> NtStatus {
    // SAFETY: the caller's.
    unsafe { call!(Service::SetSystemInformation, class, command, length) }
}

/// Sets a property of the process; `class` 1 is [`crate::structures::QuotaLimits`].
pub unsafe fn NtSetInformationProcess(
    process: Handle,
    class: u64,
    buffer: *const u8,
    length: u64,
) -> NtStatus {
    // SAFETY: the caller's.
    unsafe { call!(Service::SetInformationProcess, process, class, buffer, length) }
}

/// Adds to what the process has verified: memory references, and bytes.
pub fn ReportVerified(references: u64, bytes: u64) -> NtStatus {
    // SAFETY: the service touches nothing of the program's.
    unsafe { call!(Service::ReportVerified, references, bytes) }
}

/// Reads a file of the boot archive. `returned` gets the bytes read.
pub unsafe fn ReadArchive(
    name: &str,
    buffer: *mut u8,
    length: u64,
    returned: *mut u64,
) -> NtStatus {
    // SAFETY: the caller's.
    unsafe {
        call!(Service::ReadArchive, name.as_ptr(), name.len() as u64, buffer, length, returned)
    }
}

/// Has every exception of the process enter the code at `address`; 0 withdraws.
pub unsafe fn RegisterExceptionDispatcher(address: u64) -> NtStatus {
    // SAFETY: the caller's.
    unsafe { call!(Service::RegisterExceptionDispatcher, address) }
}

/// Waits until thread `id` of this process has ended.
pub fn NtWaitForThread(id: u64) -> NtStatus {
    // SAFETY: the service touches nothing of the program's.
    unsafe { call!(Service::WaitForThread, id) }
}

/// Reserves or commits memory as `parameters` ask, and makes placeholders (API 3.6).
pub unsafe fn NtAllocateVirtualMemoryEx(
    process: Handle,
    base: *mut u64,
    size: *mut u64,
    kind: u32,
    protect: u32,
    parameters: *const ExtendedParameter,
    count: u32,
) -> NtStatus {
    let rest = [parameters.expose_provenance() as u64, u64::from(count)];
    // SAFETY: the caller's; the rest of the arguments is a local.
    unsafe {
        call!(Service::AllocateVirtualMemoryEx, process, base, size, kind, protect, &raw const rest)
    }
}

/// Locks pages in the working set or in memory, by `MAP_*` bits (API 8).
pub unsafe fn NtLockVirtualMemory(
    process: Handle,
    base: *mut u64,
    size: *mut u64,
    kind: u32,
) -> NtStatus {
    // SAFETY: the caller's.
    unsafe { call!(Service::LockVirtualMemory, process, base, size, kind) }
}

/// Unlocks pages that were locked so (API 8).
pub unsafe fn NtUnlockVirtualMemory(
    process: Handle,
    base: *mut u64,
    size: *mut u64,
    kind: u32,
) -> NtStatus {
    // SAFETY: the caller's.
    unsafe { call!(Service::UnlockVirtualMemory, process, base, size, kind) }
}

/// Writes modified pages of a view back (API 10).
pub unsafe fn NtFlushVirtualMemory(
    process: Handle,
    base: *mut u64,
    size: *mut u64,
    io_status: *mut [u64; 2],
) -> NtStatus {
    // SAFETY: the caller's.
    unsafe { call!(Service::FlushVirtualMemory, process, base, size, io_status) }
}

/// Copies from `base` of a process to `buffer` (API 9). `done` may be null; failures write it too.
pub unsafe fn NtReadVirtualMemory(
    process: Handle,
    base: u64,
    buffer: *mut u8,
    size: u64,
    done: *mut u64,
) -> NtStatus {
    // SAFETY: the caller's.
    unsafe { call!(Service::ReadVirtualMemory, process, base, buffer, size, done) }
}

/// Copies from `buffer` to `base` of a process (API 9). `done` may be null; failures write it too.
pub unsafe fn NtWriteVirtualMemory(
    process: Handle,
    base: u64,
    buffer: *const u8,
    size: u64,
    done: *mut u64,
) -> NtStatus {
    // SAFETY: the caller's.
    unsafe { call!(Service::WriteVirtualMemory, process, base, buffer, size, done) }
}

/// Says which pages of a range were written (API 17); `flags` are `WRITE_WATCH_FLAG_*` bits.
pub unsafe fn NtGetWriteWatch(
    process: Handle,
    flags: u32,
    base: u64,
    size: u64,
    array: *mut u64,
    count: *mut u64,
    granularity: *mut u32,
) -> NtStatus {
    let rest = [count.expose_provenance() as u64, granularity.expose_provenance() as u64];
    // SAFETY: the caller's; the rest of the arguments is a local.
    unsafe { call!(Service::GetWriteWatch, process, flags, base, size, array, &raw const rest) }
}

/// Forgets which pages of a range were written (API 17).
pub fn NtResetWriteWatch(process: Handle, base: u64, size: u64) -> NtStatus {
    // SAFETY: the service touches no memory of the program's.
    unsafe { call!(Service::ResetWriteWatch, process, base, size) }
}
