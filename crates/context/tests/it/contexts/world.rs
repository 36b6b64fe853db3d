//! Contexts over a store, a real router and an engine of the test's own; tasks are run as a worker runs them.

use crate::world::{Tools, World as ProvidersWorld};
use bytes::Bytes;
use forebay_api::{ContextCreate, ContextInfo, ContextPrompt};
use forebay_context::contexts::{Asked, Contexts, ContextsConfig, ContextsMetrics, ContextsParts, ContextsSettings};
use forebay_domain::{
    Code, Failure, Grant, Principal, Role,
    id::{SubjectId, TaskId, TenantId, TraceId},
    port::{BoxFuture, Cancelled, RunTask, TaskRun, Tell},
    task::TaskFault,
};
use forebay_llm::{Config as Models, Metrics, Router, RouterParts, Settings, TurnsConfig};
use forebay_runtime::{Clock, Entropy, Tasks, secret::SecretReader};
use forebay_store::{Store, StoreParts, queue::NewTask};
use forebay_testkit::{db::TestDb, openai::Engine};
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};
use tokio_util::sync::CancellationToken;

pub(crate) struct World {
    pub(crate) contexts: Contexts,
    pub(crate) router: Arc<Router>,
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    registry: Registry,
    drawn: AtomicU32,
    pub(crate) tasks: Tasks,
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.stop().end();
    }
}

/// What a run is told to stop by, and what it tells.
#[derive(Default)]
pub(crate) struct Ears {
    pub(crate) stop: CancellationToken,
    pub(crate) heard: Mutex<Vec<String>>,
}

impl Cancelled for Ears {
    fn is_cancelled(&self) -> bool {
        self.stop.is_cancelled()
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.stop.cancelled())
    }
}

impl Tell for Ears {
    fn tell(&self, piece: Bytes) {
        let piece: Value = serde_json::from_slice(&piece).unwrap();
        self.heard
            .lock()
            .unwrap()
            .push(piece["content"].as_str().unwrap().to_owned());
    }
}

impl World {
    /// One model, `qwen`, which reads and says 4,096 tokens.
    pub(crate) async fn new(db: &TestDb) -> Self {
        Self::with(db, json!({})).await
    }

    /// With more said of the model.
    pub(crate) async fn with(db: &TestDb, more: Value) -> Self {
        Self::of(db, more, json!({})).await
    }

    /// With an engine that answers one request at a time.
    pub(crate) async fn narrow(db: &TestDb) -> Self {
        Self::of(db, json!({}), json!({ "max_concurrency": 1 })).await
    }

    async fn of(db: &TestDb, more: Value, of_backend: Value) -> Self {
        let (tasks, clock) = (Tasks::new(), Clock::manual("2026-11-21T12:00:00Z".parse().unwrap()));
        let parts = StoreParts {
            clock: clock.clone(),
            entropy: Entropy::system(),
            tasks: tasks.clone(),
        };
        let store = Store::open(db.url(), parts).await.unwrap();
        let engine = Engine::start().await;
        let mut backend = json!({ "url": engine.url(), "probe": { "interval_s": 0 } });
        backend
            .as_object_mut()
            .unwrap()
            .extend(of_backend.as_object().unwrap().clone());
        let mut model = json!({ "backends": [backend], "context_tokens": 4_096 });
        model.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let models: Models = serde_json::from_value(json!({ "qwen": model })).unwrap();
        let secrets = SecretReader::new(|_| None);
        let mut registry = Registry::default();
        let router = Arc::new(Router::new(RouterParts {
            settings: Settings::parse(&models, &TurnsConfig::default(), &secrets).unwrap(),
            events: store.events().clone(),
            responses: store.responses(),
            ledger: store.ledger(),
            clock: clock.clone(),
            entropy: Entropy::seeded(7),
            metrics: Metrics::register(&mut registry),
        }));
        let parts = ContextsParts {
            conversations: store.conversations(),
            queue: store.queue(),
            models: router.clone(),
            clock: clock.clone(),
            metrics: ContextsMetrics::register(&mut registry),
        };
        Self {
            contexts: Contexts::new(ContextsSettings::default(), parts),
            router,
            engine,
            store,
            clock,
            registry,
            drawn: AtomicU32::new(0),
            tasks,
        }
    }

    /// Lets the router find context in what a provider world has.
    pub(crate) fn introduce(&self, providers: &ProvidersWorld) {
        let tools: Arc<Tools> = providers.tools.clone();
        self.router.introduce(tools, Arc::new(providers.providers.clone()));
    }

    pub(crate) fn set(&self, config: Value, contexts_max: Option<u32>) {
        let config: ContextsConfig = serde_json::from_value(config).unwrap();
        let contexts_max = contexts_max.and_then(NonZeroU32::new);
        self.contexts
            .reconfigure(ContextsSettings::new(config, contexts_max, None));
    }

    pub(crate) fn task_id(&self) -> TaskId {
        let number = self.drawn.fetch_add(1, Ordering::SeqCst);
        TaskId::try_from(format!("{number:032x}")).unwrap()
    }

    /// Runs a task as a worker would: its output.
    pub(crate) async fn run(&self, who: &Principal, task: &NewTask) -> Result<Value, TaskFault> {
        self.run_as(who, task, &self.task_id(), 1, &Ears::default()).await
    }

    pub(crate) async fn run_as(
        &self,
        who: &Principal,
        task: &NewTask,
        id: &TaskId,
        attempt: u32,
        ears: &Ears,
    ) -> Result<Value, TaskFault> {
        let runs = self.contexts.runs();
        let run = runs.iter().find(|run| run.task_type() == task.task_type.as_str());
        let run: &Arc<dyn RunTask> = run.unwrap();
        run.accept(who, &task.input).map_err(TaskFault::lasting)?;
        let output = run
            .run(TaskRun {
                id,
                principal: who,
                input: &task.input,
                attempt,
                attempts_max: task.retry.attempts_max,
                priority: task.priority,
                trace: trace(),
                deadline: Timestamp::MAX,
                cancelled: ears,
                tell: ears,
            })
            .await?;
        Ok(serde_json::from_slice(&output).unwrap())
    }

    /// A context with these nodes, as `role: content`.
    pub(crate) async fn make(&self, who: &Principal, nodes: &[(&str, &str)]) -> String {
        let nodes: Vec<Value> = nodes
            .iter()
            .map(|(role, content)| json!({ "content": content, "role": role }))
            .collect();
        let made = self
            .create(who, json!({ "model_id": "qwen", "nodes": nodes }))
            .await
            .unwrap();
        made["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn create(&self, who: &Principal, body: Value) -> Result<Value, TaskFault> {
        let new: ContextCreate = serde_json::from_value(body).unwrap();
        let task = self.contexts.create(who, &new, &asked()).await;
        let task = task.map_err(TaskFault::lasting)?;
        self.run(who, &task).await
    }

    pub(crate) async fn prompt_task(&self, who: &Principal, id: &str, body: Value) -> Result<NewTask, Failure> {
        let prompt: ContextPrompt = serde_json::from_value(body).unwrap();
        self.contexts.prompt(who, id, &prompt, &asked()).await
    }

    pub(crate) async fn prompt(&self, who: &Principal, id: &str, body: Value) -> Result<Value, TaskFault> {
        let task = self.prompt_task(who, id, body).await.map_err(TaskFault::lasting)?;
        self.run(who, &task).await
    }

    pub(crate) async fn get(&self, who: &Principal, id: &str) -> ContextInfo {
        self.contexts.get(who, id).await.unwrap()
    }

    /// `role: content` of each node.
    pub(crate) async fn said(&self, who: &Principal, id: &str) -> Vec<String> {
        let nodes = self.get(who, id).await.nodes.unwrap();
        let words = nodes.iter().map(|node| {
            let role = serde_json::to_value(node.role).unwrap();
            format!("{}: {}", role.as_str().unwrap(), node.content.as_str().unwrap())
        });
        words.collect()
    }

    /// What the engine was sent to read, the last time.
    pub(crate) fn read(&self) -> Vec<String> {
        let body = self.engine.seen().last().unwrap().json();
        let messages = body["messages"].as_array().unwrap().clone();
        let words = messages.iter().map(|one| {
            format!(
                "{}: {}",
                one["role"].as_str().unwrap(),
                one["content"].as_str().unwrap()
            )
        });
        words.collect()
    }

    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = forebay_runtime::metrics::encode(&self.registry);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in:\n{text}")).parse().unwrap()
    }
}

pub(crate) fn asked() -> Asked {
    Asked {
        trace: trace(),
        priority: None,
        idempotency_key: None,
        run_at: None,
        wanted_by: None,
    }
}

fn trace() -> TraceId {
    TraceId::from_bytes([7; 16]).unwrap()
}

pub(crate) fn user(tenant: &str, subject: &str, grants: &[&str]) -> Principal {
    Principal {
        tenant: TenantId::try_from(tenant).unwrap(),
        project: None,
        subject: SubjectId::try_from(subject).unwrap(),
        key: Some("k1".parse().unwrap()),
        session: None,
        role: Role::User,
        grants: grants.iter().map(|grant| grant.parse::<Grant>().unwrap()).collect(),
        shown: Vec::new(),
        good_until: None,
    }
}

pub(crate) fn ann() -> Principal {
    user("acme", "ann", &[])
}

/// How it failed, and whether it is tried again.
pub(crate) fn fault(outcome: Result<Value, TaskFault>) -> (Code, bool) {
    let fault = outcome.err().unwrap();
    (fault.failure.code, fault.retryable)
}
