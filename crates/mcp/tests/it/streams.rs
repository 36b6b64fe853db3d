//! When an answer is a stream: progress, patience, signs of life, cancellation.

use crate::support::{Gate, Got, Scripted, Wish, keyed, modern_request, principal, request};
use forebay_domain::{Role, event::Outcome as Ending, id::KeyId};
use forebay_mcp::{Reply, ReplyBody};
use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};
use std::time::Duration;

/// Opens the store in real time, which it needs, and then stops the clock.
async fn paused(pieces: &[&str], pause: Duration) -> Gate {
    tokio::time::resume();
    let model = Scripted {
        names: vec!["tiny"],
        pieces: pieces.iter().map(|piece| (*piece).to_owned()).collect(),
        pause,
    };
    let gate = Gate::open(Wish {
        model,
        ..Wish::default()
    })
    .await;
    gate.freeze();
    gate
}

fn chat(meta: &Value) -> Value {
    json!({"name": "chat", "arguments": {"prompt": "?"}, "_meta": meta})
}

async fn start(gate: &Gate, params: Value) -> Reply {
    let (headers, body) = modern_request("tools/call", params);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    gate.send(&principal(Role::User), &headers, &body).await
}

#[tokio::test(start_paused = true)]
async fn progress_comes_before_the_answer() {
    let gate = paused(&["Pa", "ris"], Duration::from_millis(100)).await;
    let got = Got::read(start(&gate, chat(&json!({"progressToken": "t-1"}))).await).await;
    assert_eq!(got.headers["x-accel-buffering"], "no");
    let messages = got.messages();
    let steps: Vec<_> = messages[..2].iter().map(|message| &message["params"]).collect();
    assert_eq!(
        steps[0],
        &json!({"progressToken": "t-1", "progress": 2.0, "message": "Pa"})
    );
    assert_eq!(
        steps[1],
        &json!({"progressToken": "t-1", "progress": 5.0, "message": "ris"})
    );
    assert_eq!(messages[2]["result"]["content"][0]["text"], "Paris");
    assert_eq!(messages.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_silent_call_of_ten_minutes_survives() {
    let gate = paused(&["At last."], Duration::from_secs(595)).await;
    let reply = start(&gate, chat(&json!({}))).await;
    let got = Got::read(reply).await;
    let chunks = got.events.as_deref().unwrap();
    assert_eq!(chunks[0], ": stream\n\n");
    let signs = chunks.iter().filter(|chunk| *chunk == ": keep-alive\n\n").count();
    assert_eq!(signs, 39, "one every 15 s");
    assert_eq!(got.messages()[0]["result"]["content"][0]["text"], "At last.");
}

#[tokio::test(start_paused = true)]
async fn a_client_without_streams_waits_for_plain_json() {
    let gate = paused(&["At last."], Duration::from_mins(2)).await;
    let (mut headers, body) = modern_request("tools/call", chat(&json!({"progressToken": 1})));
    headers.push(("accept", "application/json".to_owned()));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let got = gate.post(&principal(Role::User), &headers, &body).await;
    assert_eq!(got.body["result"]["content"][0]["text"], "At last.");
    assert_eq!(got.headers["content-type"], "application/json");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_takes_its_call_along() {
    let gate = paused(&["late"], Duration::from_mins(5)).await;
    let reply = start(&gate, chat(&json!({}))).await;
    let ReplyBody::Events(mut stream) = reply.body else {
        panic!("a stream")
    };
    assert!(stream.next().await.is_some());
    drop(stream);
    let unanswered = start(&gate, chat(&json!({})));
    assert!(
        unanswered.now_or_never().is_none(),
        "dropped before there was anything to answer"
    );
    tokio::time::resume();
    let events = gate.events(2).await;
    assert!(
        events.iter().all(|event| event.outcome == Ending::Cancelled),
        "{events:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_cancels_its_own_calls_and_no_others() {
    let gate = paused(&["late"], Duration::from_mins(5)).await;
    let user = principal(Role::User);
    let mine = gate.open_session(&user, "2025-11-25").await;
    let other = gate.open_session(&user, "2025-11-25").await;
    let call = request(9, "tools/call", &chat(&json!({})));
    let reply = gate.send(&user, &[("mcp-session-id", &mine)], &call).await;
    let ReplyBody::Events(mut stream) = reply.body else {
        panic!("a stream")
    };
    let opening = stream.next().await.unwrap();
    assert!(opening.starts_with(b"id: c1.") && opening.ends_with(b"-0\nretry: 1000\ndata: \n\n"));
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}"#;
    gate.post(&user, &[("mcp-session-id", &other)], cancel).await;
    assert_eq!(
        stream.next().await.unwrap(),
        ": keep-alive\n\n",
        "another session's word counts for nothing"
    );
    gate.post(&user, &[("mcp-session-id", &mine)], cancel).await;
    assert_eq!(
        stream.next().await,
        None,
        "a request that was taken back gets no answer"
    );
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key_ends_its_calls_in_either_era() {
    let gate = paused(&["late"], Duration::from_mins(5)).await;
    let user = keyed(Role::User, "k1");
    let session = gate.open_session(&user, "2025-06-18").await;
    let call = request(9, "tools/call", &chat(&json!({})));
    let legacy = gate.send(&user, &[("mcp-session-id", &session)], &call).await;
    let modern = start(&gate, chat(&json!({}))).await;
    gate.front.close_key(&KeyId::try_from("k1").unwrap());
    for reply in [legacy, modern] {
        let got = Got::read(reply).await;
        assert_eq!(got.events.unwrap(), [": stream\n\n"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_does_not_expire_under_a_call() {
    let gate = paused(&["At last."], Duration::from_mins(5)).await;
    let user = principal(Role::User);
    let session = gate.open_session(&user, "2025-11-25").await;
    let call = request(9, "tools/call", &chat(&json!({})));
    let reply = gate.send(&user, &[("mcp-session-id", &session)], &call).await;
    gate.clock.advance(Duration::from_hours(2));
    let list = request(10, "tools/list", &json!({}));
    assert_eq!(
        gate.post(&user, &[("mcp-session-id", &session)], &list).await.status,
        200
    );
    assert!(Got::read(reply).await.messages()[0]["result"].is_object());
}
