//! HTTP+SSE of 2024-11-05, by hand: a stream that says where to post, and POSTs that only its own client gets in.

use crate::rig::{Rig, SHORT_LIFE, eventually};
use forebay_domain::Role;
use futures_util::{Stream, StreamExt};
use reqwest::Response;
use serde_json::{Value, json};
use std::{pin::Pin, time::Duration};

const PATIENCE: Duration = Duration::from_secs(20);

/// The stream of one client.
struct Listener {
    pieces: Pin<Box<dyn Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    text: String,
    endpoint: String,
}

impl Listener {
    async fn open(rig: &Rig, path: &str, key: &str) -> Self {
        let response = rig.request("GET", path, key).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut listener = Self {
            pieces: Box::pin(response.bytes_stream()),
            text: String::new(),
            endpoint: String::new(),
        };
        let (name, data) = listener.event().await.unwrap();
        assert_eq!(name, "endpoint");
        listener.endpoint = data;
        listener
    }

    /// The name and the data of the next event; nothing once the stream has ended.
    async fn event(&mut self) -> Option<(String, String)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let lines = event.lines().filter_map(|line| line.strip_prefix(name));
                    lines.collect::<Vec<_>>().join("\n")
                };
                let found = (field("event: "), field("data: "));
                self.text = rest.into();
                if found.0.is_empty() {
                    continue;
                }
                return Some(found);
            }
            let piece = tokio::time::timeout(PATIENCE, self.pieces.next()).await;
            let piece = piece.expect("something comes")?.ok()?;
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    async fn message(&mut self) -> Value {
        let (name, data) = self.event().await.unwrap();
        assert_eq!(name, "message");
        serde_json::from_str(&data).unwrap()
    }

    async fn say(&self, rig: &Rig, key: &str, message: &Value) -> Response {
        rig.post(&self.endpoint, key, message).await
    }
}

fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}})
}

fn call(id: u32, expression: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
        "params": {"name": "calculator", "arguments": {"expression": expression}}})
}

#[tokio::test]
async fn a_client_hears_on_one_stream_what_it_asks_by_posts() {
    let rig = Rig::start().await;
    let key = rig.key("acme", "ursula", Role::User, &[]).await;
    for path in ["/mcp/sse", "/api/v1/mcp/sse", "/servers/forebay/mcp/sse"] {
        let mut listener = Listener::open(&rig, path, &key).await;
        let beside = path.replace("/sse", "/messages?sessionId=");
        assert!(listener.endpoint.starts_with(&beside), "{}", listener.endpoint);
        let taken = listener.say(&rig, &key, &initialize()).await;
        assert_eq!((taken.status().as_u16(), taken.content_length()), (202, Some(0)));
        assert_eq!(listener.message().await["result"]["protocolVersion"], "2024-11-05");
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(listener.say(&rig, &key, &initialized).await.status(), 202);
        listener.say(&rig, &key, &call(2, "6 * 7")).await;
        let answer = listener.message().await;
        assert_eq!(
            (&answer["id"], &answer["result"]["content"][0]["text"]),
            (&json!(2), &json!("42")),
            "{answer}"
        );
    }
    eventually("streams that nobody reads are closed", || async {
        rig.gateway.app.pipes.count() == 0
    })
    .await;
}

#[tokio::test]
async fn a_stream_is_its_clients_alone() {
    let rig = Rig::start().await;
    let key = rig.key("acme", "ursula", Role::User, &[]).await;
    let second = rig.key("acme", "ursula", Role::User, &[]).await;
    let mut listener = Listener::open(&rig, "/mcp/sse", &key).await;
    let elsewhere = listener.endpoint.replace("/mcp/", "/servers/forebay/mcp/");
    let guessed = format!("/mcp/messages?sessionId={}", "0".repeat(40));
    for (path, who, status) in [
        (listener.endpoint.as_str(), second.as_str(), 404),
        (&listener.endpoint, &rig.admin, 404),
        (&listener.endpoint, "", 401),
        (&elsewhere, &key, 404),
        (&guessed, &key, 404),
        ("/mcp/messages", &key, 400),
    ] {
        let refused = rig.post(path, who, &initialize()).await;
        assert_eq!(refused.status(), status, "{path}");
    }
    let no_json = rig.request("POST", &listener.endpoint, &key).body("{}").send();
    assert_eq!(no_json.await.unwrap().status(), 415);
    let unknown = rig.request("GET", "/servers/nobody/mcp/sse", &key).send();
    assert_eq!(unknown.await.unwrap().status(), 404);
    assert_eq!(rig.gateway.app.pipes.count(), 1, "what was refused holds no place");
    listener.say(&rig, &key, &initialize()).await;
    assert_eq!(listener.message().await["id"], 1, "and it hears nothing of the others");
}

#[tokio::test]
async fn a_stream_that_has_ended_takes_no_posts() {
    let rig = Rig::start().await;
    let key = rig.key("acme", "ursula", Role::User, &[]).await;
    let mut listener = Listener::open(&rig, "/mcp/sse", &key).await;
    listener.say(&rig, &key, &initialize()).await;
    listener.message().await;
    let endpoint = listener.endpoint.clone();
    drop(listener);
    eventually("its id is forgotten", || async {
        rig.post(&endpoint, &key, &call(2, "1")).await.status() == 404
    })
    .await;
    assert_eq!(rig.gateway.app.pipes.count(), 0);
}

#[tokio::test]
async fn revoking_a_key_ends_its_streams_and_draining_all() {
    let rig = Rig::start().await;
    let key = rig.key("acme", "ursula", Role::User, &[]).await;
    let other = rig.key("acme", "otto", Role::User, &[]).await;
    let mut theirs = Listener::open(&rig, "/mcp/sse", &key).await;
    let mut others = Listener::open(&rig, "/mcp/sse", &other).await;
    let id = key.split('_').nth(1).unwrap();
    rig.request("DELETE", &format!("/api/v1/keys/{id}"), &rig.admin)
        .send()
        .await
        .unwrap();
    assert_eq!(theirs.event().await, None);
    others.say(&rig, &other, &initialize()).await;
    assert_eq!(others.message().await["id"], 1, "others go on");
    rig.gateway.tasks().stop().drain();
    assert_eq!(others.event().await, None);
    eventually("nothing is left open", || async { rig.gateway.app.pipes.count() == 0 }).await;
}

#[tokio::test]
async fn a_stream_ends_when_its_key_expires() {
    let rig = Rig::start().await;
    let key = rig.key_for("ursula", SHORT_LIFE).await;
    let mut theirs = Listener::open(&rig, "/mcp/sse", &key).await;
    assert_eq!(theirs.event().await, None);
    assert_eq!(theirs.say(&rig, &key, &initialize()).await.status(), 401);
    eventually("nothing is left open", || async { rig.gateway.app.pipes.count() == 0 }).await;
}

#[tokio::test]
async fn one_key_has_only_so_many_streams() {
    let rig = Rig::start().await;
    let key = rig.key("acme", "ursula", Role::User, &[]).await;
    let mut held = Vec::new();
    let refused = loop {
        let response = rig.request("GET", "/mcp/sse", &key).send().await.unwrap();
        if response.status() != 200 {
            break response;
        }
        held.push(response);
    };
    assert_eq!((held.len(), refused.status().as_u16()), (100, 503));
    assert_eq!(
        rig.get("/mcp/sse").await.status(),
        200,
        "others have places of their own"
    );
}
