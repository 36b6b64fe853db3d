//! Legacy streams outlive their connections.

use crate::{
    actor::Actor,
    support::{Gate, Got, Wish, headers, message_of, principal, request},
};
use forebay_domain::{Principal, Role};
use forebay_mcp::{Reply, ReplyBody, Scope};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;

async fn paused() -> Gate {
    tokio::time::resume();
    let gate = Gate::open(Wish::default()).await;
    gate.freeze();
    gate
}

fn call(id: u64, tool: &str) -> String {
    request(
        id,
        "tools/call",
        &json!({"name": tool, "arguments": {}, "_meta": {"progressToken": 5}}),
    )
}

/// The stream of a session from the event of that id on.
async fn back(gate: &Gate, user: &Principal, session: &str, last_event: Option<&str>) -> Reply {
    let mut extra = vec![("mcp-session-id", session)];
    extra.extend(last_event.map(|id| ("last-event-id", id)));
    gate.front.get(&headers(&extra), user, &Scope::Whole).await
}

/// The id of the event that names a stream's beginning.
fn primed(event: &[u8]) -> String {
    let event = std::str::from_utf8(event).unwrap();
    let id = event.strip_prefix("id: ").unwrap();
    id.strip_suffix("\nretry: 1000\ndata: \n\n").unwrap().to_owned()
}

fn text(message: &Value) -> &str {
    message["result"]["content"][0]["text"].as_str().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_on_without_its_connection_and_its_answer_waits() {
    let gate = paused().await;
    let actor = Actor::join(&gate);
    let user = principal(Role::User);
    let session = gate.open_session(&user, "2025-11-25").await;
    let reply = gate
        .send(&user, &[("mcp-session-id", &session)], &call(3, "wait"))
        .await;
    let ReplyBody::Events(mut stream) = reply.body else {
        panic!("a stream")
    };
    let start = primed(&stream.next().await.unwrap());
    drop(stream);
    actor.release.add_permits(1);
    gate.clock.advance(Duration::from_mins(4));
    let got = Got::read(back(&gate, &user, &session, Some(&start)).await).await;
    assert_eq!(text(&got.messages()[0]), "waited");
}

#[tokio::test(start_paused = true)]
async fn a_server_lets_go_of_a_connection_whose_client_comes_back() {
    let gate = paused().await;
    let actor = Actor::join(&gate);
    let user = principal(Role::User);
    let session = gate.open_session(&user, "2025-11-25").await;
    let reply = gate
        .send(&user, &[("mcp-session-id", &session)], &call(3, "polling"))
        .await;
    let got = Got::read(reply).await;
    let told = got.events.unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    let waiting = back(&gate, &user, &session, Some(&primed(told[0].as_bytes()))).await;
    actor.release.add_permits(1);
    assert_eq!(text(&Got::read(waiting).await.messages()[0]), "later");

    let older = gate.open_session(&user, "2025-06-18").await;
    actor.release.add_permits(1);
    let reply = gate
        .send(&user, &[("mcp-session-id", &older)], &call(3, "polling"))
        .await;
    let got = Got::read(reply).await;
    let told = if got.body.is_null() {
        got.messages()[0].clone()
    } else {
        got.body
    };
    assert_eq!(
        text(&told),
        "later",
        "an older client would not come back, so it is kept"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_goes_on_where_it_was() {
    let gate = paused().await;
    Actor::join(&gate);
    let user = principal(Role::User);
    let session = gate.open_session(&user, "2025-11-25").await;
    let level = request(2, "logging/setLevel", &json!({"level": "debug"}));
    gate.post(&user, &[("mcp-session-id", &session)], &level).await;
    let reply = gate
        .send(&user, &[("mcp-session-id", &session)], &call(3, "loud"))
        .await;
    let ReplyBody::Events(mut stream) = reply.body else {
        panic!("a stream")
    };
    let start = primed(&stream.next().await.unwrap());
    let first = stream.next().await.unwrap();
    let name = start.strip_suffix("-0").unwrap();
    assert!(
        first.starts_with(format!("id: {name}-2\nevent: message\n").as_bytes()),
        "{first:?}"
    );
    assert!(message_of(std::str::from_utf8(&first).unwrap()).unwrap()["params"]["level"] == "debug");
    drop(stream);
    let got = Got::read(back(&gate, &user, &session, Some(&format!("{name}-3"))).await).await;
    let messages = got.messages();
    assert_eq!(messages[0]["params"]["level"], "error");
    assert_eq!(
        messages[1]["params"],
        json!({"progressToken": 5, "progress": 1.0, "total": 2.0})
    );
    assert_eq!(text(&messages[2]), "said");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_fetches_goes_after_a_while_and_with_its_session() {
    let gate = paused().await;
    let actor = Actor::join(&gate);
    let user = principal(Role::User);
    let session = gate.open_session(&user, "2025-11-25").await;
    let reply = gate
        .send(&user, &[("mcp-session-id", &session)], &call(3, "wait"))
        .await;
    let ReplyBody::Events(mut stream) = reply.body else {
        panic!("a stream")
    };
    let start = primed(&stream.next().await.unwrap());
    drop(stream);
    let mut reading = match back(&gate, &user, &session, Some(&start)).await.body {
        ReplyBody::Events(stream) => stream,
        other => panic!("no stream but {other:?}"),
    };
    assert_eq!(reading.next().await.unwrap(), ": stream\n\n");
    let named = headers(&[("mcp-session-id", &session)]);
    let ends = gate.really(gate.front.delete(&named, &user, &Scope::Whole)).await;
    assert_eq!(ends.status.as_u16(), 204);
    assert_eq!(reading.next().await, None, "its streams end with the session");
    actor.release.add_permits(1);
    let gone = gate.really(back(&gate, &user, &session, Some(&start))).await;
    assert_eq!(gone.status.as_u16(), 404);
}
