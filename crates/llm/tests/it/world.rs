//! A router with an engine, a store on a file of its own, and a few callers.

use bytes::Bytes;
use forebay_domain::{
    Code, Event, Failure, Principal, Role,
    event::{Outcome, Surface},
    id::TraceId,
    model::{Answer, Body, Endpoint, Hints, ModelRequest},
    port::{AskModel, Via},
};
use forebay_llm::{Config, Metrics, Router, RouterParts, Settings, TurnsConfig};
use forebay_runtime::{Clock, Entropy, Tasks, secret::SecretReader};
use forebay_store::{Ledger, Queue, Store, StoreParts, events::EventQuery};
use forebay_testkit::{db::TestDb, openai::Engine};
use futures_util::StreamExt;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// The engine's own key, which must reach the engine and nothing else.
pub(crate) const ENGINE_KEY: &str = "sk-canary-7f3a91";
/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) router: Arc<Router>,
    pub(crate) store: Store,
    pub(crate) queue: Queue,
    pub(crate) clock: Clock,
    pub(crate) ledger: Ledger,
    registry: Registry,
    pub(crate) tasks: Tasks,
    db: TestDb,
}

impl World {
    /// One model, `qwen`, on one engine, which calls it `org/Qwen`.
    pub(crate) async fn new() -> Self {
        Self::on(TestDb::sqlite()).await
    }

    /// The same with this database.
    pub(crate) async fn on(db: TestDb) -> Self {
        let one = |engine: &str| {
            let backend =
                json!({ "url": engine, "engine": "vllm", "model": "org/Qwen", "api_key": { "env": "ENGINE_KEY" } });
            json!({ "qwen": { "backends": [backend] } })
        };
        Self::begin(db, Clock::system(), one).await
    }

    /// The section `models:`, given the address of the engine.
    pub(crate) async fn with(config: impl FnOnce(&str) -> Value) -> Self {
        Self::at(Clock::system(), config).await
    }

    /// Its clock stands still until a test moves it: who is out of use stays so.
    pub(crate) async fn still(config: impl FnOnce(&str) -> Value) -> Self {
        Self::at(Clock::manual("2026-11-21T12:00:00Z".parse().unwrap()), config).await
    }

    async fn at(clock: Clock, config: impl FnOnce(&str) -> Value) -> Self {
        Self::begin(TestDb::sqlite(), clock, config).await
    }

    async fn begin(db: TestDb, clock: Clock, config: impl FnOnce(&str) -> Value) -> Self {
        let engine = Engine::start().await;
        let (tasks, mut registry) = (Tasks::new(), Registry::default());
        let store = open(&db, &tasks).await;
        let router = Arc::new(Router::new(RouterParts {
            settings: settings(config(&engine.url())),
            events: store.events().clone(),
            responses: store.responses(),
            ledger: store.ledger(),
            clock: clock.clone(),
            entropy: Entropy::seeded(7),
            metrics: Metrics::register(&mut registry),
        }));
        Self {
            engine,
            router,
            queue: store.queue(),
            clock,
            ledger: store.ledger(),
            store,
            registry,
            tasks,
            db,
        }
    }

    pub(crate) async fn ask(&self, body: &Value) -> Result<Answer, Failure> {
        self.ask_as(&user(), "qwen", &body.to_string()).await
    }

    pub(crate) async fn ask_as(&self, principal: &Principal, model: &str, body: &str) -> Result<Answer, Failure> {
        self.ask_hinting(principal, model, body, Hints::default()).await
    }

    pub(crate) async fn ask_hinting(
        &self,
        principal: &Principal,
        model: &str,
        body: &str,
        hints: Hints,
    ) -> Result<Answer, Failure> {
        let request = ModelRequest {
            endpoint: Endpoint::Chat,
            model: model.to_owned(),
            body: Bytes::from(body.to_owned()),
            hints,
        };
        self.send(principal, request).await
    }

    pub(crate) async fn send(&self, principal: &Principal, request: ModelRequest) -> Result<Answer, Failure> {
        let answer = self.router.complete(principal, request, via());
        tokio::time::timeout(PATIENCE, answer)
            .await
            .expect("the router answers or fails in time")
    }

    /// Asks, and reads the answer to its end: what came, and how it failed if it did.
    pub(crate) async fn read(&self, body: &Value) -> (String, Option<Code>) {
        match self.ask(body).await {
            Ok(answer) => drain(answer).await,
            Err(failure) => (String::new(), Some(failure.code)),
        }
    }

    /// Every event, oldest first, as the next start finds them. The store drains for it, so this comes last in a test.
    pub(crate) async fn events(&self, count: usize) -> Vec<Event> {
        assert!(self.tasks.shut_down(PATIENCE).await, "the store drains in time");
        let tasks = Tasks::new();
        let store = open(&self.db, &tasks).await;
        let page = store.events().read(&EventQuery::default()).await.unwrap();
        tasks.stop().end();
        let events: Vec<_> = page.events.into_iter().map(|stored| stored.event).collect();
        assert_eq!(events.len(), count, "one event a request: {events:?}");
        events
    }

    /// The one event there is.
    pub(crate) async fn event(&self) -> Event {
        self.events(1).await.remove(0)
    }

    /// How a backend of `qwen` is: its state and its requests under way.
    pub(crate) fn state(&self, backend: usize) -> (&'static str, u32) {
        let all = self.router.backends();
        let found = all
            .iter()
            .find(|found| found.model == "qwen" && found.backend == backend);
        let found = found.unwrap();
        (found.state, found.in_flight)
    }

    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.stop().end();
    }
}

async fn open(db: &TestDb, tasks: &Tasks) -> Store {
    let parts = StoreParts {
        clock: Clock::system(),
        entropy: Entropy::system(),
        tasks: tasks.clone(),
    };
    Store::open(db.url(), parts).await.unwrap()
}

pub(crate) fn settings(config: Value) -> Settings {
    settings_of(config, json!({}))
}

/// The sections `models:` and `turns:`.
pub(crate) fn settings_of(config: Value, turns: Value) -> Settings {
    let turns: TurnsConfig = serde_json::from_value(turns).unwrap();
    let config: Config = serde_json::from_value(config).unwrap();
    let secrets = SecretReader::new(|name| (name == "ENGINE_KEY").then(|| ENGINE_KEY.to_owned()));
    Settings::parse(&config, &turns, &secrets).unwrap()
}

pub(crate) fn chat() -> Value {
    json!({ "model": "qwen", "messages": [{ "role": "user", "content": "What is the capital of France?" }] })
}

pub(crate) fn streamed() -> Value {
    let mut body = chat();
    body["stream"] = true.into();
    body
}

pub(crate) fn trace() -> TraceId {
    TraceId::parse("4bf92f3577b34da6a3ce929d0e0e4736").unwrap()
}

pub(crate) fn via() -> Via {
    Via {
        surface: Surface::OpenAi,
        trace: trace(),
        in_task: false,
    }
}

pub(crate) fn user() -> Principal {
    principal(Role::User, "")
}

pub(crate) fn principal(role: Role, grants: &str) -> Principal {
    Principal {
        tenant: "acme".parse().unwrap(),
        project: None,
        subject: "ann".parse().unwrap(),
        key: Some("k1".parse().unwrap()),
        session: None,
        role,
        grants: grants.split_whitespace().map(|grant| grant.parse().unwrap()).collect(),
        shown: Vec::new(),
        good_until: None,
    }
}

/// The pieces of an answer that comes in such.
pub(crate) fn pieces(answer: &mut Answer) -> &mut Body {
    let body = match answer {
        Answer::Events(body) => Some(body),
        Answer::Whole(_) => None,
    };
    body.expect("an answer that comes in pieces")
}

/// Reads to the end, or to the failure.
pub(crate) async fn drain(answer: Answer) -> (String, Option<Code>) {
    let mut body = answer.into_body();
    let read = async {
        let mut bytes = Vec::new();
        while let Some(item) = body.next().await {
            match item {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(failure) => {
                    assert!(body.next().await.is_none(), "nothing follows a failure");
                    return (bytes, Some(failure.code));
                }
            }
        }
        (bytes, None)
    };
    let (bytes, code) = tokio::time::timeout(PATIENCE, read)
        .await
        .expect("the answer ends in time");
    (String::from_utf8(bytes).unwrap(), code)
}

pub(crate) fn failed(code: Code) -> Outcome {
    Outcome::Failed(code)
}

/// Waits until that is so.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("it comes about in time");
}
