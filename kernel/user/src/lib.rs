//! What a program of ring 3 needs on the ntmm kernel: the system services in their NT shape,
//! a small safe layer over them, console output, arguments, exceptions and threads.
//!
//! A program is a binary without standard library:
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//!
//! ntmm_user::entry!(main);
//!
//! fn main(arguments: Arguments<'_>) -> NtStatus {
//!     println!("hello");
//!     NtStatus::SUCCESS
//! }
//! ```
//!
//! | Module | Holds |
//! |---|---|
//! | [`gate`] | the two ways into the kernel, `syscall` and `int 0x2e` |
//! | [`services`] | one unsafe function per service, as NT declares it |
//! | [`structures`] | what the services read and write |
//! | [`flags`] | their flag words; statuses are the manager's [`NtStatus`] |
//! | [`memory`] | blocks of virtual memory, allocated and used safely |
//! | [`exceptions`] | handling what the processor or the manager raises |
//! | [`mod@attempt`] | accesses and instructions that may fault, with the exception as a value |
//! | [`threads`], [`system`] | threads; system-wide figures and commands |
//! | [`console`], [`arguments`], [`findings`], [`random`] | what programs share |
//! | [`start`] | the way in, the way out, panics |
//! | `intrinsics` | what compiled code takes for granted |
#![no_std]

pub mod arguments;
pub mod attempt;
pub mod console;
pub mod exceptions;
pub mod findings;
pub mod flags;
pub mod gate;
mod intrinsics;
pub mod memory;
pub mod random;
pub mod services;
pub mod start;
pub mod structures;
pub mod system;
pub mod threads;

pub use arguments::Arguments;
pub use ntmm::NtStatus;

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;
