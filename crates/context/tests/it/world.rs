//! Providers over a fresh store, with an embedding engine and a tool that answer as real ones do.

use forebay_context::{Config, Metrics, Providers, ProvidersParts};
use forebay_domain::{
    Code, Failure, Grant, Principal, Role,
    context::{Context, ContextQuery, Strategy},
    event::Surface,
    id::{SubjectId, TenantId, TraceId},
    model::{Answer, Endpoint, ModelInfo, ModelRequest},
    port::{AskModel, BoxFuture, CallTool, FindContext, Via},
    tool::{ToolAnswer, ToolCall, ToolHints, ToolInfo},
};
use forebay_runtime::{Clock, Entropy, Tasks, http::trusted, secret::SecretReader};
use forebay_store::{Store, StoreParts};
use forebay_testkit::db::TestDb;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use serde_json::{Value, json, value::to_raw_value};
use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Where providers find the password of the test cluster, once a test has put it there.
pub(crate) const PASSWORD_VARIABLE: &str = "FOREBAY_PROVIDER_PASSWORD";
pub(crate) static PASSWORD: OnceLock<String> = OnceLock::new();

pub(crate) struct World {
    pub(crate) providers: Providers,
    pub(crate) store: Store,
    pub(crate) engine: Arc<Engine>,
    pub(crate) tools: Arc<Tools>,
    pub(crate) clock: Clock,
    pub(crate) registry: Registry,
    _tasks: Owned,
    /// Goes last.
    _db: Option<TestDb>,
}

/// Everything ends with its test.
struct Owned(Tasks);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.stop().end();
    }
}

impl World {
    pub(crate) async fn new(config: Value) -> Self {
        let db = TestDb::sqlite();
        let world = Self::on(&db, config).await;
        Self { _db: Some(db), ..world }
    }

    pub(crate) async fn on(db: &TestDb, config: Value) -> Self {
        let tasks = Tasks::new();
        let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
        let parts = StoreParts {
            clock: clock.clone(),
            entropy: Entropy::system(),
            tasks: tasks.clone(),
        };
        let store = Store::open(db.url(), parts).await.unwrap();
        let mut registry = Registry::default();
        let (engine, tools) = (Arc::new(Engine::default()), Arc::new(Tools::default()));
        let parts = ProvidersParts {
            store: store.clone(),
            models: engine.clone(),
            tools: tools.clone(),
            http: trusted(),
            look_up: None,
            secrets: SecretReader::new(|name| match name {
                "TOKEN" => Some("s3cret".to_owned()),
                PASSWORD_VARIABLE => PASSWORD.get().cloned(),
                _ => None,
            }),
            clock: clock.clone(),
            entropy: Entropy::system(),
            tasks: tasks.clone(),
            metrics: Metrics::register(&mut registry),
        };
        let providers = Providers::new(parts, &section(config)).unwrap();
        Self {
            providers,
            store,
            engine,
            tools,
            clock,
            registry,
            _tasks: Owned(tasks),
            _db: None,
        }
    }

    pub(crate) async fn find(&self, provider: &str, query: &str) -> Context {
        self.ask(&asking(&[provider], query)).await.unwrap()
    }

    pub(crate) async fn look(&self, provider: &str, query: &str, strategy: Strategy) -> Context {
        let query = ContextQuery {
            strategy: Some(strategy),
            ..asking(&[provider], query)
        };
        self.ask(&query).await.unwrap()
    }

    pub(crate) async fn ask(&self, query: &ContextQuery) -> Result<Context, Failure> {
        self.providers.find(&user(&[]), query, via()).await
    }

    /// The texts that are found, best first.
    pub(crate) async fn texts(&self, provider: &str, query: &str) -> Vec<String> {
        let found = self.find(provider, query).await;
        found.items.into_iter().map(|item| item.text).collect()
    }

    /// Why the provider found nothing.
    pub(crate) async fn failure(&self, provider: &str, query: &str) -> (Code, String) {
        let found = self.find(provider, query).await;
        let failure = found.reports[0].failure.clone().unwrap();
        (failure.code, failure.message)
    }

    pub(crate) fn metrics(&self) -> String {
        forebay_runtime::metrics::encode(&self.registry)
    }
}

pub(crate) fn section(config: Value) -> Config {
    serde_json::from_value(config).unwrap()
}

pub(crate) fn asking(providers: &[&str], query: &str) -> ContextQuery {
    ContextQuery {
        providers: providers.iter().map(ToString::to_string).collect(),
        query: query.to_owned(),
        strategy: None,
        items_max: None,
        tokens_max: None,
        on_failure: None,
    }
}

pub(crate) fn via() -> Via {
    Via {
        surface: Surface::OpenAi,
        trace: TraceId::from_bytes([7; 16]).unwrap(),
        in_task: false,
    }
}

pub(crate) fn user(grants: &[&str]) -> Principal {
    named("u", grants)
}

pub(crate) fn named(subject: &str, grants: &[&str]) -> Principal {
    Principal {
        tenant: TenantId::try_from("t").unwrap(),
        project: None,
        subject: SubjectId::try_from(subject).unwrap(),
        key: None,
        session: None,
        role: Role::User,
        grants: grants.iter().map(|grant| grant.parse::<Grant>().unwrap()).collect(),
        shown: Vec::new(),
        good_until: None,
    }
}

/// Waits until it is so, for as long as a slow machine may need.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

/// An embedding engine whose vectors know a few words and what they are akin to.
#[derive(Default)]
pub(crate) struct Engine {
    pub(crate) is_broken: AtomicBool,
    /// It takes no text in which this word stands.
    pub(crate) hates: Mutex<Option<&'static str>>,
    pub(crate) texts: AtomicUsize,
    pub(crate) asked_by: Mutex<Vec<Principal>>,
}

const MEANINGS: &[&[&str]] = &[
    &["cat", "kitten", "feline"],
    &["car", "automobile", "vehicle"],
    &["price", "cost", "expensive"],
    &["sea", "ocean", "water"],
];

pub(crate) fn meaning(text: &str) -> Vec<f32> {
    let text = text.to_lowercase();
    let mut vector: Vec<f32> = MEANINGS
        .iter()
        .map(|akin| {
            if akin.iter().any(|word| text.contains(word)) {
                1.0
            } else {
                0.0
            }
        })
        .collect();
    vector.push(0.1);
    vector
}

impl AskModel for Engine {
    fn complete<'a>(
        &'a self,
        principal: &'a Principal,
        request: ModelRequest,
        _via: Via,
    ) -> BoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(async move {
            assert_eq!(request.endpoint, Endpoint::Embeddings);
            principal.require(&forebay_domain::Action::model(&request.model))?;
            self.asked_by.lock().unwrap().push(principal.clone());
            if self.is_broken.load(Ordering::SeqCst) {
                return Err(Failure::new(Code::UpstreamFailed, "The engine is away."));
            }
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            assert_eq!(body["model"], request.model);
            let texts = body["input"].as_array().unwrap();
            let hated = self.hates.lock().unwrap().unwrap_or("\0");
            if texts.iter().any(|text| text.as_str().unwrap().contains(hated)) {
                return Err(Failure::new(Code::UpstreamFailed, "The input is too long."));
            }
            self.texts.fetch_add(texts.len(), Ordering::SeqCst);
            let data: Vec<Value> = texts
                .iter()
                .enumerate()
                .map(|(index, text)| json!({ "object": "embedding", "index": index, "embedding": meaning(text.as_str().unwrap()) }))
                .rev()
                .collect();
            let answer = json!({ "object": "list", "data": data, "model": request.model }).to_string();
            Ok(Answer::Whole(answer.into()))
        })
    }

    fn models(&self, _principal: &Principal) -> Vec<ModelInfo> {
        Vec::new()
    }
}

/// One tool `search`, which only its users see, and one resource.
#[derive(Default)]
pub(crate) struct Tools {
    answer: Mutex<String>,
    pub(crate) fails: AtomicBool,
    /// Who called it with what.
    pub(crate) calls: Mutex<Vec<(String, Value)>>,
}

impl Tools {
    pub(crate) fn says(&self, text: &str) {
        text.clone_into(&mut self.answer.lock().unwrap());
    }
}

impl CallTool for Tools {
    fn find(&self, principal: &Principal, name: &str) -> Option<ToolInfo> {
        let is_allowed = principal.decide(&forebay_domain::Action::tool(name)).is_allowed();
        (name == "search" && is_allowed).then(|| ToolInfo {
            name: name.to_owned(),
            server: "docs".to_owned(),
            description: None,
            input_schema: to_raw_value(&json!({ "type": "object" })).unwrap(),
            is_trusted: false,
            hints: ToolHints {
                read_only: true,
                destructive: false,
                open_world: false,
            },
        })
    }

    fn of_server(&self, _principal: &Principal, _server: &str) -> Vec<ToolInfo> {
        Vec::new()
    }

    fn call<'a>(
        &'a self,
        principal: &'a Principal,
        call: ToolCall<'a>,
        _via: Via,
    ) -> BoxFuture<'a, Result<ToolAnswer, Failure>> {
        Box::pin(async move {
            let arguments = serde_json::from_str(call.arguments.get()).unwrap();
            self.calls
                .lock()
                .unwrap()
                .push((principal.subject.to_string(), arguments));
            Ok(ToolAnswer {
                raw: to_raw_value(&json!({ "content": [] })).unwrap(),
                text: self.answer.lock().unwrap().clone(),
                is_error: self.fails.load(Ordering::SeqCst),
            })
        })
    }

    fn read<'a>(
        &'a self,
        _principal: &'a Principal,
        uri: &'a str,
        _via: Via,
    ) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(async move {
            self.calls.lock().unwrap().push((uri.to_owned(), Value::Null));
            Ok(self.answer.lock().unwrap().clone())
        })
    }
}
