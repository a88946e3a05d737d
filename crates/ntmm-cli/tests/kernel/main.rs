//! The kernel on an emulated PC, as users of `ntmm boot` and of the library meet it.
//!
//! These tests need QEMU. Without it they say that they are skipped, unless NTMM_REQUIRE_QEMU is
//! set: then they fail.

mod agreement;
mod balloon;
mod calls;
mod command;
mod common;
mod counts;
mod emulator;
mod failures;
mod guest;
mod matrix;
mod stops;
mod stub;
