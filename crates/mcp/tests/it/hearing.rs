//! Who hears of what has changed: sessions that subscribed, and `subscriptions/listen`.

use crate::{
    actor::Actor,
    support::{Gate, Wish, headers, keyed, message_of, modern_request, principal, request, trace},
};
use forebay_domain::{Code, Principal, Role, event::Outcome, id::KeyId};
use forebay_mcp::{
    ReplyBody, Scope,
    source::{Change, Source, Watched},
};
use futures_util::{FutureExt, StreamExt, stream::BoxStream};
use serde_json::{Value, json};
use std::time::Duration;

type Events = BoxStream<'static, bytes::Bytes>;

fn changed(uri: &str) -> Change {
    Change::Resource { uri: uri.to_owned() }
}

async fn message(stream: &mut Events) -> Option<Value> {
    loop {
        let chunk = stream.next().await?;
        if let Some(message) = message_of(std::str::from_utf8(&chunk).unwrap()) {
            return Some(message);
        }
    }
}

/// Nothing comes, however long one waits within the life of a connection.
async fn silence(stream: &mut Events) {
    let heard = tokio::time::timeout(Duration::from_millis(50), message(stream)).await;
    assert!(heard.is_err(), "{heard:?}");
}

async fn listen(gate: &Gate, user: &Principal, filter: Value) -> Events {
    let (headers, body) = modern_request("subscriptions/listen", json!({"notifications": filter}));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    match gate.send(user, &headers, &body).await.body {
        ReplyBody::Events(stream) => stream,
        other => panic!("no stream but {other:?}"),
    }
}

#[tokio::test]
async fn a_listener_is_told_what_it_asked_for_and_nothing_else() {
    let gate = Gate::open(Wish::default()).await;
    let actor = Actor::settle(&gate).await;
    let user = principal(Role::User);
    let filter = json!({"toolsListChanged": true, "resourceSubscriptions": ["actor://1", "x://unknown"]});
    let mut events = listen(&gate, &user, filter).await;
    let opening = message(&mut events).await.unwrap();
    assert_eq!(opening["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(
        opening["params"],
        json!({
            "_meta": {"io.modelcontextprotocol/subscriptionId": 1},
            "notifications": {"toolsListChanged": true, "resourceSubscriptions": ["actor://1"]},
        })
    );
    assert_eq!(*actor.watched.lock().unwrap(), [("actor://1".to_owned(), Watched::Yes)]);
    for change in [Change::Prompts, changed("actor://2"), Change::Resources] {
        gate.catalogue.announce(actor.as_ref(), change);
    }
    silence(&mut events).await;
    gate.catalogue.announce(actor.as_ref(), changed("actor://1"));
    let updated = message(&mut events).await.unwrap();
    assert_eq!(updated["method"], "notifications/resources/updated");
    assert_eq!(
        updated["params"],
        json!({"_meta": {"io.modelcontextprotocol/subscriptionId": 1}, "uri": "actor://1"})
    );
    for _ in 0..1000 {
        gate.catalogue.announce(actor.as_ref(), Change::Tools);
    }
    let news = message(&mut events).await.unwrap();
    assert_eq!(news["method"], "notifications/tools/list_changed");
    gate.stop.drain();
    let last = loop {
        let message = message(&mut events).await.unwrap();
        if message.get("result").is_some() {
            break message;
        }
    };
    assert_eq!(last["result"]["resultType"], "complete");
    assert_eq!(last["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 1);
    assert_eq!(message(&mut events).await, None);
}

#[tokio::test]
async fn a_listener_ends_with_its_key() {
    let gate = Gate::open(Wish::default()).await;
    let user = keyed(Role::User, "k1");
    let mut events = listen(&gate, &user, json!({"toolsListChanged": true})).await;
    assert!(message(&mut events).await.is_some());
    gate.front.close_key(&KeyId::try_from("k1").unwrap());
    assert_eq!(message(&mut events).await, None);
    let (mut extra, body) = modern_request("subscriptions/listen", json!({"notifications": {}}));
    extra.push(("accept", "application/json".to_owned()));
    let extra: Vec<_> = extra.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(
        gate.post(&user, &extra, &body).await.status,
        406,
        "there is no other way to tell"
    );
    for params in [
        json!({}),
        json!({"notifications": 7}),
        json!({"notifications": {"toolsListChanged": "yes"}}),
    ] {
        let got = gate.modern(&user, "subscriptions/listen", params).await;
        assert_eq!(got.error(), (200, -32602, "invalid_params".to_owned()));
    }
}

#[tokio::test]
async fn a_session_hears_of_the_resources_to_which_it_subscribed() {
    let gate = Gate::open(Wish::default()).await;
    let actor = Actor::settle(&gate).await;
    let user = principal(Role::User);
    let session = gate.open_session(&user, "2025-06-18").await;
    let id = [("mcp-session-id", session.as_str())];
    let ReplyBody::Events(mut events) = gate.front.get(&headers(&id), &user, &Scope::Whole).await.body else {
        panic!("a stream")
    };
    let params = json!({"uri": "actor://1"});
    for _ in 0..2 {
        let got = gate.post(&user, &id, &request(2, "resources/subscribe", &params)).await;
        assert_eq!(got.body["result"], json!({}));
    }
    gate.catalogue.announce(actor.as_ref(), changed("actor://2"));
    gate.catalogue.announce(actor.as_ref(), changed("actor://1"));
    let updated = message(&mut events).await.unwrap();
    assert_eq!(updated["params"], json!({"uri": "actor://1"}));
    gate.post(&user, &id, &request(3, "resources/unsubscribe", &params))
        .await;
    gate.catalogue.announce(actor.as_ref(), changed("actor://1"));
    silence(&mut events).await;
    let watched = actor.watched.lock().unwrap().clone();
    let expected = [Watched::Yes, Watched::No].map(|watched| ("actor://1".to_owned(), watched));
    assert_eq!(watched, expected, "once, however often it subscribed");
    let unknown = request(4, "resources/subscribe", &json!({"uri": "x://y"}));
    assert_eq!(gate.post(&user, &id, &unknown).await.error().2, "unknown_resource");
}

async fn subscribe(gate: &Gate, user: &Principal, session: &str, number: usize) -> Value {
    let params = json!({"uri": format!("actor://{number}")});
    let body = request(2, "resources/subscribe", &params);
    gate.post(user, &[("mcp-session-id", session)], &body).await.body
}

#[tokio::test]
async fn a_principal_watches_only_so_much_over_all_its_sessions() {
    let gate = Gate::open(Wish::default()).await;
    let actor = Actor::settle(&gate).await;
    let user = principal(Role::User);
    let first = gate.open_session(&user, "2025-06-18").await;
    for number in 0..1000 {
        assert_eq!(subscribe(&gate, &user, &first, number).await["result"], json!({}));
    }
    let second = gate.open_session(&user, "2025-06-18").await;
    for session in [&first, &second] {
        let refused = subscribe(&gate, &user, session, 1000).await;
        assert_eq!(refused["error"]["data"]["code"], "overloaded", "{refused}");
    }
    assert_eq!(
        actor.watched.lock().unwrap().len(),
        1000,
        "what is refused is not watched"
    );
    let other = keyed(Role::User, "k2");
    let theirs = gate.open_session(&other, "2025-06-18").await;
    assert_eq!(
        subscribe(&gate, &other, &theirs, 1000).await["result"],
        json!({}),
        "others have their own"
    );
    let plain = headers(&[("mcp-session-id", &first)]);
    assert_eq!(gate.front.delete(&plain, &user, &Scope::Whole).await.status, 204);
    assert_eq!(
        subscribe(&gate, &user, &second, 1).await["result"],
        json!({}),
        "what a session watched counts until it ends"
    );
}

#[tokio::test]
async fn whoever_begins_to_listen_and_ends_it_leaves_an_event() {
    let gate = Gate::open(Wish::default()).await;
    Actor::settle(&gate).await;
    let user = principal(Role::User);
    let session = gate.open_session(&user, "2025-06-18").await;
    for (method, uri) in [
        ("resources/subscribe", "actor://1"),
        ("resources/subscribe", "x://unknown"),
        ("resources/unsubscribe", "actor://1"),
    ] {
        let body = request(2, method, &json!({"uri": uri}));
        gate.post(&user, &[("mcp-session-id", &session)], &body).await;
    }
    drop(listen(&gate, &user, json!({"toolsListChanged": true})).await);
    gate.modern(&user, "subscriptions/listen", json!({})).await;
    let events = gate.events(5).await;
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.action.as_str(), event.outcome))
        .collect();
    assert_eq!(
        told,
        [
            ("resources:subscribe", Outcome::Ok),
            ("resources:subscribe", Outcome::Failed(Code::UnknownResource)),
            ("resources:unsubscribe", Outcome::Ok),
            ("subscriptions:listen", Outcome::Ok),
            ("subscriptions:listen", Outcome::Failed(Code::InvalidParams)),
        ]
    );
    assert!(events.iter().all(|event| event.trace == trace()));
}

#[tokio::test]
async fn a_principal_listens_only_so_often() {
    let gate = Gate::open(Wish::default()).await;
    let actor = Actor::settle(&gate).await;
    let user = principal(Role::User);
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(listen(&gate, &user, json!({"toolsListChanged": true})).await);
    }
    let filter = json!({"notifications": {"resourceSubscriptions": ["actor://1"]}});
    let refused = gate.modern(&user, "subscriptions/listen", filter).await;
    assert_eq!(refused.error().2, "overloaded");
    assert!(actor.watched.lock().unwrap().is_empty(), "nothing is watched for it");
    drop(listen(&gate, &keyed(Role::User, "k2"), json!({"toolsListChanged": true})).await);
    streams.pop();
    drop(listen(&gate, &user, json!({"toolsListChanged": true})).await);
}

#[tokio::test(start_paused = true)]
async fn a_source_stops_watching_when_nobody_is_left() {
    tokio::time::resume();
    let gate = Gate::open(Wish::default()).await;
    gate.freeze();
    let actor = Actor::settle(&gate).await;
    let user = principal(Role::User);
    let session = gate.open_session(&user, "2025-11-25").await;
    let id = [("mcp-session-id", session.as_str())];
    let subscribe = request(2, "resources/subscribe", &json!({"uri": "actor://1"}));
    gate.post(&user, &id, &subscribe).await;
    let listener = listen(&gate, &user, json!({"resourceSubscriptions": ["actor://1"]})).await;
    let ends = headers(&id);
    gate.really(gate.front.delete(&ends, &user, &Scope::Whole)).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(actor.watched.lock().unwrap().len(), 1, "somebody still listens");
    drop(listener);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(actor.watched.lock().unwrap().last().unwrap().1, Watched::No);
}

#[tokio::test]
async fn news_of_a_server_reach_its_own_scope_and_the_whole() {
    let gate = Gate::open(Wish::default()).await;
    let actor = Actor::settle(&gate).await;
    let user = principal(Role::User);
    let own = gate.scoped(&user, Scope::Server(actor.name().into())).await;
    let other = gate.scoped(&user, Scope::Server("forebay".into())).await;
    let whole = gate.scoped(&user, Scope::Whole).await;
    gate.catalogue.announce(actor.as_ref(), Change::Tools);
    for mut listener in [own, whole] {
        let news = message(&mut listener).await.unwrap();
        assert_eq!(news["method"], "notifications/tools/list_changed");
    }
    let mut other = other;
    assert!(message(&mut other).now_or_never().is_none());
}
