//! `forebay child-guard`: what the gateway starts its children under. Nobody runs it by hand.
//!
//! It reads neither configuration nor environment, and makes no connection: it is there within milliseconds.

use forebay_domain::Failure;
use forebay_runtime::child::run_guard;
use std::{ffi::OsString, process::ExitCode};

/// Run a program, and end it with all that it started when the gateway goes (started by the gateway itself)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    words: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (program, args) = args.words.split_first().expect("clap requires a program");
    Ok(run_guard(program, args)?)
}
