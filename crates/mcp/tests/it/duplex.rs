//! One pipe for everything, in both eras.

use crate::{
    actor::Actor,
    support::{Gate, Wish, keyed, principal, request, trace},
};
use bytes::Bytes;
use forebay_domain::{Principal, Role, id::KeyId};
use forebay_mcp::{
    DuplexHandle, Scope,
    source::{Change, Source},
};
use futures_util::{StreamExt, stream::BoxStream};
use serde_json::{Value, json};
use std::time::Duration;

struct Pipe {
    handle: DuplexHandle,
    out: BoxStream<'static, Bytes>,
}

impl Pipe {
    fn open(gate: &Gate, user: &Principal) -> Self {
        let (handle, out) = gate.front.connect(user.clone(), Scope::Whole, trace()).unwrap();
        Self {
            handle,
            out: out.boxed(),
        }
    }

    async fn send(&self, body: &str) {
        self.handle.receive(Bytes::from(body.to_owned())).await.unwrap();
    }

    async fn next(&mut self) -> Option<Value> {
        let next = tokio::time::timeout(Duration::from_secs(20), self.out.next());
        let message = next.await.expect("something comes")?;
        Some(serde_json::from_slice(&message).unwrap())
    }

    async fn ask(&mut self, body: &str) -> Value {
        self.send(body).await;
        self.next().await.unwrap()
    }

    async fn shake_hands(&mut self, version: &str) {
        let params = json!({"protocolVersion": version, "capabilities": {"elicitation": {}}, "clientInfo": {"name": "t", "version": "0"}});
        let answer = self.ask(&request(1, "initialize", &params)).await;
        assert_eq!(answer["result"]["protocolVersion"], version);
        self.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
            .await;
    }
}

fn modern(id: u64, method: &str, mut params: Value) -> String {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({"elicitation": {}});
    request(id, method, &params)
}

fn cancelled(id: u64) -> String {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}).to_string()
}

#[tokio::test]
async fn a_session_is_asked_and_answers_on_its_pipe() {
    let gate = Gate::open(Wish::default()).await;
    let actor = Actor::join(&gate);
    let mut pipe = Pipe::open(&gate, &principal(Role::User));
    let early = pipe.ask(&request(9, "tools/list", &json!({}))).await;
    assert_eq!(
        early["error"]["data"]["code"], "invalid_request",
        "the handshake comes first"
    );
    for version in ["2024-11-05", "2025-11-25"] {
        pipe.shake_hands(version).await;
        let wait = json!({"name": "wait", "arguments": {}});
        pipe.send(&request(2, "tools/call", &wait)).await;
        let question = pipe
            .ask(&request(3, "tools/call", &json!({"name": "ask", "arguments": {}})))
            .await;
        let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"name": "Ann"}});
        let answered = pipe.ask(&answer.to_string()).await;
        assert_eq!(
            (&answered["id"], &answered["result"]["content"][0]["text"]),
            (&json!(3), &json!(r#"{"name":"Ann"}"#))
        );
        actor.release.add_permits(1);
        assert_eq!(pipe.next().await.unwrap()["id"], 2, "requests run side by side");
    }
    assert_eq!(gate.sessions.count(), 1, "a second handshake replaces the first");
    gate.catalogue.announce(actor.as_ref(), Change::Tools);
    assert_eq!(pipe.next().await.unwrap()["method"], "notifications/tools/list_changed");
    drop(pipe);
    while gate.sessions.count() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_modern_era_needs_no_headers_there() {
    let gate = Gate::open(Wish::default()).await;
    let actor = Actor::join(&gate);
    let mut pipe = Pipe::open(&gate, &principal(Role::User));
    let found = pipe.ask(&modern(1, "server/discover", json!({}))).await;
    assert_eq!(found["result"]["resultType"], "complete");
    let asked = pipe.ask(&modern(2, "tools/call", json!({"name": "ask"}))).await;
    assert_eq!(asked["result"]["resultType"], "input_required");
    let retry =
        json!({"name": "ask", "requestState": asked["result"]["requestState"], "inputResponses": {"q1": {"n": 1}}});
    let done = pipe.ask(&modern(3, "tools/call", retry)).await;
    assert_eq!(done["result"]["content"][0]["text"], r#"{"n":1}"#);
    let unsupported = request(
        4,
        "tools/list",
        &json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "1900-01-01"}}),
    );
    assert_eq!(pipe.ask(&unsupported).await["error"]["code"], -32022);
    assert_eq!(pipe.ask("{").await["error"]["code"], -32700);

    let listen = modern(
        5,
        "subscriptions/listen",
        json!({"notifications": {"toolsListChanged": true}}),
    );
    let opening = pipe.ask(&listen).await;
    assert_eq!(opening["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 5);
    gate.catalogue.announce(actor.as_ref(), Change::Tools);
    assert_eq!(pipe.next().await.unwrap()["method"], "notifications/tools/list_changed");
    pipe.send(&cancelled(5)).await;
    let ping = pipe.ask(&request(6, "ping", &json!({}))).await;
    assert_eq!(ping["id"], 6);
    gate.catalogue.announce(actor.as_ref(), Change::Tools);
    assert_eq!(
        pipe.ask(&request(7, "ping", &json!({}))).await["id"],
        7,
        "nobody listens any more"
    );
}

#[tokio::test]
async fn what_is_taken_back_gets_no_answer() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let mut pipe = Pipe::open(&gate, &principal(Role::User));
    pipe.shake_hands("2025-06-18").await;
    let wait = json!({"name": "wait", "arguments": {}});
    pipe.send(&request(2, "tools/call", &wait)).await;
    pipe.send(&modern(3, "tools/call", wait.clone())).await;
    let twice = pipe.ask(&request(2, "ping", &json!({}))).await;
    assert_eq!(
        twice["error"]["data"]["code"], "invalid_request",
        "an id that is under way"
    );
    for id in [2, 3] {
        pipe.send(&cancelled(id)).await;
    }
    assert_eq!(pipe.ask(&request(4, "ping", &json!({}))).await["id"], 4);
    let events = gate.events(2).await;
    assert!(
        events
            .iter()
            .all(|event| event.outcome == forebay_domain::event::Outcome::Cancelled)
    );
}

#[tokio::test]
async fn a_connection_with_all_it_may_have_under_way_still_hears_its_client() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let mut pipe = Pipe::open(&gate, &principal(Role::User));
    pipe.shake_hands("2025-03-26").await;
    let question = pipe
        .ask(&request(1, "tools/call", &json!({"name": "ask", "arguments": {}})))
        .await;
    for id in 2..=256 {
        pipe.send(&request(id, "tools/call", &json!({"name": "wait", "arguments": {}})))
            .await;
    }
    let refused = pipe.ask(&request(257, "ping", &json!({}))).await;
    assert_eq!(
        (&refused["id"], &refused["error"]["data"]["code"]),
        (&json!(257), &json!("overloaded"))
    );
    let batch = format!("[{},{}]", request(258, "ping", &json!({})), cancelled(2));
    let refused = pipe.ask(&batch).await;
    assert_eq!(refused[0]["error"]["data"]["code"], "overloaded");
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"name": "Ann"}});
    assert_eq!(pipe.ask(&answer.to_string()).await["id"], 1, "an answer gets in");
    pipe.send(&cancelled(3)).await;
    let events = gate.events(3).await;
    let ended = events
        .iter()
        .filter(|event| event.outcome == forebay_domain::event::Outcome::Cancelled);
    assert_eq!(ended.count(), 2, "and so does what is taken back, also in a batch");
    assert_eq!(pipe.ask(&request(259, "ping", &json!({}))).await["id"], 259);
}

#[tokio::test]
async fn a_call_that_was_taken_up_again_can_be_taken_back() {
    let gate = Gate::open(Wish::default()).await;
    let actor = Actor::join(&gate);
    let mut pipe = Pipe::open(&gate, &principal(Role::User));
    let asked = pipe.ask(&modern(1, "tools/call", json!({"name": "ask_wait"}))).await;
    let retry =
        json!({"name": "ask_wait", "requestState": asked["result"]["requestState"], "inputResponses": {"q1": {}}});
    pipe.send(&modern(2, "tools/call", retry)).await;
    pipe.send(&cancelled(2)).await;
    let events = gate.events(1).await;
    assert_eq!(events[0].outcome, forebay_domain::event::Outcome::Cancelled);
    actor.release.add_permits(1);
    let ping = pipe.ask(&request(3, "ping", &json!({}))).await;
    assert_eq!(ping["id"], 3, "it gets no answer");
}

#[tokio::test]
async fn batches_are_for_the_oldest_versions() {
    let gate = Gate::open(Wish::default()).await;
    let mut pipe = Pipe::open(&gate, &principal(Role::User));
    let batch = format!(
        "[{},{}]",
        request(2, "ping", &json!({})),
        request(3, "ping", &json!({}))
    );
    for (version, taken) in [("2024-11-05", true), ("2025-03-26", true), ("2025-06-18", false)] {
        pipe.shake_hands(version).await;
        let answer = pipe.ask(&batch).await;
        assert_eq!(
            answer.as_array().map(Vec::len),
            taken.then_some(2),
            "{version}: {answer}"
        );
    }
}

#[tokio::test]
async fn each_request_of_a_batch_counts_against_the_limit() {
    let wish = Wish {
        batched_per_minute: 1,
        ..Wish::default()
    };
    let gate = Gate::open(wish).await;
    let mut pipe = Pipe::open(&gate, &principal(Role::User));
    pipe.shake_hands("2025-03-26").await;
    let pings: Vec<String> = (2..5).map(|id| request(id, "ping", &json!({}))).collect();
    let answers = pipe.ask(&format!("[{}]", pings.join(","))).await;
    assert!(answers[0]["result"].is_object() && answers[1]["result"].is_object());
    assert_eq!(answers[2]["error"]["data"]["code"], "rate_limited");
}

#[tokio::test]
async fn a_connection_ends_with_its_key_and_finishes_what_it_began() {
    let gate = Gate::open(Wish::default()).await;
    let actor = Actor::join(&gate);
    let user = keyed(Role::User, "k1");
    let mut revoked = Pipe::open(&gate, &user);
    revoked.shake_hands("2025-11-25").await;
    gate.front.close_key(&KeyId::try_from("k1").unwrap());
    assert_eq!(revoked.next().await, None);
    revoked.handle.closed().await;
    assert!(revoked.handle.receive(Bytes::from_static(b"{}")).await.is_err());

    let mut left = Pipe::open(&gate, &keyed(Role::User, "k2"));
    left.shake_hands("2025-11-25").await;
    left.send(&request(2, "tools/call", &json!({"name": "wait", "arguments": {}})))
        .await;
    let Pipe { handle, mut out } = left;
    drop(handle);
    actor.release.add_permits(1);
    let last: Value = serde_json::from_slice(&out.next().await.unwrap()).unwrap();
    assert_eq!(last["id"], 2, "nothing more comes in, and what was begun is finished");
    assert_eq!(out.next().await, None);
}

#[tokio::test]
async fn a_connection_ends_when_its_key_expires() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let hour = Duration::from_hours(1);
    let user = Principal {
        good_until: Some(gate.clock.now() + hour),
        ..keyed(Role::User, "k1")
    };
    let mut pipe = Pipe::open(&gate, &user);
    let mut others = Pipe::open(&gate, &keyed(Role::User, "k2"));
    pipe.shake_hands("2025-11-25").await;
    others.shake_hands("2025-11-25").await;
    pipe.send(&request(2, "tools/call", &json!({"name": "wait", "arguments": {}})))
        .await;
    gate.clock.advance(hour);
    assert_eq!(pipe.next().await, None);
    assert_eq!(gate.sessions.count(), 1);
    let ping = others.ask(&request(2, "ping", &json!({}))).await;
    assert_eq!(ping["id"], 2, "others go on");
}

#[tokio::test]
async fn there_is_no_connection_to_nowhere() {
    let gate = Gate::open(Wish::default()).await;
    let scope = Scope::Server("nobody".into());
    let failure = gate.front.connect(principal(Role::User), scope, trace()).err().unwrap();
    assert_eq!(failure.code, forebay_domain::Code::UnknownServer);
    assert_eq!(Actor::new().name(), "actor");
}
