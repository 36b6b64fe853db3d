//! A gateway without its HTTP edge: everything that the tests share.

use bytes::Bytes;
use forebay_domain::{
    Code, Event, Failure, Principal, Role,
    id::{KeyId, SubjectId, TenantId, TraceId},
    model::{Answer, ModelInfo, ModelRequest},
    port::{AskModel, BoxFuture, Via},
};
use forebay_mcp::{
    Catalogue, CatalogueParts, Front, FrontParts, HttpIn, Metrics, Reply, ReplyBody, Scope, ServerInfo, SessionLimits,
    Sessions, StateKeys,
    tasks::{CallTask, Desk, Later},
    tools,
};
use forebay_runtime::{
    Clock, Entropy, Stop, Tasks,
    rate::{Quota, RateLimiter},
    secret::SecretReader,
};
use forebay_store::{
    Store, StoreParts,
    events::{EventQuery, Order},
};
use forebay_testkit::db::TestDb;
use forebay_work::{Pool, PoolParts, TasksConfig};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// A model that streams `pieces`, each after `pause`; asked for a whole answer, it gives all of them at once.
#[derive(Clone, Default)]
pub(crate) struct Scripted {
    pub(crate) names: Vec<&'static str>,
    pub(crate) pieces: Vec<String>,
    pub(crate) pause: Duration,
}

impl AskModel for Scripted {
    fn complete<'a>(
        &'a self,
        _principal: &'a Principal,
        request: ModelRequest,
        _via: Via,
    ) -> BoxFuture<'a, Result<Answer, Failure>> {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let usage = json!({"prompt_tokens": 3, "completion_tokens": self.pieces.len()});
        let pause = self.pause;
        if body["stream"] != true {
            let whole = json!({"choices": [{"message": {"content": self.pieces.concat()}}], "usage": usage});
            return Box::pin(async move {
                tokio::time::sleep(pause).await;
                Ok(Answer::Whole(whole.to_string().into()))
            });
        }
        let chunk = |text: &String| format!("data: {}\n\n", json!({"choices": [{"delta": {"content": text}}]}));
        let mut parts: Vec<String> = self.pieces.iter().map(chunk).collect();
        parts.push(format!("data: {}\n\n", json!({"choices": [], "usage": usage})));
        parts.push("data: [DONE]\n\n".to_owned());
        let events = stream::iter(parts).then(move |part| async move {
            tokio::time::sleep(pause).await;
            Ok(Bytes::from(part))
        });
        Box::pin(async move { Ok(Answer::Events(events.boxed())) })
    }

    fn models(&self, _principal: &Principal) -> Vec<ModelInfo> {
        let info = |name: &&str| ModelInfo {
            name: (*name).to_owned(),
            engine: None,
            context_tokens: None,
        };
        self.names.iter().map(info).collect()
    }
}

/// How a test wants its gateway.
pub(crate) struct Wish {
    pub(crate) model: Scripted,
    pub(crate) tools: tools::Config,
    pub(crate) calls_per_minute: u32,
    /// Requests in batches, beside the first of each.
    pub(crate) batched_per_minute: u32,
    pub(crate) sessions: SessionLimits,
    /// Whether tools may run as tasks.
    pub(crate) tasks: bool,
    /// What the configuration says of tasks.
    pub(crate) work: TasksConfig,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            model: Scripted::default(),
            tools: tools::Config::default(),
            calls_per_minute: 1000,
            batched_per_minute: 100_000,
            sessions: SessionLimits::default(),
            tasks: false,
            work: TasksConfig::default(),
        }
    }
}

pub(crate) struct Gate {
    pub(crate) front: Front,
    pub(crate) catalogue: Catalogue,
    pub(crate) sessions: Sessions,
    pub(crate) clock: Clock,
    pub(crate) registry: Registry,
    pub(crate) stop: Stop,
    tasks: Tasks,
    pub(crate) store: Store,
    pub(crate) database: Arc<TestDb>,
    pub(crate) later: Later,
    pub(crate) call_task: Arc<CallTask>,
    /// Who would claim tasks here. It is never started: tests do its work.
    pub(crate) pool: Pool,
    /// How many gateways there were on this database before.
    restarts: u64,
    frozen: AtomicBool,
}

impl Gate {
    pub(crate) async fn open(wish: Wish) -> Self {
        Self::on(TestDb::sqlite(), wish).await
    }

    pub(crate) async fn on(database: TestDb, wish: Wish) -> Self {
        let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
        Self::begin(Arc::new(database), clock, wish, 0).await
    }

    /// Another gateway on the same database, at the same time.
    pub(crate) async fn another(&self) -> Self {
        self.another_with(Wish::default()).await
    }

    pub(crate) async fn another_with(&self, wish: Wish) -> Self {
        Self::begin(self.database.clone(), self.clock.clone(), wish, self.restarts + 1).await
    }

    /// Stops it in good order and starts the next one.
    pub(crate) async fn restarted(&self) -> Self {
        assert!(self.tasks.shut_down(Duration::from_secs(20)).await, "it drains");
        self.another().await
    }

    /// Kills it: what it drives is dropped where it stands, and nothing more is written.
    pub(crate) async fn kill(&self) {
        self.stop.end();
        self.tasks.finished().await;
    }

    /// Stops time, except where [`Gate::really`] lets the store do its work.
    pub(crate) fn freeze(&self) {
        tokio::time::pause();
        self.frozen.store(true, Ordering::SeqCst);
    }

    /// Awaits what needs the store, which lives in real time.
    pub(crate) async fn really<T>(&self, work: impl Future<Output = T>) -> T {
        let work = Box::pin(work);
        if !self.frozen.load(Ordering::SeqCst) {
            return work.await;
        }
        tokio::time::resume();
        let done = work.await;
        tokio::time::pause();
        done
    }

    async fn begin(database: Arc<TestDb>, clock: Clock, wish: Wish, restarts: u64) -> Self {
        let tasks = Tasks::new();
        let mut registry = Registry::default();
        let store = Store::open(
            database.url(),
            StoreParts {
                clock: clock.clone(),
                entropy: Entropy::seeded(1),
                tasks,
            },
        )
        .await
        .unwrap();
        let per_minute = |requests| Quota {
            requests: NonZeroU32::new(requests).unwrap(),
            window: Duration::from_mins(1),
        };
        let batched = RateLimiter::new(per_minute(wish.batched_per_minute), &clock);
        let status = json!({"version": "1.2.3", "store": "ok"}).as_object().unwrap().clone();
        let catalogue = Catalogue::new(CatalogueParts {
            clock: clock.clone(),
            events: store.events().clone(),
            ledger: store.ledger(),
            metrics: Metrics::register(&mut registry),
            limits: Arc::new(RateLimiter::new(per_minute(wish.calls_per_minute), &clock)),
            models: Arc::new(wish.model),
            status: Arc::new(move || status.clone()),
            secrets: secrets(),
            tools: wish.tools,
        })
        .unwrap();
        let sessions = Sessions::new(wish.sessions, clock.clone(), Entropy::seeded(100 + restarts), &store);
        let tasks = Tasks::new();
        let stop = tasks.stop().clone();
        let desk = Desk::new(&store, Entropy::seeded(5 + restarts));
        let call_task = Arc::new(CallTask::new(&catalogue, &desk));
        let parts = PoolParts {
            store: store.clone(),
            clock: clock.clone(),
            entropy: Entropy::seeded(200 + restarts),
            tasks: tasks.clone(),
            config: wish.work,
            patience: Duration::ZERO,
            metrics: forebay_work::Metrics::register(&mut Registry::default()),
        };
        let pool = Pool::new(parts, vec![call_task.clone()]);
        let later = Later::new(Arc::new(pool.submitter()), store.queue(), desk);
        let front = Front::new(FrontParts {
            catalogue: catalogue.clone(),
            sessions: sessions.clone(),
            server: ServerInfo {
                name: "forebay".to_owned(),
                title: "Forebay".to_owned(),
                version: "1.2.3".to_owned(),
                instructions: "Ask away.".to_owned(),
            },
            tasks: tasks.clone(),
            entropy: Entropy::seeded(3),
            states: StateKeys::new(clock.clone(), Entropy::seeded(4)),
            charge: Arc::new(move |principal| {
                let allowed = batched.check(principal.subject.as_str()).is_allowed();
                allowed
                    .then_some(())
                    .ok_or_else(|| Failure::new(Code::RateLimited, "Not now."))
            }),
        });
        if wish.tasks {
            front.work_later(later.clone());
        }
        Self {
            front,
            catalogue,
            sessions,
            clock,
            registry,
            stop,
            tasks,
            store,
            database,
            later,
            call_task,
            pool,
            restarts,
            frozen: AtomicBool::new(false),
        }
    }

    /// The events so far, once there are `count` of them.
    pub(crate) async fn events(&self, count: usize) -> Vec<Event> {
        let read = async {
            loop {
                let query = EventQuery {
                    order: Order::OldestFirst,
                    ..EventQuery::default()
                };
                let page = self.store.events().read(&query).await.unwrap();
                if page.events.len() >= count {
                    return page.events.into_iter().map(|stored| stored.event).collect();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), read)
            .await
            .expect("the events are written")
    }
}

/// An environment with one secret in it.
pub(crate) fn secrets() -> SecretReader {
    SecretReader::new(|name| (name == "FOREBAY_TOOL_KEY").then(|| "s3cret".to_owned()))
}

pub(crate) fn principal(role: Role) -> Principal {
    keyed(role, "k1")
}

pub(crate) fn keyed(role: Role, key: &str) -> Principal {
    Principal {
        tenant: TenantId::try_from("acme").unwrap(),
        project: None,
        subject: SubjectId::try_from("sam").unwrap(),
        key: Some(KeyId::try_from(key).unwrap()),
        session: None,
        role,
        grants: Vec::new(),
        shown: Vec::new(),
        good_until: None,
    }
}

pub(crate) fn trace() -> TraceId {
    TraceId::from_bytes([7; 16]).unwrap()
}

/// Headers of every MCP POST, and those given as `name: value` pairs.
pub(crate) fn headers(extra: &[(&str, &str)]) -> HeaderMap {
    let always = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ];
    let mut map = HeaderMap::new();
    for (name, value) in always.iter().chain(extra) {
        map.insert(
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    map
}

/// A reply that was read to its end.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// The one message, or `null`.
    pub(crate) body: Value,
    /// The chunks of a stream.
    pub(crate) events: Option<Vec<String>>,
}

impl Got {
    pub(crate) async fn read(reply: Reply) -> Self {
        let (body, events) = match reply.body {
            ReplyBody::Empty => (Value::Null, None),
            ReplyBody::Json(bytes) => (serde_json::from_slice(&bytes).unwrap(), None),
            ReplyBody::Events(stream) => {
                let chunks = stream.map(|chunk| String::from_utf8(chunk.to_vec()).unwrap());
                (Value::Null, Some(chunks.collect().await))
            }
        };
        Self {
            status: reply.status.as_u16(),
            headers: reply.headers,
            body,
            events,
        }
    }

    /// The JSON-RPC code and the gateway's own.
    pub(crate) fn error(&self) -> (u16, i64, String) {
        let error = &self.body["error"];
        let code = error["data"]["code"].as_str().unwrap_or_default().to_owned();
        (self.status, error["code"].as_i64().unwrap_or_default(), code)
    }

    /// The messages in a stream.
    pub(crate) fn messages(&self) -> Vec<Value> {
        let chunks = self.events.as_deref().unwrap_or_default().iter();
        chunks.filter_map(|chunk| message_of(chunk)).collect()
    }
}

/// The message in one event, where it has one.
pub(crate) fn message_of(chunk: &str) -> Option<Value> {
    let data = chunk.lines().find_map(|line| line.strip_prefix("data: "))?;
    (!data.is_empty()).then(|| serde_json::from_str(data).unwrap())
}

impl Gate {
    pub(crate) async fn send(&self, principal: &Principal, extra: &[(&str, &str)], body: &str) -> Reply {
        let headers = headers(extra);
        self.front
            .post(HttpIn {
                headers: &headers,
                body: Bytes::from(body.to_owned()),
                principal: principal.clone(),
                trace: trace(),
                scope: Scope::Whole,
            })
            .await
    }

    pub(crate) async fn post(&self, principal: &Principal, extra: &[(&str, &str)], body: &str) -> Got {
        Got::read(self.send(principal, extra, body).await).await
    }

    /// One request of 2026-07-28 with all that it needs.
    pub(crate) async fn modern(&self, principal: &Principal, method: &str, params: Value) -> Got {
        let (extra, body) = modern_request(method, params);
        let extra: Vec<(&str, &str)> = extra.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.post(principal, &extra, &body).await
    }

    /// The stream of a fresh session of that scope, behind its opening.
    pub(crate) async fn scoped(&self, principal: &Principal, scope: Scope) -> stream::BoxStream<'static, Bytes> {
        let params =
            json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}});
        let plain = headers(&[]);
        let opened = self.front.post(HttpIn {
            headers: &plain,
            body: Bytes::from(request(1, "initialize", &params)),
            principal: principal.clone(),
            trace: trace(),
            scope: scope.clone(),
        });
        let opened = opened.await;
        let id = opened.headers["mcp-session-id"].to_str().unwrap().to_owned();
        let reply = self
            .front
            .get(&headers(&[("mcp-session-id", &id)]), principal, &scope)
            .await;
        let ReplyBody::Events(mut stream) = reply.body else {
            panic!("a stream")
        };
        stream.next().await;
        stream
    }

    /// Opens a session and returns its id.
    pub(crate) async fn open_session(&self, principal: &Principal, version: &str) -> String {
        let params =
            json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}});
        let opening = request(1, "initialize", &params);
        let got = self.really(self.post(principal, &[], &opening)).await;
        assert_eq!(got.body["result"]["protocolVersion"], version, "{got:?}");
        got.headers["mcp-session-id"].to_str().unwrap().to_owned()
    }

    pub(crate) async fn plain(&self, principal: &Principal, body: &str) -> Got {
        let headers = HeaderMap::new();
        let reply = self
            .front
            .plain(HttpIn {
                headers: &headers,
                body: Bytes::from(body.to_owned()),
                principal: principal.clone(),
                trace: trace(),
                scope: Scope::Whole,
            })
            .await;
        Got::read(reply).await
    }
}

pub(crate) fn request(id: u64, method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

pub(crate) fn modern_request(method: &str, mut params: Value) -> (Vec<(&'static str, String)>, String) {
    let mut headers = vec![
        ("mcp-protocol-version", "2026-07-28".to_owned()),
        ("mcp-method", method.to_owned()),
    ];
    let target = if method == "resources/read" {
        &params["uri"]
    } else {
        &params["name"]
    };
    if let Some(target) = target.as_str() {
        headers.push(("mcp-name", target.to_owned()));
    }
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
    (headers, request(1, method, &params))
}
