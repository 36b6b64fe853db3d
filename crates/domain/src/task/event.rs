//! What can happen to a task, and why it may not.

use super::{TaskError, WorkerId};
use bytes::Bytes;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The output, which is JSON.
    Done(Bytes),
    Failed {
        error: TaskError,
        retryable: bool,
    },
    /// It ended since somebody wanted that.
    Cancelled,
    /// Whoever ran it has to end: somebody else begins again at once, if it may be run again.
    GivenBack,
    /// It was never begun, so that this was no attempt.
    Unbegun,
}

/// What can happen to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its time has come.
    Due,
    /// It is its turn among those of its lane.
    Turn,
    Claim {
        worker: WorkerId,
        lease_ms: i64,
    },
    /// Whoever runs it is still there.
    Beat {
        fence: i64,
        lease_ms: i64,
    },
    Settle {
        fence: i64,
        ended: Ended,
        jitter: u64,
    },
    Cancel,
    /// Somebody wants what failed to be tried again.
    Requeue,
    /// Whoever submitted it has sent it again under its name.
    Repeat {
        /// At once where there is none.
        run_at_ms: Option<i64>,
    },
    /// Nobody was heard of for the whole lease.
    Lapse {
        jitter: u64,
    },
}

/// Why nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Somebody else has it by now.
    #[error("the lease on the task was lost")]
    Stale,
    /// The same run was settled before; nothing was changed.
    #[error("the run was settled before")]
    Settled,
    #[error("the task has ended")]
    Finished,
    #[error("the task has not failed")]
    Unfinished,
    #[error("it is not time for that")]
    NotYet,
}
