//! The simulated machine under the memory manager.
//!
//! A [`Machine`] has memory, up to 32 processors with translation buffers and
//! a page walker in one of three paging modes, disks, files, and a virtual clock; it implements the
//! manager's platform. A [`Simulation`] puts a manager on it and runs
//! [programs](Program) whose every memory reference goes through translation buffer,
//! walker and page faults. Everything follows from a seed: the same configuration and programs
//! make the same run, on every host.
//!
//! A machine behaves plainly and fast, or adversarially ([`config::Behaviour`]): then its
//! processors use any translation they were ever allowed to cache until it is flushed, take up
//! translations nobody asked for, acknowledge flushes late and change in the middle of the
//! manager, and its disks reorder, fail and tear.
//!
//! Hardware, from the bottom: [`ram`], [`mod@format`], [`walker`], [`tlb`], [`retained`], [`cpu`],
//! [`clock`], [`disk`], [`data_file`], [`storage`], [`transfers`], [`random`]; put together in [`machine`], [`translation`] and
//! [`platform`]. Software on top: [`scheduler`], [`switch`], [`context`], [`access`], [`program`],
//! [`simulation`]. [`halt`] is how a machine ends before its work does, [`sabotage`] what may be broken
//! in it on purpose.
//!
//! There are no statics; many machines live in one process, each on one thread of the host.
#![deny(unsafe_code)]

pub mod access;
pub mod clock;
pub mod config;
pub mod context;
pub mod cpu;
pub mod data_file;
pub mod disk;
mod file_system;
pub mod format;
pub mod halt;
pub mod machine;
pub mod platform;
pub mod program;
pub mod ram;
pub mod random;
pub mod retained;
pub mod sabotage;
pub mod scheduler;
pub mod simulation;
pub mod storage;
pub mod switch;
mod system;
#[cfg(test)]
mod tests;
pub mod tlb;
pub mod transfers;
pub mod translation;
pub mod walker;

pub use access::{MemoryAccess, Outcome};
pub use clock::{Clock, Nanoseconds};
pub use config::{Adversary, Behaviour, Config, Costs, DiskFaults, DiskTiming, Preemption};
pub use context::Cpu;
pub use cpu::CpuId;
pub use data_file::{DataFile, HostFile, MemoryFile};
pub use disk::{Disk, FileDisk, MemoryDisk};
pub use format::Hardware;
pub use halt::{Halt, Stuck, Violation};
pub use machine::{Machine, NoTrace, Statistics};
pub use program::{Program, ProgramStep};
pub use random::Chance;
pub use sabotage::{Defect, Sabotage};
pub use scheduler::ThreadId;
pub use simulation::{Progress, Simulation};
pub use walker::{PageFault, Privilege, Reach};
