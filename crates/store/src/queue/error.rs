//! What the queue refuses.

use forebay_domain::{Code, Failure, task::Refusal};
use serde_json::json;
use std::time::Duration;

use super::new::TIME_MAX;
use crate::StoreError;

/// How long a caller should wait before it asks again whether others have ended.
const ROOM_AFTER: Duration = Duration::from_secs(10);

/// Why something was not queued.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubmitError {
    /// The name was used before, for something else.
    #[error("the idempotency key was used for another task before")]
    Reused,
    #[error("the task cannot be kept: {0}")]
    Invalid(&'static str),
    #[error("the task is to run more than a year from now")]
    TooFarAhead,
    /// Its tenant has as many as it may have that have not ended.
    #[error("the tenant has {queued_max} tasks that have not ended")]
    Full { queued_max: u32 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why nothing became of what was asked of a task.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TaskError {
    /// There is none of that id, or none of theirs.
    #[error("no such task")]
    Unknown,
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Reused => Failure::new(
                Code::IdempotencyKeyReused,
                "The idempotency key was used for another task before.",
            )
            .hint("Use a new key for another task, or send the same task again."),
            SubmitError::Invalid(what) => {
                Failure::new(Code::InvalidRequest, format!("The task cannot be kept: {what}."))
                    .hint("Correct it, and submit it again.")
            }
            SubmitError::TooFarAhead => {
                let days = TIME_MAX.as_secs() / (24 * 3_600);
                Failure::new(Code::InvalidRequest, "`run_at` is too far ahead.")
                    .hint(format!("Name a time within {days} days."))
                    .details(json!({"field": "run_at", "days_max": days}))
            }
            SubmitError::Full { queued_max } => {
                let message = format!("There are {queued_max} tasks of this tenant already that have not ended.");
                Failure::new(Code::QueueFull, message)
                    .hint("Wait until some have, or cancel those that nobody needs; an operator may raise `tasks.queued_max`.")
                    .details(json!({"limit": queued_max}))
                    .retry_after(ROOM_AFTER)
            }
            SubmitError::Store(error) => error.into(),
        }
    }
}

impl From<TaskError> for Failure {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Unknown => {
                Failure::new(Code::UnknownTask, "There is no such task.").hint("List the tasks to see which there are.")
            }
            TaskError::Refused(refusal) => {
                let (message, hint) = match refusal {
                    Refusal::Finished => ("The task has ended.", "Look at what became of it."),
                    Refusal::Unfinished => (
                        "Only a task that failed can be queued again.",
                        "Wait until it ends, or submit a new one.",
                    ),
                    Refusal::Stale | Refusal::Settled => (
                        "Somebody else has the task by now.",
                        "Leave it to them: what this run came to does not count.",
                    ),
                    Refusal::NotYet => ("It is not time for that.", "Look at the task, and try again."),
                };
                Failure::new(Code::Conflict, message).hint(hint)
            }
            TaskError::Store(error) => error.into(),
        }
    }
}
