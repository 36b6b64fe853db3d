//! Asking before a file is changed.
//!
//! Only a terminal is asked: whoever runs this from a script has said what is wanted.

use crate::report;
use forebay_domain::{Code, Failure};
use std::{
    io::{self, BufRead, IsTerminal, Read, Write},
    path::Path,
};

/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 1024;

/// How much may be done without asking.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Approval {
    /// Show what would change, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask; without a terminal nobody is asked anyway
    #[arg(short, long)]
    yes: bool,
}

impl Approval {
    /// Fails where the answer is no.
    pub(super) fn ask(self, file: &Path) -> Result<(), Failure> {
        if self.yes || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Ok(());
        }
        // Where the question cannot be shown it cannot be answered either.
        let _unheard = write!(io::stderr(), "Write this to {}? [y/N] ", file.display());
        let mut answer = String::new();
        let read = io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut answer);
        if read.is_ok() && is_yes(&answer) {
            return Ok(());
        }
        report::say("");
        Err(Failure::new(Code::Cancelled, "Nothing was written.").hint("Answer `y`, or run it with --yes."))
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_one() {
        for (answer, expected) in [
            ("y\n", true),
            ("Yes\n", true),
            ("\n", false),
            ("", false),
            ("n\n", false),
            ("yikes\n", false),
        ] {
            assert_eq!(is_yes(answer), expected, "{answer:?}");
        }
    }
}
