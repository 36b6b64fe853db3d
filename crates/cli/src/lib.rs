//! The command line: a tree of commands, one file each; the one configuration; exit codes that scripts can rely on.
//!
//! Data goes to standard output and everything else to standard error. Nothing here decides anything: commands ask a
//! gateway over its API, and `serve` starts one.

mod cmd;
pub mod config;
mod connect;
mod env;
mod exit;
mod files;
mod panic;
pub mod printer;
mod report;

pub use cmd::Cli;
pub use env::Env;
pub use exit::exit_code;

use clap::Parser;
use printer::Printer;
use std::{ffi::OsString, process::ExitCode};

/// Runs one command and says how it went.
pub fn run(arguments: impl IntoIterator<Item = OsString>, env: Env) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return report::usage(&error),
    };
    panic::caught(|| {
        let mut printer = Printer::new(cli.global.output);
        match cmd::run(cli, env, &mut printer) {
            Ok(code) => code,
            Err(failure) => report::failure(&failure),
        }
    })
}
