//! The `ntmm` program as its users meet it: run with arguments, judged by its output, its files
//! and its exit status.

mod bad_input;
mod commands;
mod common;
mod outputs;
mod run;
mod traces;
