//! The binary: reads the command line and the environment, and runs one command.

use forebay_cli::{Env, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    run(std::env::args_os(), Env::system())
}
