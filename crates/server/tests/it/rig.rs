//! One gateway of a test: on a free port, with a data directory of its own and an engine that answers.

use forebay_domain::{
    Grant, Role,
    id::{SubjectId, TenantId},
    key::ApiKey,
};
use forebay_runtime::{Clock, Entropy, secret::SecretReader};
use forebay_server::{AppConfig, ChildrenParts, Gateway, GatewayParts, Opens, config::MetricsConfig};
use forebay_store::{keys::NewKey, sqlite_url};
use forebay_testkit::openai::Engine;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};

/// How long a key or a token is good that shall expire while something is open: enough to open it.
pub(crate) const SHORT_LIFE: Duration = Duration::from_secs(3);

pub(crate) const SECRET: &str = "hV3nq0Zk7cWm1Rt9yLx4bFs8uJd2gPaE";

pub(crate) struct Rig {
    pub(crate) gateway: Gateway,
    pub(crate) engine: Engine,
    pub(crate) admin: String,
    pub(crate) data: tempfile::TempDir,
    client: reqwest::Client,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A gateway on SQLite whose configuration the test has changed.
    pub(crate) async fn with(change: impl FnOnce(&mut AppConfig)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let url = sqlite_url(&data.path().join("forebay.db"));
        Self::on(&url, data, change).await
    }

    /// The same by another clock, such as one that the test moves.
    pub(crate) async fn by(clock: Clock, change: impl FnOnce(&mut AppConfig)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let url = sqlite_url(&data.path().join("forebay.db"));
        Box::pin(Self::start_with(&url, data, (MetricsConfig::default(), clock), change)).await
    }

    /// A gateway with one more listener, for metrics alone.
    pub(crate) async fn with_metrics(listen: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let url = sqlite_url(&data.path().join("forebay.db"));
        let listen = Some(listen.parse().unwrap());
        Box::pin(Self::start_with(
            &url,
            data,
            (MetricsConfig { listen }, Clock::system()),
            |_| {},
        ))
        .await
    }

    /// The same on any database.
    pub(crate) async fn on(store_url: &str, data: tempfile::TempDir, change: impl FnOnce(&mut AppConfig)) -> Self {
        let parts = (MetricsConfig::default(), Clock::system());
        Box::pin(Self::start_with(store_url, data, parts, change)).await
    }

    async fn start_with(
        store_url: &str,
        data: tempfile::TempDir,
        (metrics, clock): (MetricsConfig, Clock),
        change: impl FnOnce(&mut AppConfig),
    ) -> Self {
        let engine = Engine::start().await;
        let mut config = AppConfig::default();
        config.server.listen = "127.0.0.1:0".parse().unwrap();
        config.server.drain_seconds = 5;
        config.limits.requests_per_minute = 100_000;
        config.limits.tool_calls_per_minute = 100_000;
        // Without probes, so that the engine sees what a test sends and nothing else.
        let models = serde_json::json!({"stub": {"backends": [
            {"url": engine.url(), "api_key": {"env": "BACKEND_KEY"}, "probe": {"interval_s": 0}},
        ]}});
        config.models = serde_json::from_value(models).unwrap();
        change(&mut config);
        let gateway = Gateway::start(GatewayParts {
            config,
            metrics,
            data: data.path().to_path_buf(),
            store_url: store_url.to_owned(),
            secrets: secrets(),
            // Programs beside the gateway are tested where its binary is.
            children: ChildrenParts {
                guard: "/no/such/guard".into(),
                environment: Box::new(|_| None),
            },
            opens: Opens::Listeners,
            clock,
            entropy: Entropy::system(),
        })
        .await
        .unwrap();
        let admin = std::fs::read_to_string(data.path().join("admin.key"))
            .unwrap()
            .trim_end()
            .to_owned();
        #[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap();
        Self {
            gateway,
            engine,
            admin,
            data,
            client,
        }
    }

    pub(crate) fn metrics_address(&self) -> SocketAddr {
        let surfaces = self.gateway.app.surfaces();
        let metrics = surfaces.iter().find(|surface| surface.name == "metrics").unwrap();
        let url: reqwest::Url = metrics.url.parse().unwrap();
        url.socket_addrs(|| None).unwrap()[0]
    }

    /// A request to any URL.
    pub(crate) fn outside(&self, method: &str, url: &str) -> RequestBuilder {
        self.client.request(Method::from_bytes(method.as_bytes()).unwrap(), url)
    }

    /// A request with this key; an empty one sends none.
    pub(crate) fn request(&self, method: &str, path: &str, key: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.gateway.url());
        let request = self.client.request(Method::from_bytes(method.as_bytes()).unwrap(), url);
        if key.is_empty() {
            request
        } else {
            request.header("x-api-key", key)
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request("GET", path, &self.admin).send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, key: &str, body: &Value) -> Response {
        self.request("POST", path, key).json(body).send().await.unwrap()
    }

    /// A plain JSON-RPC call.
    pub(crate) async fn rpc(&self, key: &str, method: &str, params: Value) -> Value {
        let body = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.post("/api/v1/mcp", key, &body).await.json().await.unwrap()
    }

    /// Puts a key into the store, as `forebay key create` would.
    pub(crate) async fn key(&self, tenant: &str, subject: &str, role: Role, grants: &[&str]) -> String {
        self.key_until(tenant, subject, role, grants, None).await
    }

    /// The same, for a key that is good for so long.
    pub(crate) async fn key_for(&self, subject: &str, good_for: Duration) -> String {
        let end = self.gateway.app.clock.now() + good_for;
        self.key_until("acme", subject, Role::User, &[], Some(end)).await
    }

    async fn key_until(
        &self,
        tenant: &str,
        subject: &str,
        role: Role,
        grants: &[&str],
        expires_at: Option<jiff::Timestamp>,
    ) -> String {
        let app = &self.gateway.app;
        let key = ApiKey::from_entropy(app.entropy.bytes(), app.entropy.bytes());
        let new = NewKey {
            id: key.id().clone(),
            hash: key.hash(),
            tenant: TenantId::try_from(tenant).unwrap(),
            project: None,
            subject: SubjectId::try_from(subject).unwrap(),
            role,
            grants: grants.iter().map(|grant| grant.parse::<Grant>().unwrap()).collect(),
            shown: Vec::new(),
            created_at: app.clock.now(),
            created_by: None,
            expires_at,
        };
        app.store.keys().create(&new).await.unwrap();
        key.reveal()
    }
}

fn secrets() -> SecretReader {
    SecretReader::new(|name| match name {
        "BACKEND_KEY" => Some("sk-backend-canary-3f1c".to_owned()),
        "JWT_SECRET" => Some(SECRET.to_owned()),
        "IONET_KEY" => Some(forebay_testkit::markets::ionet::KEY.to_owned()),
        "RUNPOD_KEY" => Some(forebay_testkit::markets::runpod::KEY.to_owned()),
        "VAST_KEY" => Some(forebay_testkit::markets::vast::KEY.to_owned()),
        // Of 32 bytes.
        "WEBHOOK_SECRET" => Some("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned()),
        "WEAK_SECRET" => Some("secret".to_owned()),
        _ => None,
    })
}

/// Waits until a condition holds; fails the test if it never does.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let patient = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let held = tokio::time::timeout(Duration::from_secs(20), patient).await;
    assert!(held.is_ok(), "never: {what}");
}
