//! System services: the Nt calls on memory and the few others programs need.
//!
//! | File | Holds |
//! |---|---|
//! | `memory` | the Nt calls that allocate, free, protect and lock virtual memory |
//! | `contents` | those that tell of it or copy it |
//! | `system` | threads, time, information, the console |
//!
//! A service takes up to six integers and returns a status. One that has more takes the sixth for a
//! pointer to the rest of them, in order, 8 bytes each. What the integers point to is read and
//! written through [`crate::user`] alone.

mod contents;
mod memory;
mod system;

use ntmm::NtStatus;
use ntmm::nt::{Caller, Process, Target};
use ntmm_pte::Amd64;

use crate::{kernel, process, scheduler};

/// A service.
type Service = extern "C" fn(u64, u64, u64, u64, u64, u64) -> u64;

/// Number of services.
pub const COUNT: usize = 26;

/// The services by number; the system-call entry calls through it.
#[unsafe(no_mangle)]
static service_table: [Service; COUNT] = [
    system::yield_execution,
    memory::allocate,
    memory::free,
    memory::protect,
    contents::query,
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
    memory::allocate_extended,
    memory::lock,
    memory::unlock,
    memory::flush,
    contents::read,
    contents::write,
    contents::get_write_watch,
    contents::reset_write_watch,
];

/// Calls a service by number.
pub fn call(number: u64, arguments: [u64; 6]) -> u64 {
    let Some(service) = service_table.get(number as usize) else {
        return NtStatus::INVALID_SYSTEM_SERVICE.code().into();
    };
    let [a, b, c, d, e, f] = arguments;
    service(a, b, c, d, e, f)
}

/// What a service returns.
fn status(outcome: Result<(), NtStatus>) -> u64 {
    NtStatus::from(outcome).code().into()
}

/// What a service returns that has more than one way to succeed.
fn answer(outcome: Result<NtStatus, NtStatus>) -> u64 {
    outcome.unwrap_or_else(|refused| refused).code().into()
}

/// NtCurrentProcess.
const CURRENT_PROCESS: u64 = u64::MAX;
/// NtCurrentThread.
const CURRENT_THREAD: u64 = u64::MAX - 1;

/// Who makes the calls: a program without privileges.
fn caller() -> Caller {
    Caller::program::<Amd64>(kernel().profile)
}

/// The process a handle names.
fn target(handle: u64) -> Process {
    match handle {
        CURRENT_PROCESS => {
            let home = scheduler::home().ok_or(NtStatus::INVALID_HANDLE)?;
            Ok(Target::current(home.space))
        }
        CURRENT_THREAD => Err(NtStatus::OBJECT_TYPE_MISMATCH),
        _ => Err(NtStatus::INVALID_HANDLE),
    }
}

/// The address space of the process a handle names.
fn space_of(handle: u64) -> Result<ntmm::AddressSpaceId, NtStatus> {
    target(handle).map(|target| target.space)
}

/// Ends the program of the running thread.
fn terminate(status: NtStatus) {
    process::terminate_current(status);
}
