//! Operations of the manager, stepped to their end by the running thread.

use ntmm::{NtStatus, Operation, Step};

use crate::platform::Machine;
use crate::{kernel, scheduler};

/// Steps an operation until it is done; the thread is parked while it has to wait.
///
/// # Errors
/// What the operation raises; PROCESS_IS_TERMINATING when the thread was killed meanwhile, and the
/// operation abandoned.
pub fn complete<O: Operation<Machine>>(mut operation: O) -> Result<O::Output, NtStatus> {
    let manager = &kernel().manager;
    loop {
        match manager.step(&mut operation) {
            Step::Done(output) => return Ok(output),
            Step::Raise(status) => return Err(status),
            Step::Wait(wait) => {
                if scheduler::wait(wait).is_err() {
                    manager.abandon(operation);
                    return Err(NtStatus::PROCESS_IS_TERMINATING);
                }
            }
        }
    }
}
