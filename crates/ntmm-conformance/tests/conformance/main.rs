//! The harness itself: reading cases, evaluating expressions, running cases on a toy.

mod expressions;
mod reading;
mod running;
mod stacks;
mod toy;
mod versions;
