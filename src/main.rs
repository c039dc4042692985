//! The command-line tool: parse, run, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    stanch::cli::main()
}
