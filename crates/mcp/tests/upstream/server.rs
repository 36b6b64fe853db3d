//! An MCP server that follows a script: of either era, over HTTP, as unkind as a test wants.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    response::Response,
    routing::post,
};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub(crate) type Script = dyn Fn(&str, &Value) -> Says + Send + Sync;

/// What the server does with one request.
pub(crate) enum Says {
    Result(Value),
    Error(i64, &'static str),
    /// The body as it stands, whatever it is.
    Body(String),
    /// Nothing, for ever.
    Nothing,
    /// An HTTP status without a body.
    Status(u16),
    /// The result, once somebody lets it go.
    Later(Value, watch::Receiver<bool>),
    /// The connection breaks off after the headers.
    BreaksOff,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    Legacy,
    Modern,
}

pub(crate) struct Server {
    pub(crate) url: String,
    state: Arc<Shared>,
    address: SocketAddr,
    serving: Mutex<Option<(CancellationToken, JoinHandle<()>)>>,
}

struct Shared {
    era: Era,
    script: Mutex<Arc<Script>>,
    seen: Mutex<Vec<(HeaderMap, Value)>>,
    count: watch::Sender<usize>,
    /// The version that the server claims to speak.
    claims: Mutex<&'static str>,
    /// Whether it says that calls may become tasks.
    tasks: AtomicBool,
    instructions: Mutex<Option<&'static str>>,
}

impl Server {
    pub(crate) async fn start(era: Era, script: impl Fn(&str, &Value) -> Says + Send + Sync + 'static) -> Self {
        let claims = match era {
            Era::Legacy => "2025-06-18",
            Era::Modern => "2026-07-28",
        };
        let state = Arc::new(Shared {
            era,
            script: Mutex::new(Arc::new(script)),
            seen: Mutex::default(),
            count: watch::Sender::new(0),
            claims: Mutex::new(claims),
            tasks: AtomicBool::new(false),
            instructions: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self {
            url: format!("http://{address}/mcp"),
            state,
            address,
            serving: Mutex::default(),
        };
        server.serve(listener);
        server
    }

    fn serve(&self, listener: TcpListener) {
        let app = Router::new().route("/mcp", post(answer)).with_state(self.state.clone());
        let stop = CancellationToken::new();
        let serving = axum::serve(listener, app).with_graceful_shutdown(stop.clone().cancelled_owned());
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        let task = tokio::spawn(async move { serving.await.unwrap() });
        *self.serving.lock().unwrap() = Some((stop, task));
    }

    /// Nobody listens at its address any more, and its connections are closed.
    pub(crate) async fn stop(&self) {
        let (stop, task) = self.serving.lock().unwrap().take().unwrap();
        stop.cancel();
        task.await.unwrap();
    }

    /// It listens at the same address again.
    pub(crate) async fn again(&self) {
        self.serve(TcpListener::bind(self.address).await.unwrap());
    }

    /// Another script from now on.
    pub(crate) fn becomes(&self, script: impl Fn(&str, &Value) -> Says + Send + Sync + 'static) {
        *self.state.script.lock().unwrap() = Arc::new(script);
    }

    pub(crate) fn claims(&self, version: &'static str) {
        *self.state.claims.lock().unwrap() = version;
    }

    /// Calls may become tasks, it says to whoever connects from now on.
    pub(crate) fn knows_tasks(&self) {
        self.state.tasks.store(true, Ordering::SeqCst);
        if self.state.era == Era::Legacy {
            self.claims("2025-11-25");
        }
    }

    /// What it says to the model as a whole, to whoever connects from now on.
    pub(crate) fn instructs(&self, text: &'static str) {
        *self.state.instructions.lock().unwrap() = Some(text);
    }

    /// The requests of that method so far, with their headers.
    pub(crate) fn seen(&self, method: &str) -> Vec<(HeaderMap, Value)> {
        let seen = self.state.seen.lock().unwrap();
        seen.iter()
            .filter(|(_, message)| message["method"] == method)
            .cloned()
            .collect()
    }
}

async fn answer(State(state): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap();
    state.seen.lock().unwrap().push((headers, message.clone()));
    state.count.send_modify(|count| *count += 1);
    let method = message["method"].as_str().unwrap_or_default();
    if message.get("id").is_none() {
        return status(StatusCode::ACCEPTED);
    }
    let script = state.script.lock().unwrap().clone();
    let claims = *state.claims.lock().unwrap();
    let mut capabilities = json!({
        "tools": {"listChanged": true}, "prompts": {}, "resources": {"subscribe": true}, "completions": {}, "logging": {},
    });
    if state.tasks.load(Ordering::SeqCst) {
        match state.era {
            Era::Legacy => capabilities["tasks"] = json!({"cancel": {}, "requests": {"tools": {"call": {}}}}),
            Era::Modern => capabilities["extensions"] = json!({"io.modelcontextprotocol/tasks": {}}),
        }
    }
    let info = json!({"name": "scripted", "version": "1"});
    let mut says = match (state.era, method) {
        (Era::Modern, "server/discover") => Says::Result(json!({
            "resultType": "complete", "supportedVersions": [claims], "capabilities": capabilities, "ttlMs": 0,
            "cacheScope": "private", "_meta": {"io.modelcontextprotocol/serverInfo": info},
        })),
        (Era::Legacy, "initialize") => Says::Result(json!({
            "protocolVersion": claims, "capabilities": capabilities, "serverInfo": info,
        })),
        (Era::Legacy, "server/discover") | (Era::Modern, "initialize") => Says::Error(-32601, "no such method"),
        _ => script(method, &message["params"]),
    };
    if let (Says::Result(result), "server/discover" | "initialize", Some(text)) =
        (&mut says, method, *state.instructions.lock().unwrap())
    {
        result["instructions"] = json!(text);
    }
    let id = &message["id"];
    match says {
        Says::Result(mut result) => {
            if state.era == Era::Modern && result.get("resultType").is_none() {
                result["resultType"] = json!("complete");
            }
            body_of(json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
        }
        Says::Error(code, text) => {
            let error = json!({"code": code, "message": text, "data": {"kept": [1, 2.50]}});
            body_of(json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string())
        }
        Says::Body(text) => body_of(text.replace("$ID", &id.to_string())),
        Says::Nothing => std::future::pending().await,
        Says::Status(code) => status(StatusCode::from_u16(code).unwrap()),
        Says::Later(result, mut go) => {
            go.wait_for(|go| *go).await.unwrap();
            body_of(json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
        }
        Says::BreaksOff => {
            let broken = futures_util::stream::iter([
                Ok(Bytes::from_static(b"{\"jsonrpc\"")),
                Err(std::io::Error::other("gone")),
            ]);
            let mut response = Response::new(Body::from_stream(broken));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
            response
        }
    }
}

fn body_of(text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    response
}

fn status(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A tool as a server would define it.
pub(crate) fn tool(name: &str, description: &str) -> Value {
    json!({"name": name, "description": description, "inputSchema": {"type": "object", "x-vendor": {"a": 1}}, "vendorMember": [1.0]})
}

/// A script that offers these tools and answers calls with what it was asked.
pub(crate) fn offers(tools: Vec<Value>) -> impl Fn(&str, &Value) -> Says + Send + Sync + use<> {
    move |method, params| match method {
        "tools/list" => Says::Result(json!({"tools": tools})),
        "prompts/list" => Says::Result(json!({"prompts": [{"name": "greet", "vendor": true}]})),
        "resources/list" => Says::Result(json!({"resources": [{"uri": "doc://one", "name": "one"}]})),
        "resources/templates/list" => {
            Says::Result(json!({"resourceTemplates": [{"uriTemplate": "doc://{id}", "name": "doc"}]}))
        }
        "resources/read" => Says::Result(json!({"contents": [{"uri": params["uri"], "text": "hello", "vendor": 1}]})),
        "prompts/get" => Says::Result(json!({"messages": [], "asked": params})),
        "completion/complete" => Says::Result(json!({"completion": {"values": ["a"]}, "asked": params})),
        "tools/call" => Says::Result(json!({
            "content": [{"type": "text", "text": params["name"]}, {"type": "hologram", "vendor": 1.50}],
            "asked": params, "_meta": {"vendor/x": 1},
        })),
        _ => Says::Error(-32601, "no such method"),
    }
}
