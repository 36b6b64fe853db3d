//! The queue: what is to be done later, who does it, and what became of it.
//!
//! A submission that was answered is kept. A task is handed out for a lease at a time, and whoever has it proves with a
//! fence that it is still theirs: what somebody settles who was given up for lost changes nothing. So a task may run
//! twice, and ends once. What happens to a task is decided by [`forebay_domain::task::Record::after`]; here are the rows,
//! and who waits for whom.

mod claim;
mod error;
mod insert;
mod lanes;
mod metrics;
mod moves;
mod new;
mod read;
mod rows;
mod sweep;
mod wake;
mod writer;

pub use claim::{Claim, Claimed};
pub use error::{SubmitError, TaskError};
pub use moves::Scope;
pub use new::{NewTask, Submitted};
pub use read::{Body, Depth, TASKS_PAGE_MAX, TaskPage, TaskQuery};
pub use rows::Task;

use forebay_domain::{
    id::TaskId,
    task::{BODY_BYTES_MAX, Ended, Event, Refusal, State},
};
use forebay_runtime::Tasks;
use prometheus_client::registry::Registry;
use serde_json::value::RawValue;
use std::{sync::Arc, time::Duration};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::{
    StoreError,
    db::{Db, PATIENCE},
    row::within,
};
use metrics::Metrics;
use moves::{Step, Stepped};
use new::{Ids, NewRow, millis};
use writer::{Became, GroupWriter, Job, QUEUE_MAX, Request};

/// Changes that may wait for whoever listens; the oldest go first.
const CHANGES_MAX: usize = 4_096;

/// Cheap to clone; all clones are one queue.
#[derive(Clone)]
pub struct Queue {
    db: Db,
    ids: Arc<Ids>,
    submits: mpsc::Sender<Job>,
    moves: mpsc::Sender<Job>,
    metrics: Metrics,
    changes: broadcast::Sender<TaskChange>,
    ready: watch::Sender<u64>,
}

/// Something has happened to a task, in this process. It is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskChange {
    pub id: TaskId,
    pub state: State,
}

/// What somebody hears who says that they are still at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    pub id: TaskId,
    /// Somebody else may have it by now: the run is in vain.
    pub still_mine: bool,
    pub cancel_wanted: bool,
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Pending or scheduled where it is tried again.
    pub state: State,
    /// It was settled before, and nothing was changed.
    pub is_repeat: bool,
}

/// Starts what writes; `tasks` end it. What happens by itself is done in `sweeping`, which ends first.
pub(crate) fn start(tasks: &Tasks, sweeping: &Tasks, db: Db) -> Queue {
    let ((submits, new), (moves, old)) = (mpsc::channel(QUEUE_MAX), mpsc::channel(QUEUE_MAX));
    let queue = Queue {
        db,
        ids: Arc::default(),
        submits,
        moves,
        metrics: Metrics::new(),
        changes: broadcast::channel(CHANGES_MAX).0,
        ready: watch::channel(0).0,
    };
    let (ours, told) = watch::channel(0);
    for (name, jobs) in [("store.queue.submit", new), ("store.queue.move", old)] {
        let writer = GroupWriter {
            db: queue.db.clone(),
            jobs,
            metrics: queue.metrics.clone(),
            changes: queue.changes.clone(),
            ready: [queue.ready.clone(), ours.clone()],
        };
        tasks.spawn(name, |stop| writer.run(stop));
    }
    sweep::start(sweeping, &queue);
    wake::start(sweeping, &queue, told);
    queue
}

impl Queue {
    /// Keeps a task, and says so once it is safe.
    pub async fn submit(&self, task: NewTask) -> Result<Submitted, SubmitError> {
        let now_ms = self.db.clock().now().as_millisecond();
        let id = self.ids.next(now_ms, self.db.entropy().bytes());
        let row = NewRow::new(id, task)?;
        match ask(&self.submits, Request::Submit(Arc::new(row))).await? {
            Became::Submitted(submitted) => Ok(submitted),
            Became::Reused => Err(SubmitError::Reused),
            Became::Stepped(_) | Became::Claimed(_) => Err(odd().into()),
        }
    }

    /// Hands out what somebody could run now, the most urgent first. They have to be heard of before the lease ends.
    pub async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>, StoreError> {
        match self.moved(Request::Claim(claim)).await? {
            Became::Claimed(claimed) => Ok(claimed),
            Became::Submitted(_) | Became::Reused | Became::Stepped(_) => Err(odd()),
        }
    }

    /// Says that the runs of these tasks and fences go on, and hears which of them should not.
    pub async fn heartbeat(&self, held: &[(TaskId, i64)], lease: Duration) -> Result<Vec<Beat>, StoreError> {
        let lease_ms = millis(lease);
        let steps = held.iter().map(|(id, fence)| {
            let event = Event::Beat {
                fence: *fence,
                lease_ms,
            };
            self.step(Scope::All, id.clone(), event)
        });
        let mut beats = Vec::with_capacity(held.len());
        for ((id, _), stepped) in held.iter().zip(futures_util::future::join_all(steps).await) {
            let cancel_wanted = match stepped? {
                Stepped::Done { cancel_wanted, .. } => Some(cancel_wanted),
                Stepped::Refused(_) | Stepped::Unknown => None,
            };
            beats.push(Beat {
                id: id.clone(),
                still_mine: cancel_wanted.is_some(),
                cancel_wanted: cancel_wanted.unwrap_or(false),
            });
        }
        Ok(beats)
    }

    /// Says how a run ended. Whoever has lost the task is refused with [`Refusal::Stale`], and nothing is changed.
    pub async fn settle(&self, id: &TaskId, fence: i64, ended: Ended) -> Result<Settled, TaskError> {
        if let Ended::Done(output) = &ended {
            within("the output of a task", output.len(), BODY_BYTES_MAX)?;
            serde_json::from_slice::<&RawValue>(output)
                .map_err(|_| StoreError::corrupt("an output that is no JSON"))?;
        }
        let event = Event::Settle {
            fence,
            ended,
            jitter: self.jitter(),
        };
        match self.step(Scope::All, id.clone(), event).await? {
            Stepped::Done { state, .. } => Ok(Settled {
                state,
                is_repeat: false,
            }),
            Stepped::Refused(Refusal::Settled) => {
                let task = self
                    .get(&Scope::All, id, Body::Output)
                    .await?
                    .ok_or(TaskError::Unknown)?;
                Ok(Settled {
                    state: task.state,
                    is_repeat: true,
                })
            }
            Stepped::Refused(refusal) => Err(refusal.into()),
            Stepped::Unknown => Err(TaskError::Unknown),
        }
    }

    /// Ends what has not begun; a run hears of it with its next beat, and the task is still running then.
    pub async fn cancel(&self, scope: &Scope, id: &TaskId) -> Result<State, TaskError> {
        self.changed(scope, id, Event::Cancel).await
    }

    /// Lets what failed or died begin anew.
    pub async fn requeue(&self, scope: &Scope, id: &TaskId) -> Result<State, TaskError> {
        self.changed(scope, id, Event::Requeue).await
    }

    /// What happens to tasks here. Other processes have their own: who waits for a task looks at it now and then too.
    pub fn changes(&self) -> broadcast::Receiver<TaskChange> {
        self.changes.subscribe()
    }

    /// Changes whenever there may be something to claim that was not there before: here, or by what others on the same
    /// PostgreSQL tell. Whoever waits for it looks now and then too.
    pub fn ready(&self) -> watch::Receiver<u64> {
        self.ready.subscribe()
    }

    pub(crate) fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    async fn changed(&self, scope: &Scope, id: &TaskId, event: Event) -> Result<State, TaskError> {
        match self.step(scope.clone(), id.clone(), event).await? {
            Stepped::Done { state, .. } => Ok(state),
            Stepped::Refused(refusal) => Err(refusal.into()),
            Stepped::Unknown => Err(TaskError::Unknown),
        }
    }

    async fn step(&self, scope: Scope, id: TaskId, event: Event) -> Result<Stepped, StoreError> {
        match self.moved(Request::Step(Step { id, scope, event })).await? {
            Became::Stepped(stepped) => Ok(stepped),
            Became::Submitted(_) | Became::Reused | Became::Claimed(_) => Err(odd()),
        }
    }

    async fn moved(&self, request: Request) -> Result<Became, StoreError> {
        ask(&self.moves, request).await
    }

    fn jitter(&self) -> u64 {
        u64::from_be_bytes(self.db.entropy().bytes())
    }
}

fn odd() -> StoreError {
    StoreError::corrupt("an outcome of another request")
}

/// Hands a request to the one that writes it, and waits for so long as it is worth waiting. It may be done all the same.
async fn ask(jobs: &mpsc::Sender<Job>, request: Request) -> Result<Became, StoreError> {
    let closing = || StoreError::unavailable("it is closing");
    let asking = async {
        let (answer, became) = oneshot::channel();
        jobs.send(Job { request, answer }).await.map_err(|_| closing())?;
        became.await.unwrap_or_else(|_| Err(closing()))
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .unwrap_or_else(|_| Err(StoreError::unavailable("the queue did not answer in time")))
}
