//! Sessions and streams that outlive their gateway, and work on every replica.

use crate::{
    actor::{Actor, NAME},
    support::{Gate, Got, Wish, headers, keyed, principal, request},
};
use forebay_domain::{Principal, Role, id::SessionId};
use forebay_mcp::{Reply, ReplyBody, Scope, SessionLimits, source::Watched};
use forebay_testkit::db::TestDb;
use futures_util::{FutureExt, StreamExt, stream::BoxStream};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{future::Future, time::Duration};

const SESSION: &str = "mcp-session-id";

fn call(id: u64, tool: &str) -> String {
    let params = json!({"name": tool, "arguments": {}, "_meta": {"progressToken": 5}});
    request(id, "tools/call", &params)
}

fn list() -> String {
    request(2, "tools/list", &json!({}))
}

async fn listed(gate: &Gate, user: &Principal, session: &str) -> u16 {
    gate.post(user, &[(SESSION, session)], &list()).await.status
}

async fn begun(gate: &Gate, user: &Principal, session: &str, tool: &str) -> BoxStream<'static, bytes::Bytes> {
    events(gate.send(user, &[(SESSION, session)], &call(3, tool)).await)
}

async fn resumed(gate: &Gate, user: &Principal, session: &str, last_event: &str) -> Reply {
    let named = headers(&[(SESSION, session), ("last-event-id", last_event)]);
    gate.front.get(&named, user, &Scope::Whole).await
}

fn events(reply: Reply) -> BoxStream<'static, bytes::Bytes> {
    match reply.body {
        ReplyBody::Events(stream) => stream,
        other => panic!("no stream but {other:?}"),
    }
}

/// The id of the next event that has one.
async fn next_id(stream: &mut BoxStream<'static, bytes::Bytes>) -> String {
    loop {
        let chunk = stream.next().await.expect("the stream goes on");
        if let Some(id) = id_of(std::str::from_utf8(&chunk).unwrap()) {
            return id;
        }
    }
}

fn id_of(chunk: &str) -> Option<String> {
    Some(chunk.lines().next()?.strip_prefix("id: ")?.to_owned())
}

fn ids(got: &Got) -> Vec<String> {
    let chunks = got.events.as_deref().unwrap_or_default().iter();
    chunks.filter_map(|chunk| id_of(chunk)).collect()
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(20), wait).await.is_ok(),
        "{what}"
    );
}

/// Waits until the store has so many events of a stream.
async fn kept(gate: &Gate, session: &str, place: &str, count: usize) {
    let id = SessionId::try_from(session).unwrap();
    let (stream, _) = place.split_once('-').unwrap();
    eventually("the stream is kept", || async {
        let kept = gate.store.mcp_streams().after(&id, stream, 0, 100).await.unwrap();
        kept.events.len() >= count
    })
    .await;
}

#[tokio::test]
async fn a_session_outlives_its_gateway_for_its_owner_alone() {
    for database in TestDb::both().await {
        let engine = database.name();
        let old = Gate::on(database, Wish::default()).await;
        let user = keyed(Role::User, "k1");
        let session = old.open_session(&user, "2025-06-18").await;
        old.kill().await;
        let new = old.another().await;
        assert_eq!(listed(&new, &keyed(Role::User, "k2"), &session).await, 404, "{engine}");
        let named = headers(&[(SESSION, &session)]);
        let scope = Scope::Server("forebay".into());
        let elsewhere = new.front.get(&named, &user, &scope).await;
        assert_eq!(elsewhere.status.as_u16(), 404, "{engine}: opened on another path");
        assert_eq!(new.sessions.count(), 0);
        assert_eq!(listed(&new, &user, &session).await, 200, "{engine}");
        assert_eq!(new.sessions.count(), 1);
        // Its version is what it was: batches were gone by then, and answers to arguments are not for the model yet.
        let batch = format!("[{}]", list());
        let refused = new.post(&user, &[(SESSION, &session)], &batch).await;
        assert_eq!(refused.error().2, "batch_not_supported");
        let near = "0".repeat(session.len());
        assert_eq!(listed(&new, &user, &near).await, 404, "{engine}");
    }
}

#[tokio::test]
async fn what_a_client_has_set_is_set_after_a_restart() {
    let old = Gate::open(Wish::default()).await;
    Actor::join(&old);
    let user = principal(Role::User);
    let session = old.open_session(&user, "2025-11-25").await;
    for (method, params) in [
        ("logging/setLevel", json!({"level": "error"})),
        ("resources/subscribe", json!({"uri": "actor://1"})),
        ("resources/subscribe", json!({"uri": "actor://2"})),
        ("resources/unsubscribe", json!({"uri": "actor://2"})),
    ] {
        let got = old
            .post(&user, &[(SESSION, &session)], &request(2, method, &params))
            .await;
        assert!(got.body["result"].is_object(), "{got:?}");
    }
    let new = old.restarted().await;
    let actor = Actor::join(&new);
    let got = Got::read(new.send(&user, &[(SESSION, &session)], &call(3, "loud")).await).await;
    let levels: Vec<Value> = got
        .messages()
        .iter()
        .map(|said| said["params"]["level"].clone())
        .collect();
    assert_eq!(levels, [json!("error"), Value::Null, Value::Null], "{got:?}");
    let expected = [("actor://1".to_owned(), Watched::Yes)];
    eventually("it is watched again", || async {
        *actor.watched.lock().unwrap() == expected
    })
    .await;
}

#[tokio::test]
async fn an_ended_session_stays_so() {
    for database in TestDb::both().await {
        let engine = database.name();
        let first = Gate::on(database, Wish::default()).await;
        let (user, other) = (keyed(Role::User, "k1"), keyed(Role::User, "k2"));
        let ended = first.open_session(&user, "2025-11-25").await;
        let revoked = first.open_session(&other, "2025-11-25").await;
        let second = first.another().await;
        for (user, session) in [(&user, &ended), (&other, &revoked)] {
            assert_eq!(listed(&second, user, session).await, 200, "{engine}");
        }
        let named = headers(&[(SESSION, &ended)]);
        let reply = first.front.delete(&named, &user, &Scope::Whole).await;
        assert_eq!(reply.status.as_u16(), 204);
        let key = other.key.clone().unwrap();
        first.front.close_key(&key);
        first.store.mcp_sessions().remove_of_key(&key).await.unwrap();
        second.clock.advance(Duration::from_mins(1));
        second.front.note_use().await.unwrap();
        for (user, session) in [(&user, &ended), (&other, &revoked)] {
            assert_eq!(
                listed(&second, user, session).await,
                404,
                "{engine}: another replica notices"
            );
            assert_eq!(listed(&first.another().await, user, session).await, 404, "{engine}");
        }
    }
}

#[tokio::test]
async fn use_that_was_noted_keeps_a_session_and_idleness_ends_it() {
    let old = Gate::open(Wish::default()).await;
    let user = principal(Role::User);
    let (noted, idle) = (
        old.open_session(&user, "2025-11-25").await,
        old.open_session(&user, "2025-11-25").await,
    );
    old.clock.advance(Duration::from_mins(25));
    assert_eq!(listed(&old, &user, &noted).await, 200);
    old.front.note_use().await.unwrap();
    old.clock.advance(Duration::from_mins(25));
    let new = old.restarted().await;
    assert_eq!(listed(&new, &user, &noted).await, 200);
    assert_eq!(listed(&new, &user, &idle).await, 404);
    assert_eq!(
        new.store.mcp_sessions().sweep(new.clock.now()).await.unwrap(),
        1,
        "the idle one"
    );
}

#[tokio::test]
async fn a_session_that_made_room_is_gone_everywhere() {
    let wish = Wish {
        sessions: SessionLimits {
            per_principal: 2,
            ..SessionLimits::default()
        },
        ..Wish::default()
    };
    let old = Gate::on(TestDb::sqlite(), wish).await;
    let user = principal(Role::User);
    let mut opened = Vec::new();
    for _ in 0..3 {
        old.clock.advance(Duration::from_secs(1));
        opened.push(old.open_session(&user, "2025-11-25").await);
    }
    assert_eq!(old.sessions.count(), 2);
    let new = old.restarted().await;
    for (session, expected) in opened.iter().zip([404, 200, 200]) {
        assert_eq!(listed(&new, &user, session).await, expected);
    }
}

#[tokio::test]
async fn a_stream_is_replayed_after_a_restart_with_nothing_lost_or_doubled() {
    for database in TestDb::both().await {
        let engine = database.name();
        let old = Gate::on(database, Wish::default()).await;
        Actor::join(&old);
        let user = principal(Role::User);
        let session = old.open_session(&user, "2025-11-25").await;
        let got = Got::read(old.send(&user, &[(SESSION, &session)], &call(3, "loud")).await).await;
        let told = got.events.clone().unwrap();
        assert_eq!(got.messages().len(), 4, "{engine}: {told:?}");
        let all = ids(&got);
        let new = old.restarted().await;
        for (seen, last) in all.iter().enumerate() {
            let got = Got::read(resumed(&new, &user, &session, last).await).await;
            let rest = &got.events.as_deref().unwrap()[1..];
            assert_eq!(rest, &told[seen + 1..], "{engine}: after {last}");
        }
        let other = new.open_session(&user, "2025-11-25").await;
        // PostgreSQL may have another gateway that runs it, and waits for that one.
        if engine == "sqlite" {
            let got = rest(&new, &user, &other, &all[0]).await;
            let messages = got.messages();
            let told: Vec<&Value> = messages.iter().map(|said| &said["error"]["data"]["code"]).collect();
            assert_eq!(told, ["call_lost"], "another session's stream is none of its own");
        }
        let listener = all[0].replacen('c', "l", 1);
        let mut stream = events(resumed(&new, &user, &other, &listener).await);
        assert_ne!(next_id(&mut stream).await, all[1], "{engine}: nor so");
    }
}

#[tokio::test]
async fn a_call_that_died_with_its_gateway_is_answered_with_an_error() {
    let old = Gate::open(Wish::default()).await;
    Actor::join(&old);
    let user = principal(Role::User);
    let session = old.open_session(&user, "2025-11-25").await;
    let start = next_id(&mut begun(&old, &user, &session, "polling").await).await;
    kept(&old, &session, &start, 1).await;
    old.kill().await;
    let new = old.another().await;
    let got = Got::read(resumed(&new, &user, &session, &start).await).await;
    let messages = got.messages();
    assert_eq!(messages.len(), 1, "{got:?}");
    assert_eq!(messages[0]["id"], 3);
    assert_eq!(messages[0]["error"]["code"], -32000);
    assert_eq!(messages[0]["error"]["data"]["code"], "call_lost");
}

/// What is left of a stream; it has to end by itself.
async fn rest(gate: &Gate, user: &Principal, session: &str, last_event: &str) -> Got {
    let read = async { Got::read(resumed(gate, user, session, last_event).await).await };
    tokio::time::timeout(Duration::from_secs(20), read)
        .await
        .expect("whoever comes back for an answer is told something")
}

#[tokio::test]
async fn a_call_of_which_the_store_knows_nothing_is_answered_with_an_error() {
    let old = Gate::open(Wish::default()).await;
    Actor::join(&old);
    let user = principal(Role::User);
    let session = old.open_session(&user, "2025-11-25").await;
    let mut places = Vec::new();
    let ids = [json!(3), json!(-7), json!("\u{e4}-\"x\""), json!("x".repeat(38))];
    for id in &ids {
        let params = json!({"name": "polling", "arguments": {}});
        let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string();
        let mut stream = events(old.send(&user, &[(SESSION, &session)], &call).await);
        places.push(next_id(&mut stream).await);
    }
    old.kill().await;
    let new = old.another().await;
    // Killed before its writer came to it, or swept away because its client stayed away for so long: the same.
    new.store.mcp_streams().sweep(Timestamp::MAX).await.unwrap();
    for (place, id) in places.iter().zip(&ids) {
        let got = rest(&new, &user, &session, place).await;
        let messages = got.messages();
        assert_eq!(messages.len(), 1, "{got:?}");
        assert_eq!(
            (&messages[0]["id"], &messages[0]["error"]["data"]["code"]),
            (id, &json!("call_lost"))
        );
    }
}

#[tokio::test]
async fn of_two_who_come_back_for_a_stream_the_later_one_has_it() {
    let old = Gate::open(Wish::default()).await;
    Actor::join(&old);
    let user = principal(Role::User);
    let session = old.open_session(&user, "2025-11-25").await;
    let start = next_id(&mut begun(&old, &user, &session, "polling").await).await;
    kept(&old, &session, &start, 1).await;
    old.kill().await;
    let new = old.another().await;
    let earlier = resumed(&new, &user, &session, &start).await;
    let later = resumed(&new, &user, &session, &start).await;
    let (earlier, later) = tokio::join!(Got::read(earlier), Got::read(later));
    assert_eq!((earlier.messages().len(), later.messages().len()), (0, 1));
}

#[tokio::test]
async fn a_session_that_comes_back_to_its_process_names_its_streams_anew() {
    let gate = Gate::on(TestDb::postgres().await, Wish::default()).await;
    Actor::join(&gate);
    let user = principal(Role::User);
    let session = gate.open_session(&user, "2025-11-25").await;
    let first = Got::read(gate.send(&user, &[(SESSION, &session)], &call(3, "loud")).await).await;
    gate.database.refuse_connections().await;
    let named = headers(&[(SESSION, &session)]);
    let refused = gate.front.delete(&named, &user, &Scope::Whole).await;
    assert_eq!(refused.status.as_u16(), 503, "the store still has it");
    gate.database.accept_connections().await;
    eventually("it is back", || async { listed(&gate, &user, &session).await == 200 }).await;
    let second = Got::read(gate.send(&user, &[(SESSION, &session)], &call(3, "loud")).await).await;
    let (first, second) = (ids(&first), ids(&second));
    assert!(first.len() == 5 && second.len() == 5, "{first:?} {second:?}");
    assert!(first.iter().all(|id| !second.contains(id)), "{first:?} {second:?}");
}

#[tokio::test]
async fn a_call_that_another_replica_runs_is_answered_here() {
    let first = Gate::on(TestDb::postgres().await, Wish::default()).await;
    let actor = Actor::join(&first);
    let user = principal(Role::User);
    let session = first.open_session(&user, "2025-11-25").await;
    let start = next_id(&mut begun(&first, &user, &session, "polling").await).await;
    kept(&first, &session, &start, 1).await;
    let second = first.another().await;
    let mut stream = events(resumed(&second, &user, &session, &start).await);
    assert_eq!(stream.next().await.unwrap(), ": stream\n\n");
    actor.release.add_permits(1);
    let rest: Vec<_> = stream
        .map(|chunk| String::from_utf8(chunk.to_vec()).unwrap())
        .collect()
        .await;
    assert_eq!(rest.len(), 1, "{rest:?}");
    let id = format!("id: {}-2\n", start.strip_suffix("-0").unwrap());
    assert!(rest[0].starts_with(&id) && rest[0].contains("later"), "{rest:?}");
}

#[tokio::test]
async fn a_listener_hears_what_it_missed_and_goes_on() {
    let old = Gate::open(Wish::default()).await;
    let user = principal(Role::User);
    let session = old.open_session(&user, "2025-11-25").await;
    let named = headers(&[(SESSION, &session)]);
    let mut stream = events(old.front.get(&named, &user, &Scope::Whole).await);
    let start = next_id(&mut stream).await;
    old.front.lists_changed();
    let (heard, missed) = (next_id(&mut stream).await, next_id(&mut stream).await);
    assert!(heard.ends_with("-1") && start.ends_with("-0"), "{heard}");
    drop(stream);
    let new = old.restarted().await;
    let mut stream = events(resumed(&new, &user, &session, &heard).await);
    assert_eq!(next_id(&mut stream).await, missed);
    let own = next_id(&mut stream).await;
    assert_ne!(own.split_once('-').unwrap().0, start.split_once('-').unwrap().0);
    new.front.lists_changed();
    assert_eq!(
        next_id(&mut stream).await,
        own.replace("-0", "-1"),
        "what comes now is heard as well"
    );
}

#[tokio::test]
async fn a_listener_hears_what_is_said_while_the_store_is_asked_for_what_it_missed() {
    let old = Gate::open(Wish::default()).await;
    let user = principal(Role::User);
    let session = old.open_session(&user, "2025-11-25").await;
    let mut stream = events(resumed(&old, &user, &session, "").await);
    let start = next_id(&mut stream).await;
    let new = old.restarted().await;
    assert_eq!(listed(&new, &user, &session).await, 200, "it has come back");
    // The store reads in a thread of its own, which may be done before the first look is: then it is asked anew.
    let asking = (0..1_000).find_map(|_| {
        let mut coming = Box::pin(resumed(&new, &user, &session, &start));
        coming.as_mut().now_or_never().is_none().then_some(coming)
    });
    let coming = asking.expect("it asks the store");
    new.front.lists_changed();
    // There is one thread, and whoever is ready runs before this goes on.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let mut stream = events(coming.await);
    let own = next_id(&mut stream).await;
    let heard = tokio::time::timeout(Duration::from_secs(20), next_id(&mut stream)).await;
    assert_eq!(heard.expect("the news"), own.replace("-0", "-1"));
}

#[tokio::test]
async fn without_its_store_a_session_in_memory_goes_on_and_no_other_begins() {
    let gate = Gate::on(TestDb::postgres().await, Wish::default()).await;
    Actor::join(&gate);
    let user = principal(Role::User);
    let session = gate.open_session(&user, "2025-11-25").await;
    let elsewhere = gate.another().await.open_session(&user, "2025-11-25").await;
    gate.database.refuse_connections().await;
    let sum = json!({"name": "calculator", "arguments": {"expression": "6*7"}});
    let got = gate
        .post(&user, &[(SESSION, &session)], &request(2, "tools/call", &sum))
        .await;
    assert_eq!(got.body["result"]["content"][0]["text"], "42");
    let got = Got::read(gate.send(&user, &[(SESSION, &session)], &call(3, "loud")).await).await;
    assert_eq!(got.messages().len(), 4, "a stream needs no store either");
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}});
    let got = gate.post(&user, &[], &request(1, "initialize", &hello)).await;
    assert_eq!(got.status, 503, "{got:?}");
    let got = gate.post(&user, &[(SESSION, &elsewhere)], &list()).await;
    assert_eq!(got.status, 503, "nobody can know whether it is gone: {got:?}");
    gate.database.accept_connections().await;
    eventually("it is back", || async { listed(&gate, &user, &elsewhere).await == 200 }).await;
}

#[tokio::test]
async fn a_source_that_takes_the_place_of_another_is_asked_to_watch_what_that_one_did() {
    let gate = Gate::open(Wish::default()).await;
    Actor::settle(&gate).await;
    let user = principal(Role::User);
    let session = gate.open_session(&user, "2025-11-25").await;
    let subscribe = request(2, "resources/subscribe", &json!({"uri": "actor://1"}));
    gate.post(&user, &[(SESSION, &session)], &subscribe).await;
    gate.catalogue.leave(NAME);
    let next = Actor::join(&gate);
    let expected = [("actor://1".to_owned(), Watched::Yes)];
    eventually("the next one watches", || async {
        *next.watched.lock().unwrap() == expected
    })
    .await;
    Actor::settle(&gate).await;
    assert_eq!(*next.watched.lock().unwrap(), expected, "once");
}
