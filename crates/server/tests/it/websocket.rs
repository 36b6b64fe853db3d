//! MCP over a WebSocket, by another implementation's eyes: frames, limits, credentials, and how it ends.

use crate::rig::{Rig, SHORT_LIFE, eventually};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use forebay_domain::Role;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message, client::IntoClientRequest, handshake::client::Response, protocol::frame::coding::CloseCode,
    },
};

const PATIENCE: Duration = Duration::from_secs(20);
const PROTOCOL: &str = "sec-websocket-protocol";

#[derive(Debug)]
struct Client(WebSocketStream<TcpStream>);

async fn connect(rig: &Rig, path: &str, headers: &[(&'static str, &str)]) -> Result<(Client, Response), Error> {
    let stream = TcpStream::connect(rig.gateway.app.bound).await.unwrap();
    let mut request = format!("ws://{}{path}", rig.gateway.app.bound)
        .into_client_request()
        .unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let (socket, response) = client_async(request, stream).await?;
    Ok((Client(socket), response))
}

/// The status with which a handshake is refused.
async fn refused(rig: &Rig, path: &str, headers: &[(&'static str, &str)]) -> u16 {
    match connect(rig, path, headers).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => other.unwrap().1.status().as_u16(),
    }
}

impl Client {
    async fn open(rig: &Rig, path: &str, key: &str) -> Self {
        let (client, response) = connect(rig, path, &[("x-api-key", key), (PROTOCOL, "mcp")])
            .await
            .unwrap();
        assert_eq!(response.headers()[PROTOCOL], "mcp");
        client
    }

    async fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn message(&mut self) -> Value {
        let frame = self.frame().await;
        assert!(frame.is_text(), "{frame:?}");
        serde_json::from_str(frame.to_text().unwrap()).unwrap()
    }

    async fn frame(&mut self) -> Message {
        let frame = tokio::time::timeout(PATIENCE, self.0.next()).await;
        frame.expect("something comes").expect("it is open").unwrap()
    }

    /// The code with which the gateway closes.
    async fn closed(&mut self) -> CloseCode {
        loop {
            if let Message::Close(frame) = self.frame().await {
                return frame.expect("it says why").code;
            }
        }
    }
}

fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}})
}

fn call(id: u32, expression: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
        "params": {"name": "calculator", "arguments": {"expression": expression}}})
}

async fn user(rig: &Rig) -> String {
    rig.key("acme", "ursula", Role::User, &[]).await
}

#[tokio::test]
async fn both_eras_are_spoken_and_calls_run_side_by_side() {
    let rig = Rig::start().await;
    let key = user(&rig).await;
    for path in ["/mcp/ws", "/servers/forebay/mcp/ws"] {
        let mut client = Client::open(&rig, path, &key).await;
        let mut modern = call(7, "6 * 7");
        modern["params"]["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {}});
        client.say(&modern).await;
        let answer = client.message().await;
        assert_eq!(answer["result"]["content"][0]["text"], "42", "{answer}");
        client.say(&initialize()).await;
        assert_eq!(client.message().await["result"]["protocolVersion"], "2025-11-25");
        for id in 10..20 {
            client.say(&call(id, "1 + 1")).await;
        }
        let mut answered = Vec::new();
        for _ in 10..20 {
            let answer = client.message().await;
            assert_eq!(answer["result"]["content"][0]["text"], "2", "{answer}");
            answered.push(answer["id"].as_u64().unwrap());
        }
        answered.sort_unstable();
        assert_eq!(answered, (10..20).collect::<Vec<_>>());
        client.0.send(Message::text("{")).await.unwrap();
        assert_eq!(client.message().await["error"]["code"], -32700);
    }
    eventually("a client that goes leaves nothing behind", || async {
        rig.gateway.app.pipes.count() == 0
    })
    .await;
}

#[tokio::test]
async fn a_handshake_is_let_in_by_key_name_and_origin() {
    let rig = Rig::start().await;
    let key = user(&rig).await;
    assert_eq!(refused(&rig, "/mcp/ws", &[]).await, 401);
    assert_eq!(refused(&rig, "/mcp/ws", &[("x-api-key", "fb_wrong")]).await, 401);
    let stranger = [("x-api-key", key.as_str()), ("origin", "https://evil.example")];
    assert_eq!(refused(&rig, "/mcp/ws", &stranger).await, 403);
    let rebound = [("x-api-key", key.as_str()), ("host", "evil.example")];
    assert_eq!(refused(&rig, "/mcp/ws", &rebound).await, 403);
    let page = [("x-api-key", key.as_str()), ("origin", "http://localhost:3000")];
    assert_eq!(refused(&rig, "/mcp/ws", &page).await, 101);
    assert_eq!(
        refused(&rig, "/servers/nobody/mcp/ws", &[("x-api-key", &key)]).await,
        404
    );
    let plain = rig.request("GET", "/mcp/ws", &key).send().await.unwrap();
    assert_eq!(plain.status(), 400);
}

#[tokio::test]
async fn a_browser_shows_its_key_among_the_subprotocols_and_never_sees_it_again() {
    let rig = Rig::start().await;
    let key = user(&rig).await;
    let offer = |key: &str| format!("mcp, forebay.bearer.{}", BASE64_URL_SAFE_NO_PAD.encode(key));
    let (mut client, response) = connect(&rig, "/mcp/ws", &[(PROTOCOL, &offer(&key))]).await.unwrap();
    let agreed: Vec<_> = response.headers().get_all(PROTOCOL).iter().collect();
    assert_eq!(agreed, ["mcp"]);
    client.say(&initialize()).await;
    assert_eq!(client.message().await["id"], 1);
    assert_eq!(refused(&rig, "/mcp/ws", &[(PROTOCOL, &offer("fb_wrong"))]).await, 401);
    let query = format!("/mcp/ws?key={key}&access_token={key}");
    assert_eq!(
        refused(&rig, &query, &[(PROTOCOL, "mcp")]).await,
        401,
        "never by the query"
    );
    let over_http = rig
        .request("GET", "/v1/models", "")
        .header(PROTOCOL, offer(&key))
        .send()
        .await
        .unwrap();
    assert_eq!(over_http.status(), 401, "only for handshakes");
}

#[tokio::test]
async fn what_is_no_message_ends_the_connection_with_its_code() {
    let rig = Rig::with(|config| config.server.body_bytes_max = 64 << 10).await;
    let key = user(&rig).await;
    let mut client = Client::open(&rig, "/mcp/ws", &key).await;
    client.0.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(client.closed().await, CloseCode::Unsupported);
    let mut client = Client::open(&rig, "/mcp/ws", &key).await;
    client.say(&call(1, &" ".repeat(60 << 10))).await;
    assert!(client.message().await.get("id").is_some(), "just below the limit");
    client.0.send(Message::text("x".repeat((64 << 10) + 1))).await.unwrap();
    assert_eq!(client.closed().await, CloseCode::Size);
    let mut client = Client::open(&rig, "/mcp/ws", &key).await;
    client.say(&initialize()).await;
    client.message().await;
    client.0.close(None).await.unwrap();
    eventually("all of them are gone", || async { rig.gateway.app.pipes.count() == 0 }).await;
}

#[tokio::test]
async fn revoking_a_key_ends_its_connections_and_draining_all() {
    let rig = Rig::start().await;
    let key = user(&rig).await;
    let other = rig.key("acme", "otto", Role::User, &[]).await;
    let mut theirs = Client::open(&rig, "/mcp/ws", &key).await;
    let mut others = Client::open(&rig, "/mcp/ws", &other).await;
    let id = key.split('_').nth(1).unwrap();
    rig.request("DELETE", &format!("/api/v1/keys/{id}"), &rig.admin)
        .send()
        .await
        .unwrap();
    assert_eq!(theirs.closed().await, CloseCode::Policy);
    others.say(&initialize()).await;
    assert_eq!(others.message().await["id"], 1, "others go on");
    rig.gateway.tasks().stop().drain();
    assert_eq!(others.closed().await, CloseCode::Away);
}

#[tokio::test]
async fn a_connection_ends_when_its_key_expires() {
    let rig = Rig::start().await;
    let key = rig.key_for("ursula", SHORT_LIFE).await;
    let mut theirs = Client::open(&rig, "/mcp/ws", &key).await;
    let mut others = Client::open(&rig, "/mcp/ws", &user(&rig).await).await;
    assert_eq!(theirs.closed().await, CloseCode::Policy);
    others.say(&initialize()).await;
    assert_eq!(others.message().await["id"], 1, "others go on");
}

#[tokio::test]
async fn messages_count_as_requests_and_wait_for_their_turn() {
    let rig = Rig::with(|config| config.limits.requests_per_minute = 60).await;
    let key = user(&rig).await;
    let mut client = Client::open(&rig, "/mcp/ws", &key).await;
    client.say(&initialize()).await;
    client.message().await;
    // One for the handshake and one for the message above: 58 are left.
    for id in 0..59 {
        client.say(&json!({"jsonrpc": "2.0", "id": id, "method": "ping"})).await;
    }
    for _ in 0..58 {
        client.message().await;
    }
    let over = rig.request("GET", "/v1/models", &key).send().await.unwrap();
    assert_eq!(over.status(), 429, "the limit is one, whatever the transport");
    assert_eq!(client.message().await["result"], json!({}), "late, but not lost");
}

#[tokio::test]
async fn a_ping_is_answered() {
    let rig = Rig::start().await;
    let key = user(&rig).await;
    let mut client = Client::open(&rig, "/mcp/ws", &key).await;
    client.0.send(Message::Ping("hello".into())).await.unwrap();
    assert_eq!(client.frame().await, Message::Pong("hello".into()));
}
