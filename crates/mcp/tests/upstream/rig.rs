//! A catalogue with upstreams, and nothing in front of it.

use forebay_domain::{
    Failure, Principal, Role,
    event::Surface,
    id::{KeyId, SubjectId, TenantId, TraceId},
    model::{Answer, ModelInfo, ModelRequest},
    port::{AskModel, BoxFuture, Via},
};
use forebay_mcp::{
    Call, CallContext, Catalogue, CatalogueParts, Client, Kind, Metrics, Outcome, Scope, tools,
    upstream::{Config, Kit, State, UpstreamConfig, UpstreamStatus, Upstreams, UpstreamsParts},
};
use forebay_runtime::{
    Clock, Entropy, Tasks,
    child::Launcher,
    rate::{Quota, RateLimiter},
    secret::SecretReader,
};
use forebay_store::{Store, StoreParts};
use forebay_testkit::db::TestDb;
use prometheus_client::registry::Registry;
use serde_json::{Value, json, value::RawValue};
use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// No test waits longer for what it waits for.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

struct NoModels;

impl AskModel for NoModels {
    fn complete<'a>(&'a self, _: &'a Principal, _: ModelRequest, _: Via) -> BoxFuture<'a, Result<Answer, Failure>> {
        unreachable!("there are no models")
    }

    fn models(&self, _: &Principal) -> Vec<ModelInfo> {
        Vec::new()
    }
}

pub(crate) struct Rig {
    pub(crate) catalogue: Catalogue,
    pub(crate) upstreams: Upstreams,
    pub(crate) tasks: Tasks,
    secret: Arc<Mutex<String>>,
    database: TestDb,
}

impl Rig {
    pub(crate) async fn start(upstreams: &[(&str, Value)]) -> Self {
        Self::on(TestDb::sqlite(), upstreams).await
    }

    /// The same store in another process's hands.
    pub(crate) async fn restart(self, upstreams: &[(&str, Value)]) -> Self {
        self.tasks.shut_down(Duration::from_secs(5)).await;
        Self::on(self.database, upstreams).await
    }

    async fn on(database: TestDb, upstreams: &[(&str, Value)]) -> Self {
        let clock = Clock::system();
        let tasks = Tasks::new();
        let store = Store::open(
            database.url(),
            StoreParts {
                clock: clock.clone(),
                entropy: Entropy::system(),
                tasks: tasks.clone(),
            },
        )
        .await
        .unwrap();
        let quota = Quota {
            requests: NonZeroU32::new(100_000).unwrap(),
            window: Duration::from_mins(1),
        };
        let catalogue = Catalogue::new(CatalogueParts {
            clock: clock.clone(),
            events: store.events().clone(),
            ledger: store.ledger(),
            metrics: Metrics::register(&mut Registry::default()),
            limits: Arc::new(RateLimiter::new(quota, &clock)),
            models: Arc::new(NoModels),
            status: Arc::new(serde_json::Map::new),
            secrets: SecretReader::new(|_| None),
            tools: tools::Config::default(),
        })
        .unwrap();
        let secret = Arc::new(Mutex::new("s3cret".to_owned()));
        let read = secret.clone();
        let parts = UpstreamsParts {
            catalogue: catalogue.clone(),
            store,
            tasks: tasks.clone(),
            launcher: Launcher::new("/nonexistent".into(), |_| None, tasks.clone(), clock.clone()),
            kit: Kit {
                secrets: SecretReader::new(move |name| (name == "TOKEN").then(|| read.lock().unwrap().clone())),
                client: forebay_runtime::http::trusted(),
                clock,
                entropy: Entropy::system(),
            },
            client_info: raw(&json!({"name": "forebay", "version": "1"})),
        };
        let upstreams = Upstreams::start(&config(upstreams), parts).unwrap();
        Self {
            catalogue,
            upstreams,
            tasks,
            secret,
            database,
        }
    }

    /// Another value behind the reference `{env: TOKEN}`.
    pub(crate) fn rotate(&self, secret: &str) {
        secret.clone_into(&mut self.secret.lock().unwrap());
    }

    pub(crate) fn reconfigure(&self, upstreams: &[(&str, Value)]) {
        self.upstreams.reconfigure(&config(upstreams)).unwrap();
    }

    pub(crate) fn status(&self, name: &str) -> UpstreamStatus {
        let all = self.upstreams.list();
        all.into_iter().find(|one| one.name == name).expect("it is configured")
    }

    pub(crate) async fn ready(&self, name: &str) {
        until(|| self.status(name).state == State::Ready).await;
    }

    /// The definitions that a user sees.
    pub(crate) fn list(&self, scope: &Scope, kind: Kind) -> Vec<Value> {
        let page = self.catalogue.list(&principal(), scope, kind, None).unwrap();
        serde_json::from_str(&page.items).unwrap()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let tools = self.list(&Scope::Whole, Kind::Tools);
        let names = tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned());
        names.filter(|name| name.contains("__")).collect()
    }

    pub(crate) async fn call(&self, tool: &str, arguments: &Value) -> Result<Outcome, Failure> {
        let arguments = raw(arguments);
        let caller = principal();
        let call = self.catalogue.call(&caller, Call::of(tool, &arguments), context());
        tokio::time::timeout(BOUND, call).await.expect("a call comes to an end")
    }

    /// A call by somebody else.
    pub(crate) async fn call_as(&self, caller: &Principal, tool: &str, client: Client) -> Result<Outcome, Failure> {
        let arguments = raw(&json!({}));
        let context = CallContext { client, ..context() };
        let call = self.catalogue.call(caller, Call::of(tool, &arguments), context);
        tokio::time::timeout(BOUND, call).await.expect("a call comes to an end")
    }

    /// A call for as long as its caller waits for it.
    pub(crate) async fn call_with(&self, tool: &str, context: CallContext) -> Result<Outcome, Failure> {
        let arguments = raw(&json!({}));
        let caller = principal();
        let call = self.catalogue.call(&caller, Call::of(tool, &arguments), context);
        tokio::time::timeout(BOUND, call).await.expect("a call comes to an end")
    }

    /// The result of a call that has to be complete.
    pub(crate) async fn result(&self, tool: &str, arguments: &Value) -> String {
        match self.call(tool, arguments).await.unwrap() {
            Outcome::Complete(complete) => complete.raw.get().to_owned(),
            other => panic!("{other:?}"),
        }
    }
}

fn config(upstreams: &[(&str, Value)]) -> Config {
    let parse = |config: &Value| serde_json::from_value::<UpstreamConfig>(config.clone()).unwrap();
    let all: BTreeMap<_, _> = upstreams
        .iter()
        .map(|(name, config)| ((*name).to_owned(), parse(config)))
        .collect();
    Config(all)
}

pub(crate) fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

pub(crate) fn context() -> CallContext {
    CallContext {
        via: Via {
            surface: Surface::Mcp,
            trace: TraceId::from_bytes([7; 16]).unwrap(),
            in_task: false,
        },
        cancel: CancellationToken::new(),
        deadline: None,
        client: Client::nobody(),
        retry: None,
        cost: None,
    }
}

pub(crate) fn principal() -> Principal {
    keyed("k1", &[])
}

pub(crate) fn keyed(key: &str, grants: &[&str]) -> Principal {
    Principal {
        tenant: TenantId::try_from("acme").unwrap(),
        project: None,
        subject: SubjectId::try_from("sam").unwrap(),
        key: Some(KeyId::try_from(key).unwrap()),
        session: None,
        role: Role::User,
        grants: grants.iter().map(|grant| grant.parse().unwrap()).collect(),
        shown: Vec::new(),
        good_until: None,
    }
}

/// Waits until something is so.
pub(crate) async fn until(mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(BOUND, waiting).await.expect("it comes to be so");
}
