//! What the stdio bridge carries beside requests and answers: questions, subscriptions, streams that are taken up again,
//! headers of which its client knows nothing.

use crate::{
    actor::Actor,
    stdio::{Client, KEY, serve},
    support::{Gate, Wish, modern_request, request},
};
use forebay_mcp::source::Change;
use serde_json::{Value, json};
use std::time::Duration;

fn initialize() -> String {
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}},
        "clientInfo": {"name": "t", "version": "0"}});
    request(1, "initialize", &params)
}

fn call(id: u64, tool: &str) -> String {
    request(id, "tools/call", &json!({"name": tool, "arguments": {}}))
}

fn modern(id: u64, method: &str, params: Value) -> String {
    let mut message: Value = serde_json::from_str(&modern_request(method, params).1).unwrap();
    message["id"] = json!(id);
    message.to_string()
}

async fn shake_hands(client: &mut Client) {
    client.write(&initialize()).await;
    assert_eq!(client.read().await["id"], 1);
    client
        .write(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
        .await;
}

fn text(message: &Value) -> &str {
    message["result"]["content"][0]["text"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn the_gateway_asks_and_the_client_answers() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let (url, ..) = serve(gate.front.clone()).await;
    let mut client = Client::new(&url, KEY);
    shake_hands(&mut client).await;
    client.write(&call(2, "ask")).await;
    let mut question = client.read().await;
    while question["method"] != "elicitation/create" {
        question = client.read().await;
    }
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"name": "Ann"}});
    client.write(&answer.to_string()).await;
    assert_eq!(text(&client.read().await), r#"{"name":"Ann"}"#);
    assert!(client.finish().await.is_empty());
}

/// More calls than run side by side: those that run have to be answered before the rest is begun.
const CALLS: u64 = 80;

#[tokio::test]
async fn questions_are_answered_however_many_requests_wait() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let (url, ..) = serve(gate.front.clone()).await;
    let mut client = Client::new(&url, KEY);
    shake_hands(&mut client).await;
    for id in 10..10 + CALLS {
        client.write(&call(id, "ask")).await;
    }
    let mut answered = 0;
    while answered < CALLS {
        let message = client.read().await;
        if message["method"] == "elicitation/create" {
            let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": {}});
            client.write(&answer.to_string()).await;
        } else if message["id"].is_u64() {
            assert_eq!(text(&message), "{}", "{message}");
            answered += 1;
        }
    }
    assert!(client.finish().await.is_empty());
}

#[tokio::test]
async fn a_stream_that_the_gateway_lets_go_of_is_taken_up_again() {
    let gate = Gate::open(Wish::default()).await;
    let actor = Actor::join(&gate);
    let (url, ..) = serve(gate.front.clone()).await;
    let mut client = Client::new(&url, KEY);
    shake_hands(&mut client).await;
    client.write(&call(2, "polling")).await;
    // The answer to this one tells that the other has been let go of, and is waited for again.
    client.write(&request(3, "ping", &json!({}))).await;
    let mut message = client.read().await;
    while message["id"] != 3 {
        message = client.read().await;
    }
    actor.release.add_permits(1);
    while message["id"] != 2 {
        message = client.read().await;
    }
    assert_eq!(text(&message), "later", "{message}");
    assert!(client.finish().await.is_empty());
}

#[tokio::test]
async fn headers_that_a_tool_asks_for_are_found_out() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let (url, ..) = serve(gate.front.clone()).await;
    let mut client = Client::new(&url, KEY);
    for (id, region) in [(1, "eu"), (2, "us west\u{e4}")] {
        let params = json!({"name": "routed", "arguments": {"region": region}});
        client.write(&modern(id, "tools/call", params)).await;
        let answer = client.read().await;
        assert_eq!(answer["id"], id);
        let told: Value = serde_json::from_str(text(&answer)).unwrap_or_default();
        assert_eq!(told["arguments"]["region"], region, "{answer}");
    }
    client
        .write(&modern(3, "tools/call", json!({"name": "routed", "arguments": {}})))
        .await;
    assert!(client.read().await["result"].is_object(), "no argument, no header");
    assert!(client.finish().await.is_empty());
}

#[tokio::test]
async fn a_subscription_is_heard_until_the_client_has_said_all() {
    let gate = Gate::open(Wish::default()).await;
    let actor = Actor::join(&gate);
    let (url, ..) = serve(gate.front.clone()).await;
    let mut client = Client::new(&url, KEY);
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    client.write(&modern(5, "subscriptions/listen", wanted)).await;
    assert_eq!(
        client.read().await["method"],
        "notifications/subscriptions/acknowledged"
    );
    gate.catalogue.announce(actor.as_ref(), Change::Tools);
    assert_eq!(client.read().await["method"], "notifications/tools/list_changed");
    client.finish().await;
}

#[tokio::test]
async fn what_a_session_was_told_once_is_told_the_next_one_as_well() {
    let (before, after) = (Gate::open(Wish::default()).await, Gate::open(Wish::default()).await);
    Actor::join(&before);
    let actor = Actor::join(&after);
    let (url, served, _server) = serve(before.front.clone()).await;
    let mut client = Client::new(&url, KEY);
    shake_hands(&mut client).await;
    for (id, uri) in [(2, "actor://kept"), (3, "actor://left")] {
        client
            .write(&request(id, "resources/subscribe", &json!({"uri": uri})))
            .await;
        assert!(client.read().await["result"].is_object());
    }
    client
        .write(&request(4, "resources/unsubscribe", &json!({"uri": "actor://left"})))
        .await;
    assert_eq!(client.read().await["id"], 4);
    *served.lock().unwrap() = after.front.clone();
    before.stop.drain();
    client.write(&request(5, "ping", &json!({}))).await;
    let mut message = client.read().await;
    while message["id"] != 5 {
        message = client.read().await;
    }
    assert!(message["result"].is_object(), "{message}");
    // The listener connects in its own time: say it until it is heard.
    let heard: Value = loop {
        for uri in ["actor://left", "actor://kept"] {
            let uri = uri.to_owned();
            after.catalogue.announce(actor.as_ref(), Change::Resource { uri });
        }
        let patience = Duration::from_millis(20);
        if let Ok(line) = tokio::time::timeout(patience, client.output.next_line()).await {
            let message: Value = serde_json::from_str(&line.unwrap().unwrap()).unwrap();
            if message["method"] == "notifications/resources/updated" {
                break message;
            }
        }
    };
    assert_eq!(heard["params"]["uri"], "actor://kept");
}

#[tokio::test]
async fn a_legacy_call_that_is_taken_back_gets_no_answer() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let (url, ..) = serve(gate.front.clone()).await;
    let mut client = Client::new(&url, KEY);
    shake_hands(&mut client).await;
    client.write(&call(2, "ask")).await;
    let mut message = client.read().await;
    while message["method"] != "elicitation/create" {
        message = client.read().await;
    }
    client
        .write(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#)
        .await;
    let rest = client.finish().await;
    assert!(rest.iter().all(|message| message["id"] != 2), "{rest:?}");
}
