//! `ntmm bench`: measurements.
//!
//! `ntmm bench kernel` counts the instructions that the kernel needs for its operations, and puts
//! Linux's figures beside them. Both kernels run in QEMU as it counts instructions, on the same
//! model of processor, and a program of ring 3 measures: `kernel/user/src/bin/bench.rs` here,
//! `bench/linux/init.c` there, each with the method of every figure at its top.
//!
//! | File | Holds |
//! |---|---|
//! | [`kernel`] | the command: ntmm's kernel twice, Linux once |
//! | [`linux`] | Linux and the program that measures it |
//! | [`package`] | Linux's kernel out of Debian's package |
//! | [`operations`] | the figures side by side |

pub mod kernel;
pub mod linux;
pub mod operations;
pub mod package;

use crate::arguments::BenchCommand;
use crate::failure::Failure;

/// Measures what `command` says.
///
/// # Errors
/// When something that is needed is missing, or a measurement fails.
pub fn bench(command: &BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Kernel(arguments) => kernel::kernel(arguments),
    }
}
