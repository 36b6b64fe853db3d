//! The queue: what is to be done later, who does it, and what became of it.
//!
//! A submission that was answered is kept. A task is handed out for a lease at a time, and whoever has it proves with a
//! fence that it is still theirs: what somebody settles who was given up for lost changes nothing. So a task may run
//! twice, and ends once. What happens to a task is decided by [`forebay_domain::task::Record::after`]; here are the rows,
//! and who waits for whom.

mod again;
mod claim;
mod error;
mod forget;
mod insert;
mod lanes;
mod leases;
mod metrics;
mod moves;
mod new;
#[cfg(test)]
mod plans;
mod read;
mod rows;
mod runs;
mod sweep;
mod unfinished;
mod wake;
mod writer;

pub use claim::{Claim, Claimed};
pub use error::{SubmitError, TaskError};
pub use moves::Scope;
pub use new::{NewTask, Submitted};
pub use read::{Body, Depth, TASKS_PAGE_MAX, TaskPage, TaskQuery};
pub use rows::Task;
pub use runs::{Beat, Settled};

use forebay_domain::{
    id::TaskId,
    task::{Event, State},
};
use forebay_runtime::Tasks;
use prometheus_client::registry::Registry;
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::{
    StoreError,
    db::{Db, PATIENCE},
    groups::{Companions, Groups},
    sql::Both,
};
use leases::Leases;
use metrics::Metrics;
use moves::{Step, Stepped};
use new::{Ids, NewRow};
use writer::{Became, GroupWriter, Job, QUEUE_MAX, Request};

/// Changes that may wait for whoever listens; the oldest go first.
const CHANGES_MAX: usize = 4_096;
/// Tasks of one tenant that may be unfinished, where nobody says otherwise.
const UNFINISHED_MAX: u32 = 100_000;

/// Cheap to clone; all clones are one queue.
#[derive(Clone)]
pub struct Queue {
    db: Db,
    ids: Arc<Ids>,
    submits: mpsc::Sender<Job>,
    moves: mpsc::Sender<Job>,
    metrics: Metrics,
    leases: Leases,
    queued_max: Arc<AtomicU32>,
    changes: broadcast::Sender<TaskChange>,
    ready: watch::Sender<u64>,
}

/// Something has happened to a task, in this process. It is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskChange {
    pub id: TaskId,
    pub state: State,
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
        leases: Leases::default(),
        queued_max: Arc::new(AtomicU32::new(UNFINISHED_MAX)),
        changes: broadcast::channel(CHANGES_MAX).0,
        ready: watch::channel(0).0,
    };
    let (ours, told) = watch::channel(0);
    let slots = slots(&queue.db);
    for (name, jobs, slot) in [
        ("store.queue.submit", new, slots[0]),
        ("store.queue.move", old, slots[1]),
    ] {
        let writer = GroupWriter {
            db: queue.db.clone(),
            jobs: Groups::new(jobs, writer::GROUP_MAX, Companions::Half),
            metrics: queue.metrics.clone(),
            slot,
            changes: queue.changes.clone(),
            ready: [queue.ready.clone(), ours.clone()],
        };
        tasks.spawn(name, |stop| writer.run(stop));
    }
    sweep::start(sweeping, &queue);
    wake::start(sweeping, &queue, told);
    queue
}

/// Where each of the writers counts; those of other processes most likely elsewhere.
fn slots(db: &Db) -> [i64; 2] {
    let pair = match db.pools() {
        Both::Sqlite(_) => 0,
        Both::Postgres(_) => db.entropy().below(unfinished::SLOTS),
    };
    let first = i64::try_from(2 * pair).unwrap_or_default();
    [first, first + 1]
}

impl Queue {
    /// How many tasks of one tenant may be unfinished from now on.
    pub fn bound(&self, queued_max: u32) {
        self.queued_max.store(queued_max, Ordering::Relaxed);
    }

    /// Keeps a task, and says so once it is safe.
    pub async fn submit(&self, task: NewTask) -> Result<Submitted, SubmitError> {
        let now_ms = self.db.clock().now().as_millisecond();
        let id = self.ids.next(now_ms, self.db.entropy().bytes());
        let row = NewRow::new(id, task, self.queued_max.load(Ordering::Relaxed), now_ms)?;
        match ask(&self.submits, Request::Submit(Arc::new(row))).await? {
            Became::Submitted(submitted) => submitted,
            Became::Stepped(_) | Became::Claimed(_) => Err(odd().into()),
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
        self.stepped(Step {
            id,
            scope,
            event,
            is_error: false,
        })
        .await
    }

    async fn stepped(&self, step: Step) -> Result<Stepped, StoreError> {
        match self.moved(Request::Step(step)).await? {
            Became::Stepped(stepped) => Ok(stepped),
            Became::Submitted(_) | Became::Claimed(_) => Err(odd()),
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
