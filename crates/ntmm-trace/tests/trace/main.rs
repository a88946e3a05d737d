//! What the crate promises, tested from outside.

mod bundled;
mod common;
mod damage;
mod files;
mod merging;
mod relocation;
mod text;
