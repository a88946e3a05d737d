//! System services: the Nt calls on memory and the few others programs need.
//!
//! | File | Holds |
//! |---|---|
//! | `memory` | the Nt calls on virtual memory |
//! | `system` | threads, time, information, the console |
//!
//! A service takes up to six integers and returns a status. What the integers point to is read and
//! written through [`crate::user`] alone.

mod memory;
mod system;

use ntmm::NtStatus;

use crate::{process, scheduler};

/// A service.
type Service = extern "C" fn(u64, u64, u64, u64, u64, u64) -> u64;

/// Number of services.
pub const COUNT: usize = 18;

/// A number without a service.
const INVALID_SYSTEM_SERVICE: u64 = 0xC000_001C;

/// The services by number; the system-call entry calls through it.
#[unsafe(no_mangle)]
static service_table: [Service; COUNT] = [
    system::yield_execution,
    memory::allocate,
    memory::free,
    memory::protect,
    memory::query,
    system::terminate_process,
    system::terminate_thread,
    system::create_thread,
    system::resume,
    system::display,
    system::delay,
    system::query_system,
    system::set_system,
    system::set_process,
    system::report_verified,
    system::read_archive,
    system::register_dispatcher,
    system::wait_for_thread,
];

/// Calls a service by number.
pub fn call(number: u64, arguments: [u64; 6]) -> u64 {
    let Some(service) = service_table.get(number as usize) else { return INVALID_SYSTEM_SERVICE };
    let [a, b, c, d, e, f] = arguments;
    service(a, b, c, d, e, f)
}

/// What a service returns.
fn status(outcome: Result<(), NtStatus>) -> u64 {
    match outcome {
        Ok(()) => 0,
        Err(status) => status.code().into(),
    }
}

/// NtCurrentProcess.
const CURRENT_PROCESS: u64 = u64::MAX;
/// NtCurrentThread.
const CURRENT_THREAD: u64 = u64::MAX - 1;

/// The address space of the process a handle names.
fn space_of(handle: u64) -> Result<ntmm::AddressSpaceId, NtStatus> {
    if handle != CURRENT_PROCESS {
        return Err(NtStatus::INVALID_HANDLE);
    }
    scheduler::home().map(|home| home.space).ok_or(NtStatus::INVALID_HANDLE)
}

/// Ends the program of the running thread.
fn terminate(status: NtStatus) {
    process::terminate_current(status);
}
