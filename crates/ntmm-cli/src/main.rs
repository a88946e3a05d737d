//! The `ntmm` command; see [`ntmm_cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ntmm_cli::main()
}
