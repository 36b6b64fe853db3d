//! The stdio bridge, against the real front behind a bare HTTP adapter.
#![expect(
    clippy::disallowed_methods,
    reason = "a test ends with its runtime, and talks to itself over loopback"
)]

use crate::support::{Gate, Scripted, Wish, modern_request, principal, request, trace};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::any,
};
use forebay_domain::Role;
use forebay_mcp::{
    Front, HttpIn, Reply, ReplyBody, Scope,
    stdio::{self, BridgeTo},
};
use forebay_runtime::{Secret, Stop};
use futures_util::StreamExt;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf},
    net::TcpListener,
    task::JoinHandle,
};

pub(crate) const KEY: &str = "fb_test_key";

/// A front that a test may swap for another, as a restart does.
pub(crate) type Served = Arc<Mutex<Front>>;

pub(crate) async fn serve(front: Front) -> (String, Served, JoinHandle<()>) {
    let served: Served = Arc::new(Mutex::new(front));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = Router::new().route("/mcp", any(handle)).with_state(served.clone());
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, served, task)
}

async fn handle(State(served): State<Served>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts
        .headers
        .get(header::AUTHORIZATION)
        .is_none_or(|value| value != format!("Bearer {KEY}").as_str())
    {
        let problem = r#"{"title":"Unauthorized","detail":"The key is not known."}"#;
        return Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .body(Body::from(problem))
            .unwrap();
    }
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let front = served.lock().unwrap().clone();
    let user = principal(Role::User);
    let reply = match parts.method {
        Method::POST => {
            let input = HttpIn {
                headers: &parts.headers,
                body,
                principal: user,
                trace: trace(),
                scope: Scope::Whole,
            };
            front.post(input).await
        }
        Method::GET => front.get(&parts.headers, &user, &Scope::Whole).await,
        _ => front.delete(&parts.headers, &user, &Scope::Whole).await,
    };
    response(reply)
}

fn response(reply: Reply) -> Response {
    let body = match reply.body {
        ReplyBody::Empty => Body::empty(),
        ReplyBody::Json(bytes) => Body::from(bytes),
        ReplyBody::Events(stream) => Body::from_stream(stream.map(Ok::<_, Infallible>)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response
}

/// The client's end of a bridge.
pub(crate) struct Client {
    pub(crate) input: WriteHalf<DuplexStream>,
    pub(crate) output: Lines<BufReader<ReadHalf<DuplexStream>>>,
    bridge: JoinHandle<std::io::Result<()>>,
    stop: Stop,
}

impl Client {
    pub(crate) fn new(url: &str, key: &str) -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (read, write) = tokio::io::split(theirs);
        let to = BridgeTo {
            url: url.parse().unwrap(),
            key: Secret::new(key.to_owned()),
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        };
        let stop = Stop::new();
        let bridge = tokio::spawn(stdio::bridge(read, write, to, stop.clone()));
        let (output, input) = tokio::io::split(ours);
        Self {
            input,
            output: BufReader::new(output).lines(),
            bridge,
            stop,
        }
    }

    pub(crate) async fn write(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    pub(crate) async fn read(&mut self) -> Value {
        let line = tokio::time::timeout(Duration::from_secs(20), self.output.next_line()).await;
        serde_json::from_str(&line.expect("an answer comes").unwrap().expect("the bridge is open")).unwrap()
    }

    /// Ends the input and waits for the end of the bridge; what was still written comes back.
    pub(crate) async fn finish(mut self) -> Vec<Value> {
        self.input.shutdown().await.unwrap();
        let mut rest = Vec::new();
        while let Some(line) = self.output.next_line().await.unwrap() {
            rest.push(serde_json::from_str(&line).unwrap());
        }
        self.bridge.await.unwrap().unwrap();
        rest
    }
}

fn initialize() -> String {
    let params =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}});
    request(1, "initialize", &params)
}

#[tokio::test]
async fn a_script_that_does_not_wait_is_served_in_order() {
    let gate = Gate::open(Wish::default()).await;
    let (url, ..) = serve(gate.front.clone()).await;
    let mut client = Client::new(&url, KEY);
    client.write(&initialize()).await;
    client
        .write(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
        .await;
    client.write("").await;
    client
        .write(&request(
            2,
            "tools/call",
            &json!({"name": "calculator", "arguments": {"expression": "6*7"}}),
        ))
        .await;
    let answers = client.finish().await;
    assert_eq!(answers[0]["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(answers[1]["result"]["content"][0]["text"], "42");
    assert_eq!(answers.len(), 2, "nothing but protocol messages");
    assert_eq!(gate.sessions.count(), 0, "the bridge says farewell");
}

#[tokio::test]
async fn notifications_of_the_session_come_through() {
    let gate = Gate::open(Wish::default()).await;
    let (url, ..) = serve(gate.front.clone()).await;
    let mut client = Client::new(&url, KEY);
    client.write(&initialize()).await;
    client.read().await;
    // The listener connects in its own time: say it until it is heard.
    let heard = loop {
        gate.front.lists_changed();
        let patience = Duration::from_millis(20);
        if let Ok(line) = tokio::time::timeout(patience, client.output.next_line()).await {
            break line.unwrap().unwrap();
        }
    };
    assert!(heard.contains("notifications/tools/list_changed"));
    client.stop.drain();
    client.bridge.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_modern_client_gets_its_headers_its_progress_and_its_answer() {
    let model = Scripted {
        names: vec!["tiny"],
        pieces: vec!["Par".to_owned(), "is".to_owned()],
        pause: Duration::from_millis(1),
    };
    let gate = Gate::open(Wish {
        model,
        ..Wish::default()
    })
    .await;
    let (url, ..) = serve(gate.front.clone()).await;
    let mut client = Client::new(&url, KEY);
    let params = json!({"name": "chat", "arguments": {"prompt": "?"}, "_meta": {"progressToken": 5}});
    client.write(&modern_request("tools/call", params).1).await;
    let mut answer = client.read().await;
    let mut steps = 0;
    while answer.get("method").is_some() {
        assert_eq!(answer["params"]["progressToken"], 5);
        steps += 1;
        answer = client.read().await;
    }
    assert_eq!((steps, &answer["result"]["content"][0]["text"]), (2, &json!("Paris")));
    assert!(client.finish().await.is_empty());
}

#[tokio::test]
async fn a_modern_call_is_taken_back_by_closing_it() {
    let model = Scripted {
        names: vec!["tiny"],
        pieces: vec!["late".to_owned()],
        pause: Duration::from_hours(1),
    };
    let gate = Gate::open(Wish {
        model,
        ..Wish::default()
    })
    .await;
    let (url, ..) = serve(gate.front.clone()).await;
    let mut client = Client::new(&url, KEY);
    let params = json!({"name": "chat", "arguments": {"prompt": "?"}});
    client.write(&modern_request("tools/call", params).1).await;
    client.write(&request(2, "ping", &json!({}))).await;
    assert_eq!(client.read().await["id"], 2, "one call does not hold up another");
    client
        .write(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#)
        .await;
    assert!(client.finish().await.is_empty());
}

#[tokio::test]
async fn a_gateway_that_is_gone_or_says_no_is_an_error_and_the_bridge_stays() {
    let unbound = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut client = Client::new(&format!("http://{unbound}/mcp"), KEY);
    for id in [1, 2] {
        client.write(&request(id, "tools/list", &json!({}))).await;
        let answer = client.read().await;
        assert_eq!(
            (&answer["id"], &answer["error"]["data"]["code"]),
            (&json!(id), &json!("gateway_unreachable"))
        );
    }
    client.write("{").await;
    assert_eq!(client.read().await["error"]["code"], -32700);
    assert!(client.finish().await.is_empty());

    let gate = Gate::open(Wish::default()).await;
    let (url, ..) = serve(gate.front.clone()).await;
    let mut client = Client::new(&url, "wrong");
    client.write(&request(7, "tools/list", &json!({}))).await;
    let answer = client.read().await;
    assert_eq!(
        (&answer["id"], &answer["error"]["data"]["code"]),
        (&json!(7), &json!("invalid_key"))
    );
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("The key is not known.")
    );
}

#[tokio::test]
async fn a_restarted_gateway_is_joined_again() {
    let before = Gate::open(Wish::default()).await;
    let after = Gate::open(Wish::default()).await;
    let (url, served, _server) = serve(before.front.clone()).await;
    let mut client = Client::new(&url, KEY);
    client.write(&initialize()).await;
    client.read().await;
    *served.lock().unwrap() = after.front.clone();
    before.stop.drain();
    client.write(&request(2, "tools/list", &json!({}))).await;
    let answer = client.read().await;
    assert_eq!(answer["result"]["tools"][0]["name"], "calculator", "{answer}");
    assert_eq!(after.sessions.count(), 1);
}

#[tokio::test]
async fn a_line_without_end_is_refused() {
    let gate = Gate::open(Wish::default()).await;
    let (url, ..) = serve(gate.front.clone()).await;
    let mut client = Client::new(&url, KEY);
    client.write(&"x".repeat((16 << 20) + 1)).await;
    assert_eq!(client.read().await["error"]["data"]["code"], "body_too_large");
    client.input.write_all(b"\xff\n").await.unwrap();
    assert_eq!(client.read().await["error"]["code"], -32700);
    client.write(&initialize()).await;
    assert_eq!(client.read().await["id"], 1);
}
