//! The workers of one process: what they can run, what they run now, and the loops that keep them at it.

use crate::{
    Metrics, TasksConfig, Watch, beat,
    claim::{self, Sort, room},
    depth::{Depth, Elsewhere, is_worked_on},
    faults::Faults,
    hub::Hub,
    run::{self, Job},
    running::Running,
    submit::{Submitter, unknown_type},
    watch::Waiters,
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use forebay_domain::{
    Failure, Principal,
    id::TraceId,
    port::RunTask,
    task::{Needs, Offer, State, TaskId, TaskOwner, TaskType, WorkerId, context_lane},
};
use forebay_runtime::{
    Clock, Entropy, Stop, Tasks,
    looping::{Nudge, drive},
};
use forebay_store::{
    Ledger, Store, StoreError,
    keys::Keys,
    queue::{Body, Claim, Depth as Depths, NewTask, Queue, Scope, SubmitError, Submitted, Task, TaskError},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::{Notify, broadcast::error::RecvError};

/// How often what waits is counted.
const COUNT_EVERY: Duration = Duration::from_secs(15);

/// What a pool needs from its process.
pub struct PoolParts {
    pub store: Store,
    pub clock: Clock,
    pub entropy: Entropy,
    pub tasks: Tasks,
    pub config: TasksConfig,
    /// How long tasks may go on once draining has begun; then they are given back.
    pub patience: Duration,
    pub metrics: Metrics,
}

/// Cheap to clone; all clones are one pool.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) queue: Queue,
    pub(crate) ledger: Ledger,
    pub(crate) keys: Keys,
    pub(crate) clock: Clock,
    tasks: Tasks,
    pub(crate) worker: WorkerId,
    types: BTreeMap<TaskType, Arc<dyn RunTask>>,
    pub(crate) config: Arc<ArcSwap<TasksConfig>>,
    submitter: Submitter,
    pub(crate) patience: Duration,
    pub(crate) metrics: Metrics,
    pub(crate) hub: Hub,
    waiters: Waiters,
    pub(crate) running: Running,
    pub(crate) faults: Faults,
    /// What there was when it was counted last.
    depths: Arc<ArcSwap<Vec<Depths>>>,
    elsewhere: Elsewhere,
    /// There may be something to claim, or room for it.
    pub(crate) look: Notify,
    /// A beat may bring news.
    pub(crate) beat: Notify,
}

impl Pool {
    /// A pool that can run these; it runs nothing before it is started.
    pub fn new(parts: PoolParts, runs: Vec<Arc<dyn RunTask>>) -> Self {
        let types: BTreeMap<_, _> = runs.into_iter().map(|run| (name_of(run.as_ref()), run)).collect();
        let worker = format!("{:032x}", u128::from_le_bytes(parts.entropy.bytes()));
        let worker = WorkerId::try_from(worker).expect("hex digits are an identifier");
        parts.store.queue().bound(parts.config.queued_max.get());
        let config = Arc::new(ArcSwap::from_pointee(parts.config));
        let limits = types.iter().map(|(name, run)| (name.clone(), run.limits()));
        let submitter = Submitter {
            queue: parts.store.queue(),
            clock: parts.clock.clone(),
            worker: worker.clone(),
            config: config.clone(),
            limits: Arc::new(limits.collect()),
        };
        Self(Arc::new(Inner {
            submitter,
            queue: parts.store.queue(),
            ledger: parts.store.ledger(),
            keys: parts.store.keys(),
            clock: parts.clock,
            tasks: parts.tasks,
            worker,
            types,
            config,
            patience: parts.patience,
            metrics: parts.metrics,
            hub: Hub::default(),
            waiters: Waiters::default(),
            running: Running::default(),
            faults: Faults::default(),
            depths: Arc::default(),
            elsewhere: if parts.store.engine() == "sqlite" {
                Elsewhere::Nobody
            } else {
                Elsewhere::Maybe
            },
            look: Notify::new(),
            beat: Notify::new(),
        }))
    }

    /// Begins to work, and to hear what becomes of tasks.
    pub fn start(&self) {
        let tasks = &self.0.tasks;
        let inner = self.0.clone();
        tasks.spawn("tasks.news", |stop| follow(inner, stop));
        let inner = self.0.clone();
        tasks.spawn("tasks.beat", |stop| beat::keep_beating(inner, stop));
        let inner = self.0.clone();
        tasks.spawn("tasks.time", |stop| beat::keep_time(inner, stop));
        let inner = self.0.clone();
        tasks.spawn("tasks.claim", |stop| claim::keep_claiming(inner, stop));
        let (queue, clock, metrics) = (self.0.queue.clone(), self.0.clock.clone(), self.0.metrics.clone());
        let depth = Depth::new(queue, clock, metrics, self.0.depths.clone());
        drive(tasks, depth, COUNT_EVERY, Nudge::new());
    }

    /// Takes a new configuration; it counts for what begins and comes in from now on.
    pub fn reconfigure(&self, config: &TasksConfig) {
        self.0.queue.bound(config.queued_max.get());
        self.0.config.store(Arc::new(config.clone()));
        self.0.look.notify_one();
    }

    /// This process among workers: a task that wants it is claimed by it alone for a while.
    pub fn worker(&self) -> &WorkerId {
        &self.0.worker
    }

    /// Whether tasks run in this process at all.
    pub fn works(&self) -> bool {
        self.0.config.load().workers > 0
    }

    /// Whether somebody works on tasks: this process, or others as far as that shows.
    pub fn is_worked_on(&self) -> bool {
        self.works() || is_worked_on(self.0.elsewhere, &self.depths(), self.0.clock.now())
    }

    /// A key may be good no more: what runs here for its owner is looked at now, and not with the next beat.
    pub fn look_at_keys(&self) {
        self.0.beat.notify_one();
    }

    /// How many tasks there are of each sort, as it was seen a few seconds ago.
    pub fn depths(&self) -> Arc<Vec<Depths>> {
        self.0.depths.load_full()
    }

    pub fn queue(&self) -> &Queue {
        &self.0.queue
    }

    pub fn watch(&self) -> Watch {
        let inner = &self.0;
        Watch {
            queue: inner.queue.clone(),
            hub: inner.hub.clone(),
            waiters: inner.waiters.clone(),
            running: inner.running.clone(),
            stop: inner.tasks.stop().clone(),
            poll: inner.config.load().poll(),
        }
    }

    /// Refuses what may not come in from outside: a type that nobody knows, or an input that the type does not take.
    pub fn accept(&self, kind: &str, principal: &Principal, input: &[u8]) -> Result<(), Failure> {
        self.known(kind)?.1.accept(principal, input)
    }

    fn known(&self, kind: &str) -> Result<(&TaskType, &Arc<dyn RunTask>), Failure> {
        let known = TaskType::try_from(kind).ok();
        known
            .and_then(|known| self.0.types.get_key_value(&known))
            .ok_or_else(|| unknown_type(self.0.types.keys()))
    }

    /// A task of this type as it usually is: to be done at once, by whoever comes first.
    pub fn draft(&self, kind: &str, principal: &Principal, input: Bytes, trace: TraceId) -> Result<NewTask, Failure> {
        let (task_type, run) = self.known(kind)?;
        let (limits, queued) = (run.limits(), run.queued(&input));
        Ok(NewTask {
            task_type: task_type.clone(),
            owner: TaskOwner::of(principal),
            priority: queued.priority.unwrap_or_default(),
            run_at: None,
            input,
            idempotency_key: None,
            stands_for: queued.stands_for,
            lane: queued
                .context_id
                .as_deref()
                .map(|id| context_lane(&principal.tenant, id)),
            context_id: queued.context_id,
            wanted_by: None,
            retry: queued.retry,
            timeout: limits.timeout,
            result_ttl: self.0.config.load().result_ttl(),
            trace,
            needs: Needs::default(),
        })
    }

    /// Queues a task, with what the configuration says for its type.
    pub async fn submit(&self, new: NewTask) -> Result<Submitted, SubmitError> {
        self.0.submitter.submit(new).await
    }

    /// A task as it is queued, with what the configuration says for its type.
    pub fn ruled(&self, new: NewTask) -> NewTask {
        self.0.submitter.ruled(new)
    }

    /// The same for capabilities that put something off. It keeps nothing alive of what runs here.
    pub fn submitter(&self) -> Submitter {
        self.0.submitter.clone()
    }

    /// Ends a task, or asks the one that runs it to end. It is shown as it is then.
    pub async fn cancel(&self, scope: &Scope, id: &TaskId) -> Result<Task, TaskError> {
        self.0.queue.cancel(scope, id).await?;
        self.shown(scope, id).await
    }

    /// Lets a task that failed begin anew.
    pub async fn requeue(&self, scope: &Scope, id: &TaskId) -> Result<Task, TaskError> {
        self.0.queue.requeue(scope, id).await?;
        self.shown(scope, id).await
    }

    async fn shown(&self, scope: &Scope, id: &TaskId) -> Result<Task, TaskError> {
        let found = self.0.queue.get(scope, id, Body::Output).await?;
        found.ok_or(TaskError::Unknown)
    }
}

fn name_of(run: &dyn RunTask) -> TaskType {
    TaskType::try_from(run.task_type()).expect("types of tasks are named in the code, by identifiers")
}

impl Inner {
    /// Completes once draining has begun and nothing runs here any more.
    pub(crate) async fn done(&self, stop: &Stop) {
        stop.draining().await;
        self.running.idle().await;
    }

    /// Claims what there is room for, and begins it.
    pub(crate) async fn claim_once(self: &Arc<Self>, stop: &Stop) -> Result<(), StoreError> {
        let config = self.config.load_full();
        let sorts = self.types.iter().map(|(name, run)| Sort {
            task_type: name.clone(),
            concurrency: config.concurrency(name.as_str(), run.limits().concurrency, run.share()),
            share: run.share(),
        });
        let room = room(config.workers, &sorts.collect::<Vec<_>>(), &self.running.by_type());
        if room.types.is_empty() {
            return Ok(());
        }
        let until = self.clock.monotonic() + config.lease();
        let claim = Claim {
            worker: self.worker.clone(),
            offer: Offer::default(),
            room: room.types,
            at_most: room.all,
            lease: config.lease(),
        };
        let claimed = self.queue.claim(claim).await?;
        if room.is_cut && !claimed.is_empty() {
            self.look.notify_one();
        }
        for claimed in claimed {
            let task_type = &claimed.task.task_type;
            let run = self.types.get(task_type).expect("only what can be run is claimed");
            let lease = (claimed.task.id.clone(), claimed.fence);
            let key = claimed.task.owner.key.clone();
            let job = Job {
                task: run.clone(),
                begun: self.running.begin(lease, task_type.as_str(), key, until),
                claimed,
            };
            let inner = self.clone();
            if stop.is_draining() {
                self.tasks.spawn("task", |_| run::give_back(inner, job));
            } else {
                self.tasks.spawn("task", |stop| run::run(inner, job, stop));
            }
        }
        Ok(())
    }
}

/// Hands on what becomes of tasks in this process, to those who wait and to who runs them, until nobody is left of either.
async fn follow(inner: Arc<Inner>, stop: Stop) {
    let mut changes = inner.queue.changes();
    loop {
        let change = tokio::select! {
            change = changes.recv() => change,
            () = inner.done(&stop) => return,
        };
        match change {
            Ok(change) => {
                inner.waiters.wake(&change.id);
                // A run that somebody wants to end stays running; what has just been settled needs no beat.
                if change.state == State::Running && inner.running.holds(&change.id) {
                    inner.beat.notify_one();
                }
            }
            Err(RecvError::Lagged(_)) => {
                inner.waiters.wake_all();
                inner.beat.notify_one();
            }
            Err(RecvError::Closed) => return,
        }
    }
}
