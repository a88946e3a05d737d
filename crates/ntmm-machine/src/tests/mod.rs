//! Tests of the hardware, against tables built by hand.

mod files;
mod flushing;
mod injected;
mod tables;
mod transfers;
mod translation;
mod walker;
