//! How a machine ends before its work does.
//!
//! The manager stops the machine through [`Executive::bug_check`], which does not return: the
//! machine unwinds to the simulation, which reports a [`Halt`]. Rules of the platform boundary
//! that the manager breaks end the machine the same way. A machine that has halted is dead.
//!
//! [`Executive::bug_check`]: ntmm::platform::Executive::bug_check

use std::fmt;

use ntmm::operation::WaitKey;
use ntmm::platform::Irql;
use ntmm::status::BugCheck;
use ntmm_pte::{Pfn, Va};

use crate::cpu::CpuId;
use crate::scheduler::ThreadId;

/// Why a machine ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// The manager stopped it.
    #[error("{0}")]
    BugCheck(BugCheck),
    /// The manager broke a rule of the platform boundary.
    #[error("{0}")]
    Violation(Violation),
    /// Threads wait and nothing can ever wake them.
    #[error("{0}")]
    Stuck(Stuck),
    /// An assertion failed: in a program that checks what it reads, or in the manager.
    #[error("panic: {0}")]
    Panic(String),
}

/// A broken rule of the platform boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A step ended above PASSIVE_LEVEL: a lock is still held.
    #[error("{cpu}: a step ended at interrupt level {}: a lock is held", irql.0)]
    LockHeld {
        /// Processor that made the step.
        cpu: CpuId,
        /// Its level.
        irql: Irql,
    },
    /// An interrupt level was lowered that had not been raised, or to a higher level.
    #[error("{cpu}: interrupt level lowered to {} where it is {}", to.0, from.0)]
    Lowered {
        /// Processor.
        cpu: CpuId,
        /// Its level.
        from: Irql,
        /// The level asked for.
        to: Irql,
    },
    /// A transfer was submitted with a lock held.
    #[error("{cpu}: a transfer was submitted at interrupt level {}", irql.0)]
    SubmittedWithLock {
        /// Processor.
        cpu: CpuId,
        /// Its level.
        irql: Irql,
    },
    /// The size of a file was asked for or changed with a lock held.
    #[error("{cpu}: the file system was called at interrupt level {}", irql.0)]
    FileSystemWithLock {
        /// Processor.
        cpu: CpuId,
        /// Its level.
        irql: Irql,
    },
    /// Every processor waits for a lock.
    #[error("{cpu}: waits for a lock that nobody can release")]
    Deadlock {
        /// The processor that noticed.
        cpu: CpuId,
    },
    /// A frame was named where there is no memory.
    #[error("frame {0:#x} is outside memory")]
    NoMemory(u64),
    /// A transfer named a file the machine does not have, more frames than allowed, or a run
    /// that does not fit them, or does not begin where it may.
    #[error("a transfer of {length} bytes at {offset} in {frames} frames names file {file}")]
    BadTransfer {
        /// File named.
        file: u32,
        /// Frames named.
        frames: usize,
        /// Where the run begins, in bytes.
        offset: u64,
        /// Its bytes.
        length: u64,
    },
    /// An access goes on faulting although each fault is reported resolved.
    #[error("{cpu}: the access to {va} goes on faulting after every resolution")]
    EndlessFault {
        /// Processor.
        cpu: CpuId,
        /// Address.
        va: Va,
    },
    /// A program without an address space touched memory.
    #[error("{cpu}: access to {va} without an address space")]
    NoAddressSpace {
        /// Processor.
        cpu: CpuId,
        /// Address.
        va: Va,
    },
    /// A frame is used for something else while a processor can still reach it.
    #[error("frame {pfn} is still reachable from {references} cached translations")]
    Reachable {
        /// Frame.
        pfn: Pfn,
        /// How many translations reach it.
        references: u32,
    },
}

/// Threads that nothing can ever wake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Each thread and what it waits for.
    pub waiters: Vec<(ThreadId, WaitKey)>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing can run:")?;
        for (thread, key) in &self.waiters {
            write!(f, " {thread} waits for {key:?};")?;
        }
        Ok(())
    }
}

impl std::error::Error for Stuck {}

impl Halt {
    /// Ends the machine: unwinds to the simulation without the message of a panic.
    pub(crate) fn raise(self) -> ! {
        std::panic::resume_unwind(Box::new(self))
    }

    /// What unwound to the simulation, or to a host that called the manager itself.
    #[must_use]
    pub fn from_payload(payload: Box<dyn std::any::Any + Send>) -> Self {
        match payload.downcast::<Self>() {
            Ok(halt) => *halt,
            Err(payload) => Self::Panic(
                payload
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .unwrap_or_else(|| "a panic without a message".to_owned()),
            ),
        }
    }
}

impl Violation {
    /// Ends the machine with this violation.
    pub(crate) fn raise(self) -> ! {
        Halt::Violation(self).raise()
    }
}
