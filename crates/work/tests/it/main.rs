//! Workers, through their public face and on both databases.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test needs and does not get fails it"
)]

mod away;
mod ends;
mod leaving;
mod places;
mod runs;
mod waits;

use bytes::Bytes;
use forebay_domain::{
    Code, Failure, Principal, Role,
    id::TraceId,
    key::KeyHash,
    ledger::{Payer, Posting, Purpose, PurposeKind},
    money::Usd,
    port::{BoxFuture, RunTask, TaskRun},
    task::{Retry, Share, TaskFault, TaskId, TypeLimits},
};
use forebay_runtime::{Clock, Entropy, Tasks};
use forebay_store::{
    Ledger, Store, StoreParts,
    keys::NewKey,
    queue::{NewTask, Scope, Task},
};
use forebay_testkit::db::TestDb;
use forebay_work::{Metrics, Pool, PoolParts, TasksConfig};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};
use tokio::sync::{Notify, Semaphore};

const PATIENCE: Duration = Duration::from_secs(30);

/// One store, and the pools of what would be processes beside it.
pub(crate) struct Rig {
    pub(crate) store: Store,
    store_tasks: Tasks,
    pub(crate) clock: Clock,
}

/// The workers of one process.
pub(crate) struct Process {
    pub(crate) pool: Pool,
    pub(crate) tasks: Tasks,
    metrics: Registry,
}

impl Rig {
    pub(crate) async fn open(db: &TestDb) -> Self {
        Self::open_with(db, Clock::system()).await
    }

    pub(crate) async fn open_with(db: &TestDb, clock: Clock) -> Self {
        let store_tasks = Tasks::new();
        let parts = StoreParts {
            clock: clock.clone(),
            entropy: Entropy::system(),
            tasks: store_tasks.clone(),
        };
        let store = Store::open(db.url(), parts).await.unwrap();
        Self {
            store,
            store_tasks,
            clock,
        }
    }

    /// A process that can run what the stage has.
    pub(crate) fn process(&self, stage: &Stage, config: TasksConfig) -> Process {
        self.process_of([stage.clone()], config)
    }

    /// The same of several stages.
    pub(crate) fn process_of(&self, stages: impl IntoIterator<Item = Stage>, config: TasksConfig) -> Process {
        let (tasks, mut metrics) = (Tasks::new(), Registry::default());
        let parts = PoolParts {
            store: self.store.clone(),
            clock: self.clock.clone(),
            entropy: Entropy::system(),
            tasks: tasks.clone(),
            config,
            patience: Duration::ZERO,
            metrics: Metrics::register(&mut metrics),
        };
        let runs = stages.into_iter().map(|stage| Arc::new(stage) as Arc<dyn RunTask>);
        let pool = Pool::new(parts, runs.collect());
        pool.start();
        Process { pool, tasks, metrics }
    }

    pub(crate) async fn close(self, processes: impl IntoIterator<Item = Process>) {
        for process in processes {
            process.tasks.shut_down(PATIENCE).await;
        }
        assert!(self.store_tasks.shut_down(PATIENCE).await, "the store drains in time");
    }

    pub(crate) async fn key(&self, name: &str, grants: &[&str]) -> Principal {
        let new = NewKey {
            id: name.parse().unwrap(),
            hash: KeyHash([7; 32]),
            tenant: "acme".parse().unwrap(),
            project: None,
            subject: name.parse().unwrap(),
            role: Role::User,
            grants: grants.iter().map(|grant| grant.parse().unwrap()).collect(),
            shown: Vec::new(),
            created_at: self.clock.now(),
            created_by: None,
            expires_at: None,
        };
        self.store.keys().create(&new).await.unwrap();
        self.store.keys().find(&new.id).await.unwrap().unwrap().principal()
    }
}

impl Process {
    pub(crate) fn draft(&self, principal: &Principal, input: &Value) -> NewTask {
        self.draft_of("stage", principal, input)
    }

    pub(crate) fn draft_of(&self, kind: &str, principal: &Principal, input: &Value) -> NewTask {
        let trace = TraceId::new(Clock::system().now(), Entropy::system().bytes());
        let input = Bytes::from(serde_json::to_vec(input).unwrap());
        self.pool.draft(kind, principal, input, trace).unwrap()
    }

    pub(crate) async fn submit(&self, new: NewTask) -> TaskId {
        self.pool.submit(new).await.unwrap().id
    }

    pub(crate) async fn done(&self, id: &TaskId) -> Task {
        let task = self
            .pool
            .watch()
            .wait(&Scope::All, id, PATIENCE)
            .await
            .unwrap()
            .unwrap();
        assert!(task.state.is_final(), "waited in vain: {task:?}");
        task
    }

    /// Runs of the stage's type that ended so.
    pub(crate) fn runs(&self, outcome: &str) -> String {
        self.metric(&format!(
            r#"forebay_task_runs_total{{type="stage",outcome="{outcome}"}}"#
        ))
    }

    /// The value of one sample.
    pub(crate) fn metric(&self, sample: &str) -> String {
        let text = forebay_runtime::metrics::encode(&self.metrics);
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no {sample} in:\n{text}")).to_owned()
    }
}

/// A type of task whose inputs say what it does. It notes what it did, which a real one would do outside.
#[derive(Clone)]
pub(crate) struct Stage(Arc<Inner>);

struct Inner {
    name: &'static str,
    share: Share,
    limits: TypeLimits,
    notes: Mutex<Notes>,
    /// Where a task leaves what it spends.
    purse: OnceLock<Ledger>,
    changed: Notify,
    /// What lets those go on that wait for it.
    gate: Semaphore,
}

#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) runs: HashMap<String, u32>,
    pub(crate) at_once: u32,
    pub(crate) most_at_once: u32,
    pub(crate) grants: Vec<String>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(2)
    }

    pub(crate) fn with(attempts_max: u32) -> Self {
        Self::named("stage", Share::Whole, attempts_max)
    }

    pub(crate) fn named(name: &'static str, share: Share, attempts_max: u32) -> Self {
        Self(Arc::new(Inner {
            name,
            share,
            limits: TypeLimits {
                concurrency: 100,
                timeout: PATIENCE,
                retry: Retry {
                    attempts_max,
                    first: Duration::from_millis(20),
                    max: Duration::from_millis(50),
                },
            },
            notes: Mutex::default(),
            purse: OnceLock::new(),
            changed: Notify::new(),
            gate: Semaphore::new(0),
        }))
    }

    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.notes.lock().unwrap()
    }

    pub(crate) fn spends_from(&self, ledger: Ledger) {
        assert!(self.0.purse.set(ledger).is_ok(), "said once");
    }

    pub(crate) fn open_gate(&self) {
        self.0.gate.add_permits(1_000);
    }

    /// Waits for something to be noted.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Notes) -> bool) {
        let waiting = async {
            loop {
                let mut changed = std::pin::pin!(self.0.changed.notified());
                changed.as_mut().enable();
                if holds(&self.notes()) {
                    return;
                }
                changed.await;
            }
        };
        let heard = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(heard.is_ok(), "never: {what}");
    }

    fn note(&self, change: impl FnOnce(&mut Notes)) {
        change(&mut self.notes());
        self.0.changed.notify_waiters();
    }

    async fn act(&self, run: TaskRun<'_>) -> Result<Bytes, TaskFault> {
        let input: Value = serde_json::from_slice(run.input).unwrap();
        self.note(|notes| {
            *notes.runs.entry(run.id.to_string()).or_default() += 1;
            notes.grants = run.principal.grants.iter().map(ToString::to_string).collect();
            notes.at_once += 1;
            notes.most_at_once = notes.most_at_once.max(notes.at_once);
        });
        let _left = Left(self);
        let failed = || Failure::new(Code::UpstreamFailed, "it failed on purpose");
        match input["do"].as_str().unwrap() {
            "fail once" if run.attempt == 1 => return Err(TaskFault::passing(failed())),
            "fail" => return Err(TaskFault::lasting(failed())),
            "panic" => panic!("on purpose"),
            "wait" => self.0.gate.acquire().await.unwrap().forget(),
            "hang" => std::future::pending().await,
            "heed" => {
                run.cancelled.cancelled().await;
                return Err(TaskFault::passing(Failure::new(Code::Cancelled, "it was asked to end")));
            }
            "spend" => self.0.purse.get().unwrap().post_soon(Posting {
                payer: Payer::from(run.principal),
                purpose: Purpose {
                    kind: PurposeKind::Tool,
                    name: "stage".to_owned(),
                },
                amount: Usd::from_micros(1),
                trace: run.trace,
                estimated: false,
            }),
            "mumble" => return Ok(Bytes::from_static(b"no json")),
            "tell" => {
                for piece in ["one", "two"] {
                    run.tell.tell(Bytes::from_static(piece.as_bytes()));
                }
                self.0.gate.acquire().await.unwrap().forget();
            }
            _ => {}
        }
        Ok(Bytes::from(json!({"did": input["do"]}).to_string()))
    }
}

/// However a run ends, it is not there any more.
struct Left<'a>(&'a Stage);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.note(|notes| notes.at_once -= 1);
    }
}

impl RunTask for Stage {
    fn task_type(&self) -> &'static str {
        self.0.name
    }

    fn share(&self) -> Share {
        self.0.share
    }

    fn limits(&self) -> TypeLimits {
        self.0.limits
    }

    fn accept(&self, _principal: &Principal, input: &[u8]) -> Result<(), Failure> {
        let input: Value = serde_json::from_slice(input).unwrap();
        match input["do"].as_str() {
            Some(_) => Ok(()),
            None => Err(Failure::new(Code::InvalidRequest, "`do` is missing.")),
        }
    }

    fn run<'a>(&'a self, run: TaskRun<'a>) -> BoxFuture<'a, Result<Bytes, TaskFault>> {
        Box::pin(self.act(run))
    }
}

pub(crate) fn config() -> TasksConfig {
    TasksConfig {
        poll_ms: 50,
        ..TasksConfig::default()
    }
}
