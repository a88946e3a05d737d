//! The `ntmm` command.
fn main() {}
