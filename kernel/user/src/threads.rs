//! Threads of a program.

use crate::NtStatus;
use crate::PAGE_SIZE;
use crate::flags::{PAGE_GUARD, PAGE_READWRITE};
use crate::memory::Block;
use crate::services::{NtCreateThreadEx, NtTerminateThread, NtWaitForThread};
use crate::structures::{Handle, InitialStack};

/// Pages of a thread's stack: reserved, committed at first, guard pages below those.
const RESERVED: u64 = 256;
const COMMITTED: u64 = 16;
const GUARDS: u64 = 2;

/// A thread of this process, with the stack it runs on.
#[derive(Debug)]
pub struct Thread {
    id: u64,
    stack: Block,
}

impl Thread {
    /// Starts a thread that calls `start` with `argument`, on a stack of 1 MiB that grows from
    /// 64 KiB.
    ///
    /// # Errors
    /// The status of the service that failed.
    pub fn start(start: extern "C" fn(u64) -> !, argument: u64) -> Result<Self, NtStatus> {
        let stack = Block::reserve(RESERVED)?;
        let limit = (RESERVED - COMMITTED) * PAGE_SIZE;
        let guard = limit - GUARDS * PAGE_SIZE;
        stack.commit(limit, COMMITTED * PAGE_SIZE, PAGE_READWRITE)?;
        stack.commit(guard, GUARDS * PAGE_SIZE, PAGE_READWRITE | PAGE_GUARD)?;
        let initial = InitialStack {
            base: stack.base() + stack.size(),
            limit: stack.base() + limit,
            deallocation: stack.base(),
        };
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
                &raw const initial,
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
