//! Tells people, on standard error, what went wrong: what, why, and what to do.

use crate::exit::exit_code;
use clap::error::ErrorKind as ClapKind;
use forebay_domain::{Code, ErrorKind, Failure};
use std::{io::Write, process::ExitCode};

/// Tells a failure and gives its exit code.
pub(crate) fn failure(failure: &Failure) -> ExitCode {
    say(&words(failure));
    exit_code(failure.kind())
}

/// A line for people. Where standard error is closed there is nobody to tell.
pub(crate) fn say(text: &str) {
    let _unheard = writeln!(std::io::stderr(), "{text}");
}

fn words(failure: &Failure) -> String {
    let mut words = format!("error: {}", failure.message);
    // The gateway's own log has its causes; those of a failure on this side would be lost.
    let chain = failure.chain();
    if let Some(causes) = chain.strip_prefix(&format!("{}: ", failure.message)) {
        words.push_str("\n  because: ");
        words.push_str(causes);
    }
    if let Some(hint) = &failure.hint {
        words.push_str("\n  help: ");
        words.push_str(hint);
    }
    if let Some(wait) = failure.retry_after {
        words.extend(["\n  wait: ", &wait.as_secs().max(1).to_string(), " s"]);
    }
    if failure.code != Code::InternalError {
        words.push_str("\n  more: forebay explain ");
        words.push_str(failure.code.as_str());
    }
    words
}

/// Tells what is wrong with a command line, or gives the help that was asked for.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // Where nobody reads it there is nobody to tell.
    let _unheard = error.print();
    match error.kind() {
        ClapKind::DisplayHelp | ClapKind::DisplayVersion => ExitCode::SUCCESS,
        _ => exit_code(ErrorKind::Invalid),
    }
}
