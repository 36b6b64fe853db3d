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
    if let Some(wait) = failure.wait_seconds() {
        words.extend(["\n  wait: ", &wait.to_string(), " s"]);
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

#[cfg(test)]
mod tests {
    use super::words;
    use forebay_domain::{Code, Failure};
    use std::time::Duration;

    #[test]
    fn how_long_to_wait_is_told_in_whole_seconds_and_never_as_none() {
        let failure = || Failure::new(Code::RateLimited, "Too many requests.").hint("Ask less often.");
        assert!(!words(&failure()).contains("wait:"));
        for (after, told) in [(2_100, "3 s"), (12_000, "12 s"), (300, "1 s")] {
            let failure = failure().retry_after(Duration::from_millis(after));
            let expected = format!(
                "error: Too many requests.\n  help: Ask less often.\n  wait: {told}\n  more: forebay explain rate_limited"
            );
            assert_eq!(words(&failure), expected);
        }
    }
}
