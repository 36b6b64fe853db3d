//! Why a task failed.

use crate::{Code, ErrorKind, Failure};

/// Bounds of what is kept of an error, in bytes.
const CODE_BYTES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 4 << 10;
/// In the details of a failure: which tools had run before.
const RAN: &str = "ran";

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
    /// Particulars, as JSON; nothing where they are larger than what is kept.
    pub details: Option<String>,
    /// What stood in the way may be gone when the task is sent again, and nothing had been done.
    pub is_passing: bool,
}

impl TaskError {
    pub fn new(code: &str, message: &str, hint: Option<&str>) -> Self {
        let known = Code::ALL.iter().copied().find(|known| known.as_str() == code);
        Self {
            code: bounded(code, CODE_BYTES_MAX),
            message: bounded(message, TEXT_BYTES_MAX),
            hint: hint.map(|hint| bounded(hint, TEXT_BYTES_MAX)),
            details: None,
            is_passing: known.is_some_and(is_passing),
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
        let bare = Self::new(failure.code.as_str(), &failure.message, failure.hint.as_deref());
        let details = failure.details.as_ref();
        let has_run = details.is_some_and(|details| details.get(RAN).is_some());
        Self {
            details: details
                .map(ToString::to_string)
                .filter(|text| text.len() <= TEXT_BYTES_MAX),
            is_passing: bare.is_passing && !has_run,
            ..bare
        }
    }
}

/// Room is made, a budget is raised, a crowd goes home. A call that was lost may have been made.
fn is_passing(code: Code) -> bool {
    match code {
        Code::ContextLimit => true,
        Code::CallLost => false,
        other => matches!(
            other.kind(),
            ErrorKind::OverBudget | ErrorKind::RateLimited | ErrorKind::Unavailable
        ),
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
    use serde_json::json;

    #[test]
    fn what_is_kept_of_an_error_is_bounded() {
        let failure = Failure::new(Code::UpstreamFailed, "é".repeat(5_000)).hint("a\0b");
        let error = TaskError::from(&failure);
        assert_eq!((error.code.as_str(), error.message.len()), ("upstream_failed", 4_096));
        assert_eq!(error.hint.as_deref(), Some("a\u{fffd}b"));
    }
    #[test]
    fn what_had_run_before_it_failed_is_not_over_like_nothing() {
        let failure = |details| Failure::new(Code::RateLimited, "…").details(details);
        let refused = TaskError::from(&failure(json!({"limit": 3})));
        assert_eq!(
            (refused.details.as_deref(), refused.is_passing),
            (Some(r#"{"limit":3}"#), true)
        );
        assert!(!TaskError::from(&failure(json!({"ran": ["web_post"]}))).is_passing);
        let large = TaskError::from(&failure(json!({"text": "x".repeat(TEXT_BYTES_MAX)})));
        assert_eq!((large.details, large.is_passing), (None, true));
    }
}
