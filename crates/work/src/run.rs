//! One run of one task, from the claim to the settle.
//!
//! A run ends in one of five ways: by itself; because its owner cancelled it; because its owner may do nothing any more;
//! because the process goes, and gives it back; or because its lease is lost, and then nothing that it did here counts.
//! Whatever a task type does, a panic included, the lease is settled.

use crate::{metrics::RunEnd, pool::Inner, running::Begun, who};
use bytes::Bytes;
use forebay_domain::{
    Code, ErrorKind, Failure,
    port::{BoxFuture, Cancelled, RunTask, TaskRun},
    task::{BODY_BYTES_MAX, Ended, State, TaskError, TaskFault},
};
use forebay_runtime::Stop;
use forebay_store::queue::{Claimed, TaskError as Unsettled};
use futures_util::FutureExt;
use serde_json::value::RawValue;
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How long a task that was cancelled may take to come to its end by itself.
const CANCEL_GRACE: Duration = Duration::from_secs(5);
/// The wait before a settle that the store did not take is tried again.
const SETTLE_AGAIN: Duration = Duration::from_millis(250);

/// What is needed to run it.
pub(crate) struct Job {
    pub(crate) claimed: Claimed,
    pub(crate) task: Arc<dyn RunTask>,
    pub(crate) begun: Begun,
}

/// How a run ended, before the store has heard of it.
enum Verdict {
    Ended(Ended),
    /// The lease is somebody else's.
    Lost,
}

pub(crate) async fn run(inner: Arc<Inner>, job: Job, stop: Stop) {
    let task = &job.claimed.task;
    let task_type = task.task_type.as_str();
    let begun = inner.clock.monotonic();
    let waited = inner.clock.now().duration_since(task.run_at.max(task.created_at));
    inner
        .metrics
        .began(task_type, task.priority, Duration::try_from(waited).unwrap_or_default());
    let verdict = outcome(&inner, &job, &stop).await;
    let end = match verdict {
        Verdict::Lost => RunEnd::Lost,
        Verdict::Ended(ended) => settle(&inner, &job, ended).await,
    };
    if end == RunEnd::Lost {
        job.begun.gives_up();
    }
    let took = inner.clock.monotonic().saturating_sub(begun);
    inner.metrics.ended(task_type, end, took);
    if matches!(end, RunEnd::Completed | RunEnd::Failed | RunEnd::Cancelled) {
        // What was put off on purpose is late from its own time on.
        let since = if task.attempts > 1 {
            task.created_at
        } else {
            task.run_at.max(task.created_at)
        };
        let took = inner.clock.now().duration_since(since);
        inner
            .metrics
            .answered(task_type, Duration::try_from(took).unwrap_or_default());
    }
    debug!(task.id = %task.id, task.kind = task_type, task.attempt = task.attempts, outcome = ?end, "task ran");
    drop(job);
    // Its place is free.
    inner.look.notify_one();
}

/// Hands back what was claimed when the process was already asked to end.
pub(crate) async fn give_back(inner: Arc<Inner>, job: Job) {
    settle(&inner, &job, Ended::Unbegun).await;
}

/// Runs it until it ends, is cancelled, is given back, or is lost.
async fn outcome(inner: &Inner, job: &Job, stop: &Stop) -> Verdict {
    let held = &job.begun.held;
    tokio::select! {
        biased;
        () = held.lost.cancelled() => Verdict::Lost,
        error = held.barred.why() => Verdict::Ended(Ended::Failed { error, retryable: false }),
        ended = AssertUnwindSafe(work(inner, job)).catch_unwind() => Verdict::Ended(match ended {
            Ok(Ok(output)) => done(output),
            // Whoever was asked to stop, and did, has not failed.
            Ok(Err(_)) if held.cancel.is_cancelled() => Ended::Cancelled,
            Ok(Err(fault)) => failed(&fault),
            Err(_) => failed(&TaskFault::passing(panicked())),
        }),
        () = cancelled_long_ago(job) => Verdict::Ended(Ended::Cancelled),
        () = out_of_patience(inner, stop) => Verdict::Ended(Ended::GivenBack),
    }
}

async fn work(inner: &Inner, job: &Job) -> Result<Bytes, TaskFault> {
    let task = &job.claimed.task;
    let now = inner.clock.now();
    let principal = who::principal(&inner.keys, &task.owner, now).await?;
    let tell = inner.hub.teller(&task.id, task.attempts);
    let limit = task.timeout;
    let run = TaskRun {
        id: &task.id,
        principal: &principal,
        input: &job.claimed.input,
        attempt: task.attempts,
        attempts_max: task.attempts_max,
        priority: task.priority,
        trace: task.trace,
        deadline: now + limit,
        cancelled: &Cancel(&job.begun.held.cancel),
        tell: &tell,
    };
    match timeout(limit, job.task.run(run)).await {
        Ok(done) => done,
        Err(_) => Err(TaskFault::passing(too_late(limit))),
    }
}

fn too_late(limit: Duration) -> Failure {
    let message = format!("The task did not come to its end within {} s.", limit.as_secs());
    Failure::new(Code::TaskTimedOut, message)
        .hint("The operator can raise `tasks.types.NAME.timeout_s`; a smaller task may be quicker.")
}

async fn cancelled_long_ago(job: &Job) {
    job.begun.held.cancel.cancelled().await;
    sleep(CANCEL_GRACE).await;
}

async fn out_of_patience(inner: &Inner, stop: &Stop) {
    stop.draining().await;
    sleep(inner.patience).await;
}

/// The token of this process, as the port knows it.
struct Cancel<'a>(&'a CancellationToken);

impl Cancelled for Cancel<'_> {
    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.cancelled())
    }
}

/// What the store would not take is told before it is asked.
fn done(output: Bytes) -> Ended {
    if output.len() > BODY_BYTES_MAX {
        let message = format!("The task's output has more than {BODY_BYTES_MAX} bytes.");
        let failure = Failure::new(Code::ResultTooLarge, message).hint("Ask for less in one task.");
        return failed(&TaskFault::lasting(failure));
    }
    match serde_json::from_slice::<&RawValue>(&output) {
        Ok(_) => Ended::Done(output),
        Err(fault) => {
            let failure = Failure::new(Code::InternalError, "The task's output is no JSON.").caused_by(fault);
            failed(&TaskFault::lasting(failure))
        }
    }
}

fn failed(fault: &TaskFault) -> Ended {
    if matches!(fault.failure.kind(), ErrorKind::Bug) {
        warn!(error.code = %fault.failure.code, error = fault.failure.chain(), "a task failed");
    }
    Ended::Failed {
        error: TaskError::from(&fault.failure),
        retryable: fault.retryable,
    }
}

fn panicked() -> Failure {
    Failure::new(Code::InternalError, "The gateway failed while it worked on this task.")
        .hint("It is a fault of the gateway; its log has more.")
}

/// Tells the store, again and again while it does not answer and the lease is good.
async fn settle(inner: &Inner, job: &Job, ended: Ended) -> RunEnd {
    let (task, lost) = (&job.claimed.task, &job.begun.held.lost);
    // What it cost is written before it is over: were this process to end in between, all that was set aside for it would
    // be taken for spent.
    if !matches!(ended, Ended::Unbegun) {
        tokio::select! {
            () = inner.ledger.caught_up() => {}
            () = lost.cancelled() => {}
        }
    }
    loop {
        match inner.queue.settle(&task.id, job.claimed.fence, ended.clone()).await {
            Ok(settled) => {
                inner.faults.passed("settle");
                return end(&ended, settled.state);
            }
            Err(Unsettled::Store(error)) => inner.faults.met("settle", &error),
            Err(Unsettled::Refused(_) | Unsettled::Unknown) => return RunEnd::Lost,
        }
        tokio::select! {
            () = sleep(SETTLE_AGAIN) => {}
            () = lost.cancelled() => {
                // Whoever has it now settles it.
                inner.faults.passed("settle");
                return RunEnd::Lost;
            }
        }
    }
}

fn end(ended: &Ended, state: State) -> RunEnd {
    match state {
        State::Completed => RunEnd::Completed,
        State::Cancelled => RunEnd::Cancelled,
        State::Failed | State::Dead => RunEnd::Failed,
        State::Pending | State::Scheduled | State::Running => match ended {
            Ended::GivenBack | Ended::Unbegun => RunEnd::GivenBack,
            Ended::Done(_) | Ended::Failed { .. } | Ended::Cancelled => RunEnd::Again,
        },
    }
}
