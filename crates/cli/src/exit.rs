//! Exit codes: the command line's column of the one table of errors.

use forebay_domain::ErrorKind;
use std::process::ExitCode;

/// What a script sees of a failure.
pub fn exit_code(kind: ErrorKind) -> ExitCode {
    ExitCode::from(number(kind))
}

/// What a script sees of several: the largest of their codes, and 0 where none failed.
pub(crate) fn worst(kinds: impl IntoIterator<Item = ErrorKind>) -> ExitCode {
    kinds
        .into_iter()
        .map(number)
        .max()
        .map_or(ExitCode::SUCCESS, ExitCode::from)
}

fn number(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Invalid => 1,
        ErrorKind::Unauthenticated | ErrorKind::Forbidden => 3,
        ErrorKind::Unavailable => 4,
        ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::RateLimited
        | ErrorKind::UpstreamFailed
        | ErrorKind::UpstreamTimedOut => 5,
        ErrorKind::OverBudget => 6,
        ErrorKind::Bug => 70,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_code_of_the_design() {
        let codes: Vec<u8> = ErrorKind::ALL.into_iter().map(number).collect();
        assert_eq!(codes, [1, 3, 3, 5, 5, 6, 5, 5, 5, 4, 70]);
    }
}
