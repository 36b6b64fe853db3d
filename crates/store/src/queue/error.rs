//! What the queue refuses.

use forebay_domain::{Code, Failure, task::Refusal};

use crate::StoreError;

/// Why something was not queued.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubmitError {
    /// The name was used before, for something else.
    #[error("the idempotency key was used for another task before")]
    Reused,
    #[error("the task cannot be kept: {0}")]
    Invalid(&'static str),
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
