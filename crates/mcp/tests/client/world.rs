//! Servers that follow a script, and what it takes to connect to them.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    response::Response,
};
use forebay_mcp::{
    call::Emission,
    client::{
        ClientFault, Connection, Credential, Heard, Hello, Hooks, HttpTarget, Limits, Mode, Parts, Target, Tenancy,
        mailbox,
    },
};
use forebay_runtime::Tasks;
use futures_util::stream;
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Value, json, value::RawValue};
use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf},
    net::TcpListener,
    sync::mpsc,
};

/// No test waits longer for what it waits for.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, what).await.expect("it comes in time")
}

/// Waits until something is so.
pub(crate) async fn until(mut so: impl FnMut() -> bool) {
    soon(async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

pub(crate) fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

pub(crate) fn hello(mode: Mode) -> Hello {
    Hello {
        mode,
        client_info: raw(&json!({"name": "forebay", "version": "1"})),
        capabilities: raw(&json!({"elicitation": {}})),
    }
}

/// What a test may set.
pub(crate) struct Wish {
    pub(crate) mode: Mode,
    pub(crate) tenancy: Tenancy,
    pub(crate) limits: Limits,
    pub(crate) credential: Credential,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            tenancy: Tenancy::OneCaller,
            limits: Limits {
                message_bytes_max: 1 << 20,
                ..Limits::default()
            },
            credential: Credential::None,
        }
    }
}

impl Wish {
    pub(crate) fn mode(mode: Mode) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }

    fn parts(&self) -> (Parts, Heard) {
        let (listener, heard) = mailbox();
        let parts = Parts {
            tasks: Tasks::new(),
            listener,
            tenancy: self.tenancy,
            limits: self.limits,
        };
        (parts, heard)
    }

    pub(crate) async fn over_http(self, url: &str) -> Result<(Connection, Heard), ClientFault> {
        let (parts, heard) = self.parts();
        let target = HttpTarget {
            url: url.parse().unwrap(),
            client: forebay_runtime::http::trusted(),
            credential: self.credential,
            headers: HeaderMap::new(),
        };
        let opening = Connection::open(Target::Http(Box::new(target)), hello(self.mode), parts);
        Ok((opening.await?, heard))
    }

    /// Opens a connection over a pipe while `server` follows its script.
    pub(crate) async fn over_pipe<F: Future>(
        self,
        server: impl FnOnce(Peer) -> F,
    ) -> (Result<(Connection, Heard), ClientFault>, F::Output) {
        let (parts, heard) = self.parts();
        let (target, peer) = pipe();
        let opening = async { Ok((Connection::open(target, hello(self.mode), parts).await?, heard)) };
        soon(async { tokio::join!(opening, server(peer)) }).await
    }
}

pub(crate) fn pipe() -> (Target, Peer) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (reader, writer) = tokio::io::split(ours);
    let (input, output) = tokio::io::split(theirs);
    let target = Target::Pipe {
        reader: Box::new(reader),
        writer: Box::new(writer),
    };
    let peer = Peer {
        input: BufReader::new(input).lines(),
        output,
    };
    (target, peer)
}

/// The server's end of a pipe.
pub(crate) struct Peer {
    input: Lines<BufReader<ReadHalf<DuplexStream>>>,
    output: WriteHalf<DuplexStream>,
}

impl Peer {
    pub(crate) async fn line(&mut self) -> String {
        soon(self.input.next_line()).await.unwrap().expect("a line comes")
    }

    /// The next message, which has to be of that method.
    pub(crate) async fn expect(&mut self, method: &str) -> Value {
        let message: Value = serde_json::from_str(&self.line().await).unwrap();
        assert_eq!(message["method"], method, "{message}");
        message
    }

    /// The bare ends, for a server that reads and writes by itself.
    pub(crate) fn into_ends(self) -> (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>) {
        (self.input.into_inner().into_inner(), self.output)
    }

    /// Completes when the client has let go of its end.
    pub(crate) async fn ended(&mut self) {
        while self.input.next_line().await.unwrap().is_some() {}
    }

    pub(crate) async fn say(&mut self, text: &str) {
        soon(self.output.write_all(format!("{text}\n").as_bytes()))
            .await
            .unwrap();
    }

    pub(crate) async fn answer(&mut self, to: &Value, result: &Value) {
        let id = &to["id"];
        self.say(&json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
            .await;
    }

    pub(crate) async fn refuse(&mut self, to: &Value, code: i64, data: &Value) {
        let error = json!({"code": code, "message": "no", "data": data});
        self.say(&json!({"jsonrpc": "2.0", "id": to["id"], "error": error}).to_string())
            .await;
    }

    pub(crate) async fn tell(&mut self, method: &str, params: &Value) {
        self.say(&json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string())
            .await;
    }

    /// Answers as a server of the modern era.
    pub(crate) async fn open_modern(mut self) -> Self {
        let asked = self.expect("server/discover").await;
        self.answer(&asked, &discovered()).await;
        self
    }

    /// Answers as a server of that older version.
    pub(crate) async fn open_legacy(mut self, version: &str) -> Self {
        let asked = self.expect("server/discover").await;
        self.refuse(&asked, -32601, &Value::Null).await;
        self.handshake(version).await;
        self
    }

    pub(crate) async fn handshake(&mut self, version: &str) -> Value {
        let asked = self.expect("initialize").await;
        self.answer(&asked, &initialized(version)).await;
        self.expect("notifications/initialized").await;
        asked
    }
}

pub(crate) fn discovered() -> Value {
    json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {"x": 1}},
        "instructions": "Ask.", "ttlMs": 0, "cacheScope": "private",
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "s", "version": "2"}}})
}

pub(crate) fn initialized(version: &str) -> Value {
    json!({"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "2"}})
}

/// A request as a server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// What JSON-RPC asks, or the HTTP method where there is no body.
    pub(crate) fn asks(&self) -> &str {
        self.body["method"].as_str().unwrap_or(self.method.as_str())
    }

    pub(crate) fn result(&self, result: &Value) -> Response {
        json_response(StatusCode::OK, &self.answer(result))
    }

    pub(crate) fn answer(&self, result: &Value) -> Value {
        json!({"jsonrpc": "2.0", "id": self.body["id"], "result": result})
    }

    pub(crate) fn error(&self, status: u16, code: i64, message: &str) -> Response {
        let error = json!({"jsonrpc": "2.0", "id": self.body["id"], "error": {"code": code, "message": message}});
        json_response(StatusCode::from_u16(status).unwrap(), &error)
    }
}

type Script = Arc<dyn Fn(&Seen) -> Response + Send + Sync>;

/// An HTTP server that answers as its script says, and remembers what it was asked.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) origin: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Script,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) async fn start(script: impl Fn(&Seen) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let server = Self {
            url: format!("{origin}/mcp"),
            origin,
            seen: Arc::default(),
            script: Arc::new(script),
            connections: connections.clone(),
        };
        let router = Router::new().fallback(handle).with_state(server.clone());
        let listener = axum::serve::ListenerExt::tap_io(listener, move |stream| {
            stream.set_nodelay(true).unwrap();
            connections.fetch_add(1, Ordering::SeqCst);
        });
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        server
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn asked(&self, what: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.asks() == what).collect()
    }
}

async fn handle(State(server): State<Server>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let seen = Seen {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        headers: parts.headers,
        body: serde_json::from_str(&text).unwrap_or(Value::Null),
        text,
    };
    server.seen.lock().unwrap().push(seen.clone());
    (server.script)(&seen)
}

pub(crate) fn json_response(status: StatusCode, body: &Value) -> Response {
    text_response(status, "application/json", body.to_string())
}

pub(crate) fn text_response(status: StatusCode, kind: &str, body: impl Into<Body>) -> Response {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, kind)
        .body(body.into())
        .unwrap()
}

pub(crate) fn status(status: u16) -> Response {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

/// A stream of these events, that ends after them.
pub(crate) fn events(events: &[String]) -> Response {
    text_response(StatusCode::OK, "text/event-stream", events.concat())
}

/// A stream into which a test writes, until the sender is dropped.
pub(crate) fn live() -> (mpsc::UnboundedSender<String>, Response) {
    let (sender, receiver) = mpsc::unbounded_channel::<String>();
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Bytes::from(piece)), receiver))
    });
    (
        sender,
        text_response(StatusCode::OK, "text/event-stream", Body::from_stream(pieces)),
    )
}

pub(crate) fn event(message: &Value) -> String {
    format!("data: {message}\n\n")
}

pub(crate) fn event_with(id: &str, message: &Value) -> String {
    format!("id: {id}\ndata: {message}\n\n")
}

pub(crate) fn note(method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

/// The opening of a modern server, for scripts that care about what follows.
pub(crate) fn modern(seen: &Seen) -> Option<Response> {
    (seen.asks() == "server/discover").then(|| seen.result(&discovered()))
}

/// The opening of an older server with a session and without a stream of its own.
pub(crate) fn legacy(seen: &Seen) -> Option<Response> {
    match seen.asks() {
        "server/discover" => Some(seen.error(400, -32000, "Bad Request: no session")),
        "initialize" => {
            let mut response = seen.result(&initialized("2025-11-25"));
            response.headers_mut().insert("mcp-session-id", "s-1".parse().unwrap());
            Some(response)
        }
        "notifications/initialized" | "notifications/cancelled" => Some(status(202)),
        "GET" if seen.header("last-event-id").is_none() => Some(status(405)),
        "DELETE" => Some(status(200)),
        _ => None,
    }
}

pub(crate) fn hooks() -> Hooks {
    Hooks::within(BOUND)
}

pub(crate) fn listening() -> (Hooks, mpsc::Receiver<Emission>) {
    let (sender, receiver) = mpsc::channel(64);
    let hooks = Hooks {
        emissions: Some(sender),
        ..hooks()
    };
    (hooks, receiver)
}

/// What an emission says, for comparing.
pub(crate) fn said(emission: &Emission) -> String {
    match emission {
        Emission::Progress(params) => format!("progress {params}"),
        Emission::Log(params) => format!("log {params}"),
        Emission::Notification { method, params } => format!("{method} {params}"),
        Emission::Question(question) => format!("? {}", question.method),
        Emission::Hangup => "hangup".to_owned(),
    }
}

pub(crate) async fn call(connection: &Connection, params: &Value) -> Result<String, ClientFault> {
    let params = raw(params);
    let result = soon(connection.request("tools/call", Some(&params), hooks())).await?;
    Ok(result.get().to_owned())
}
