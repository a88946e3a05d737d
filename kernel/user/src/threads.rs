//! Threads of a program.

use crate::PAGE_SIZE;
use crate::flags::PAGE_READWRITE;
use crate::memory::Block;
use crate::services::{NtCreateThreadEx, NtTerminateThread, NtWaitForThread};
use crate::status::NtStatus;
use crate::structures::Handle;

/// Committed pages of a thread's stack.
const STACK_PAGES: u64 = 16;

/// A thread of this process, with the stack it runs on.
#[derive(Debug)]
pub struct Thread {
    id: u64,
    stack: Block,
}

impl Thread {
    /// Starts a thread that calls `start` with `argument`, on a stack of 64 KiB above a page that
    /// is not committed.
    ///
    /// # Errors
    /// The status of the service that failed.
    pub fn start(start: extern "C" fn(u64) -> !, argument: u64) -> Result<Self, NtStatus> {
        let stack = Block::reserve(STACK_PAGES + 1)?;
        stack.commit(PAGE_SIZE, STACK_PAGES * PAGE_SIZE, PAGE_READWRITE)?;
        let entry = (start as *const ()).addr() as u64;
        let mut id = 0;
        // SAFETY: `start` takes what it is given and never returns; the stack is the thread's
        // until it has ended.
        let status = unsafe {
            NtCreateThreadEx(
                Handle::CURRENT_PROCESS,
                &raw mut id,
                entry,
                argument,
                stack.base() + stack.size(),
            )
        };
        match status.into_result() {
            Ok(()) => Ok(Self { id, stack }),
            Err(status) => {
                stack.release()?;
                Err(status)
            }
        }
    }

    /// What the kernel calls it.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Waits until the thread has ended, and frees its stack.
    ///
    /// # Errors
    /// The status of the service that failed.
    pub fn join(self) -> Result<(), NtStatus> {
        NtWaitForThread(self.id).into_result()?;
        self.stack.release()
    }
}

/// Ends the calling thread.
pub fn exit(status: NtStatus) -> ! {
    loop {
        let _ = NtTerminateThread(Handle::CURRENT_THREAD, status);
    }
}
