//! What the manager synchronises with: atomic words, locks, and the tokens that
//! prove locks are taken in order.
//!
//! * [`atomic`]: the only door to atomic types, so that a model checker can stand
//!   in for the hardware's.
//! * [`frame`]: a page frame seen as 512 atomic words, the one way memory is touched.
//! * [`level`]: the lock levels as types and the [`level::Token`] that makes a wrong
//!   order a compile error.
//! * [`lock`]: the two spin locks everything is built from, a whole-word lock and a
//!   lock in one bit of a word.
//! * [`mod@record`]: typed fields over atomic words, declared once per record.
//!
//! Nothing here allocates, blocks on an operating system, or has a static.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::todo,
        clippy::unimplemented
    )
)]

pub mod atomic;
pub mod frame;
pub mod level;
pub mod lock;
pub mod record;
