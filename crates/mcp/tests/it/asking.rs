//! Servers that ask their client something, in either era.

use crate::{
    actor::Actor,
    support::{Gate, Got, Wish, keyed, message_of, modern_request, principal, request},
};
use forebay_domain::{Principal, Role, id::KeyId};
use forebay_mcp::ReplyBody;
use futures_util::{StreamExt, stream::BoxStream};
use serde_json::{Value, json};
use std::time::Duration;

/// A session whose client can be asked.
async fn session(gate: &Gate, user: &Principal, version: &str) -> String {
    let params = json!({"protocolVersion": version, "capabilities": {"elicitation": {}, "roots": {}}, "clientInfo": {"name": "t", "version": "0"}});
    let got = gate.post(user, &[], &request(1, "initialize", &params)).await;
    got.headers["mcp-session-id"].to_str().unwrap().to_owned()
}

fn call(id: u64, tool: &str) -> String {
    request(id, "tools/call", &json!({"name": tool, "arguments": {}}))
}

/// The next message of a stream.
async fn message(stream: &mut BoxStream<'static, bytes::Bytes>) -> Option<Value> {
    loop {
        let chunk = stream.next().await?;
        if let Some(message) = message_of(std::str::from_utf8(&chunk).unwrap()) {
            return Some(message);
        }
    }
}

fn answer(id: &Value, result: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
}

async fn stream(gate: &Gate, user: &Principal, session: &str, body: &str) -> BoxStream<'static, bytes::Bytes> {
    let reply = gate.send(user, &[("mcp-session-id", session)], body).await;
    match reply.body {
        ReplyBody::Events(stream) => stream,
        other => panic!("no stream but {other:?}"),
    }
}

/// One request of 2026-07-28 of a client that can be asked.
async fn modern(gate: &Gate, user: &Principal, tool: &str, more: &Value) -> Got {
    let mut params = json!({"name": tool, "arguments": {}});
    for (name, value) in more.as_object().unwrap() {
        params[name] = value.clone();
    }
    let (headers, body) = modern_request("tools/call", params);
    let mut body: Value = serde_json::from_str(&body).unwrap();
    body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({"elicitation": {}, "roots": {}});
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    gate.post(user, &headers, &body.to_string()).await
}

#[tokio::test]
async fn a_session_is_asked_on_the_stream_of_its_call() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let user = principal(Role::User);
    for version in ["2025-03-26", "2025-11-25"] {
        let id = session(&gate, &user, version).await;
        let mut events = stream(&gate, &user, &id, &call(7, "ask")).await;
        let question = message(&mut events).await.unwrap();
        assert_eq!(question["method"], "elicitation/create");
        assert_eq!(question["params"]["message"], "Name?");
        let reply = answer(
            &question["id"],
            &json!({"action": "accept", "content": {"name": "Ann"}}),
        );
        let other = session(&gate, &user, version).await;
        for (from, body) in [(&other, &reply), (&id, &answer(&json!(99), &json!({}))), (&id, &reply)] {
            let got = gate.post(&user, &[("mcp-session-id", from)], body).await;
            assert_eq!(got.status, 202, "whatever is answered is taken");
        }
        let result = message(&mut events).await.unwrap();
        assert_eq!(result["id"], 7);
        let told = result["result"]["content"][0]["text"].as_str().unwrap();
        assert!(
            told.contains("Ann"),
            "the session that was asked is the one that counts: {told}"
        );
        assert_eq!(message(&mut events).await, None);
    }
}

#[tokio::test]
async fn a_sessions_refusal_is_told_to_the_tool() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let user = principal(Role::User);
    let id = session(&gate, &user, "2025-11-25").await;
    let mut events = stream(&gate, &user, &id, &call(7, "ask")).await;
    let question = message(&mut events).await.unwrap();
    let refusal = json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "Not now."}});
    gate.post(&user, &[("mcp-session-id", &id)], &refusal.to_string()).await;
    let result = message(&mut events).await.unwrap();
    assert!(
        result["result"]["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("Not now.")
    );
}

#[tokio::test]
async fn whoever_cannot_be_asked_is_told_which_capability_is_missing() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let user = principal(Role::User);
    let got = gate.modern(&user, "tools/call", json!({"name": "ask"})).await;
    assert_eq!(got.error(), (400, -32021, "missing_client_capability".to_owned()));
    assert_eq!(
        got.body["error"]["data"]["requiredCapabilities"],
        json!({"elicitation": {}})
    );
    let got = gate.modern(&user, "tools/call", json!({"name": "input"})).await;
    assert_eq!(got.error(), (400, -32021, "missing_client_capability".to_owned()));
    let legacy = gate.open_session(&user, "2025-11-25").await;
    let got = gate.post(&user, &[("mcp-session-id", &legacy)], &call(2, "ask")).await;
    assert_eq!(got.body["error"]["code"], -32021);
    let able = session(&gate, &user, "2025-11-25").await;
    let json_only = [("mcp-session-id", able.as_str()), ("accept", "application/json")];
    let got = gate.post(&user, &json_only, &call(3, "ask")).await;
    assert!(
        got.body["result"]["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("CLIENT_SILENT")
    );
}

#[tokio::test]
async fn an_older_client_is_asked_what_a_result_asks() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let user = principal(Role::User);
    let id = session(&gate, &user, "2025-06-18").await;
    let mut events = stream(&gate, &user, &id, &call(7, "input")).await;
    for key in ["first", "second"] {
        let question = message(&mut events).await.unwrap();
        assert_eq!(question["params"]["message"], key);
        gate.post(
            &user,
            &[("mcp-session-id", &id)],
            &answer(&question["id"], &json!({"said": key})),
        )
        .await;
    }
    let result = message(&mut events).await.unwrap();
    let told = result["result"]["content"][0]["text"].as_str().unwrap();
    assert_eq!(told, r#"{"first":{"said":"first"}} {"second":{"said":"second"}}"#);
    assert!(result["result"].get("resultType").is_none());
}

#[tokio::test]
async fn a_modern_client_brings_answers_to_a_call_that_waits() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let user = principal(Role::User);
    let got = modern(&gate, &user, "ask_two", &json!({})).await;
    let asked = &got.body["result"];
    assert_eq!(asked["resultType"], "input_required");
    assert_eq!(asked["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "forebay");
    let methods: Vec<_> = ["q1", "q2"]
        .map(|key| asked["inputRequests"][key]["method"].clone())
        .into();
    assert_eq!(methods, [json!("elicitation/create"), json!("roots/list")]);
    assert_eq!(gate.front.parked_calls(), 1);

    let partly = json!({"requestState": asked["requestState"], "inputResponses": {"q1": {"n": 1}, "other": {}}});
    let got = modern(&gate, &user, "ask_two", &partly).await;
    let again = &got.body["result"];
    assert_eq!(
        again["inputRequests"].as_object().unwrap().len(),
        1,
        "only what is missing is asked again"
    );
    assert_ne!(again["requestState"], asked["requestState"]);

    let stale = modern(&gate, &user, "ask_two", &partly).await;
    assert_eq!(stale.error(), (200, -32602, "invalid_request_state".to_owned()));
    let rest = json!({"requestState": again["requestState"], "inputResponses": {"q2": {"roots": []}}});
    let got = modern(&gate, &user, "ask_two", &rest).await;
    assert_eq!(got.body["result"]["content"][0]["text"], r#"{"n":1} {"roots":[]}"#);
    assert_eq!(gate.front.parked_calls(), 0);
    assert_eq!(
        gate.events(1).await.len(),
        1,
        "one call, however often its client came back"
    );
}

#[tokio::test]
async fn a_state_is_nobody_elses_and_cannot_be_altered() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let user = keyed(Role::User, "k1");
    for tool in ["ask", "input"] {
        let got = modern(&gate, &user, tool, &json!({})).await;
        let state = got.body["result"]["requestState"].as_str().unwrap().to_owned();
        let responses = json!({"q1": {}, "first": {}});
        let retry = |state: &str| json!({"requestState": state, "inputResponses": responses});
        for (who, tool, state) in [
            (keyed(Role::User, "k2"), tool, state.clone()),
            (user.clone(), "wait", state.clone()),
            (user.clone(), tool, format!("{state}-TAMPERED")),
            (user.clone(), tool, String::new()),
        ] {
            let got = modern(&gate, &who, tool, &retry(&state)).await;
            assert_eq!(
                got.error(),
                (200, -32602, "invalid_request_state".to_owned()),
                "{tool} {state}"
            );
        }
        let got = modern(&gate, &user, tool, &retry(&state)).await;
        assert!(got.body["result"].is_object(), "the right one still counts: {got:?}");
        gate.clock.advance(Duration::from_mins(10));
        let got = modern(&gate, &user, tool, &retry(&state)).await;
        assert_eq!(got.error().2, "invalid_request_state", "too late");
    }
}

#[tokio::test]
async fn a_servers_own_rounds_go_through_with_its_state_signed() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let user = principal(Role::User);
    let first = modern(&gate, &user, "input", &json!({})).await;
    let result = &first.body["result"];
    assert_eq!(result["x-own"], json!(1.0), "what nobody here knows stays");
    assert_ne!(result["requestState"], "after first");
    let without = modern(&gate, &user, "input", &json!({"inputResponses": {"wrong": {}}})).await;
    assert_eq!(without.body["result"]["resultType"], "input_required");
    let retry = json!({"requestState": result["requestState"], "inputResponses": {"first": {"a": 1}}});
    let second = modern(&gate, &user, "input", &retry).await;
    let retry = json!({"requestState": second.body["result"]["requestState"], "inputResponses": {"second": {}}});
    let last = modern(&gate, &user, "input", &retry).await;
    assert_eq!(
        last.body["result"]["content"][0]["text"],
        r#"{"first":{"a":1}} {"second":{}}"#
    );
    assert_eq!(gate.front.parked_calls(), 0);
}

#[tokio::test]
async fn a_revoked_key_ends_the_calls_that_wait() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let user = keyed(Role::User, "k1");
    modern(&gate, &user, "ask", &json!({})).await;
    assert_eq!(gate.front.parked_calls(), 1);
    gate.front.close_key(&KeyId::try_from("k1").unwrap());
    let events = gate.events(1).await;
    assert_eq!(events[0].outcome, forebay_domain::event::Outcome::Cancelled);
    assert_eq!(gate.front.parked_calls(), 0);
}

#[tokio::test]
async fn an_expired_key_ends_the_calls_that_wait() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let hour = Duration::from_hours(1);
    let user = Principal {
        good_until: Some(gate.clock.now() + hour),
        ..keyed(Role::User, "k1")
    };
    modern(&gate, &user, "ask", &json!({})).await;
    modern(&gate, &keyed(Role::User, "k2"), "ask", &json!({})).await;
    assert_eq!(gate.front.parked_calls(), 2);
    gate.clock.advance(hour);
    let events = gate.events(1).await;
    assert_eq!(events[0].outcome, forebay_domain::event::Outcome::Cancelled);
    assert_eq!(gate.front.parked_calls(), 1, "others go on waiting");
}

#[tokio::test]
async fn only_so_many_calls_of_one_caller_wait() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let user = principal(Role::User);
    let first = modern(&gate, &user, "ask", &json!({})).await;
    for _ in 0..32 {
        modern(&gate, &user, "ask", &json!({})).await;
    }
    assert_eq!(gate.front.parked_calls(), 32);
    let retry = json!({"requestState": first.body["result"]["requestState"], "inputResponses": {"q1": {}}});
    let got = modern(&gate, &user, "ask", &retry).await;
    assert_eq!(got.error().2, "invalid_request_state", "the oldest made room");
}
