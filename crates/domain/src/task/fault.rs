//! Why a task failed.

use crate::Failure;

/// Bounds of what is kept of an error, in bytes.
const CODE_BYTES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 4 << 10;

/// Why one run failed, and whether another might not.
#[derive(Debug)]
pub struct TaskFault {
    pub failure: Failure,
    pub retryable: bool,
}

impl TaskFault {
    /// What trying again would not mend.
    pub fn lasting(failure: Failure) -> Self {
        Self {
            failure,
            retryable: false,
        }
    }

    /// What may have passed after a while.
    pub fn passing(failure: Failure) -> Self {
        Self {
            failure,
            retryable: true,
        }
    }
}

/// Why a task failed, as it is kept and shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskError {
    /// A [`crate::Code`], as a word.
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
}

impl TaskError {
    pub fn new(code: &str, message: &str, hint: Option<&str>) -> Self {
        Self {
            code: bounded(code, CODE_BYTES_MAX),
            message: bounded(message, TEXT_BYTES_MAX),
            hint: hint.map(|hint| bounded(hint, TEXT_BYTES_MAX)),
        }
    }

    /// What is shown for a worker that was not heard of again.
    pub(super) fn lost() -> Self {
        Self::new(
            "call_lost",
            "The worker that ran it was not heard of again. It may have run to its end.",
            Some("Look whether its effect is there, and queue it again if not."),
        )
    }

    pub(super) fn given_back() -> Self {
        Self::new(
            "call_lost",
            "The worker that ran it had to end before it was done.",
            Some("Look whether its effect is there, and queue it again if not."),
        )
    }
}

impl From<&Failure> for TaskError {
    fn from(failure: &Failure) -> Self {
        Self::new(failure.code.as_str(), &failure.message, failure.hint.as_deref())
    }
}

/// The beginning of a text, without what no database takes.
fn bounded(text: &str, bytes_max: usize) -> String {
    let end = (0..=bytes_max.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn what_is_kept_of_an_error_is_bounded() {
        let failure = Failure::new(Code::UpstreamFailed, "é".repeat(5_000)).hint("a\0b");
        let error = TaskError::from(&failure);
        assert_eq!((error.code.as_str(), error.message.len()), ("upstream_failed", 4_096));
        assert_eq!(error.hint.as_deref(), Some("a\u{fffd}b"));
    }
}
