//! 2024-11-05 to 2025-11-25: a handshake and a session.

use crate::support::{Gate, Got, Wish, keyed, principal, request};
use forebay_domain::{Role, id::KeyId};
use forebay_mcp::Scope;
use futures_util::StreamExt;
use rmcp::model::InitializeResult;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn the_handshake_settles_the_version_and_opens_a_session() {
    let gate = Gate::open(Wish::default()).await;
    let user = principal(Role::User);
    for (asked, answered) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("2030-01-01", "2025-11-25"),
    ] {
        let params = json!({"protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}});
        let got = gate.post(&user, &[], &request(1, "initialize", &params)).await;
        assert_eq!(got.body["result"]["protocolVersion"], answered, "{asked}");
        let typed: InitializeResult = serde_json::from_value(got.body["result"].clone()).unwrap();
        assert!(typed.capabilities.tools.is_some() && typed.capabilities.logging.is_some());
        let session = got.headers["mcp-session-id"].to_str().unwrap();
        for method in ["ping", "tools/list", "resources/list", "resources/templates/list"] {
            let got = gate
                .post(&user, &[("mcp-session-id", session)], &request(2, method, &json!({})))
                .await;
            assert_eq!(got.status, 200);
            assert!(got.body["result"].is_object(), "{method}: {got:?}");
            assert!(
                got.body["result"].get("resultType").is_none(),
                "that is a modern member"
            );
        }
        let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        assert_eq!(gate.post(&user, &[("mcp-session-id", session)], note).await.status, 202);
    }
    assert_eq!(gate.sessions.count(), 6);
}

#[tokio::test]
async fn a_session_is_needed_and_is_nobody_elses() {
    let gate = Gate::open(Wish::default()).await;
    let session = gate.open_session(&keyed(Role::User, "k1"), "2025-11-25").await;
    let list = request(2, "tools/list", &json!({}));
    let missing = gate.post(&principal(Role::User), &[], &list).await;
    assert_eq!(missing.error(), (400, -32600, "invalid_request".to_owned()));
    for (key, id) in [("k2", session.as_str()), ("k1", "nonsense")] {
        let got = gate
            .post(&keyed(Role::User, key), &[("mcp-session-id", id)], &list)
            .await;
        assert_eq!(got.error(), (404, -32001, "unknown_session".to_owned()), "{key}");
        let headers = crate::support::headers(&[("mcp-session-id", id)]);
        assert_eq!(
            gate.front
                .delete(&headers, &keyed(Role::User, key), &Scope::Whole)
                .await
                .status
                .as_u16(),
            404
        );
    }
    let owner = keyed(Role::User, "k1");
    let headers = crate::support::headers(&[("mcp-session-id", &session)]);
    assert_eq!(
        gate.front.delete(&headers, &owner, &Scope::Whole).await.status.as_u16(),
        204
    );
    assert_eq!(
        gate.post(&owner, &[("mcp-session-id", &session)], &list).await.status,
        404
    );
}

#[tokio::test]
async fn an_idle_session_ends() {
    let gate = Gate::open(Wish::default()).await;
    let user = principal(Role::User);
    let session = gate.open_session(&user, "2025-11-25").await;
    let list = request(2, "tools/list", &json!({}));
    gate.clock.advance(Duration::from_mins(29));
    assert_eq!(
        gate.post(&user, &[("mcp-session-id", &session)], &list).await.status,
        200
    );
    gate.clock.advance(Duration::from_mins(29));
    assert_eq!(
        gate.post(&user, &[("mcp-session-id", &session)], &list).await.status,
        200,
        "use keeps it alive"
    );
    gate.clock.advance(Duration::from_mins(30));
    assert_eq!(
        gate.post(&user, &[("mcp-session-id", &session)], &list).await.status,
        404
    );
}

#[tokio::test]
async fn who_is_told_of_wrong_arguments_depends_on_the_version() {
    let gate = Gate::open(Wish::default()).await;
    let user = principal(Role::User);
    let call = request(3, "tools/call", &json!({"name": "calculator", "arguments": {}}));
    for (version, told_the_model) in [("2024-11-05", false), ("2025-06-18", false), ("2025-11-25", true)] {
        let session = gate.open_session(&user, version).await;
        let got = gate.post(&user, &[("mcp-session-id", &session)], &call).await;
        if told_the_model {
            assert_eq!(got.body["result"]["isError"], true, "{version}");
        } else {
            assert_eq!(got.error(), (200, -32602, "invalid_arguments".to_owned()), "{version}");
            assert!(
                got.body["error"]["data"]["details"]
                    .as_str()
                    .unwrap()
                    .contains("expression")
            );
        }
    }
    let session = gate.open_session(&user, "2025-11-25").await;
    let read = request(4, "resources/read", &json!({"uri": "forebay://nothing"}));
    let got = gate.post(&user, &[("mcp-session-id", &session)], &read).await;
    assert_eq!(got.error(), (200, -32002, "unknown_resource".to_owned()));
    assert_eq!(got.body["error"]["data"]["uri"], "forebay://nothing");
    let got = gate
        .post(
            &user,
            &[("mcp-session-id", &session)],
            &request(5, "prompts/nothing", &json!({})),
        )
        .await;
    assert_eq!(got.error(), (200, -32601, "unknown_method".to_owned()));
}

#[tokio::test]
async fn batches_belong_to_one_version() {
    let gate = Gate::open(Wish::default()).await;
    let user = principal(Role::User);
    let batch = format!(
        "[{},{},{}]",
        request(1, "ping", &json!({})),
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        request(
            2,
            "tools/call",
            &json!({"name": "calculator", "arguments": {"expression": "6*7"}})
        )
    );
    let session = gate.open_session(&user, "2025-03-26").await;
    let got = gate.post(&user, &[("mcp-session-id", &session)], &batch).await;
    assert_eq!((got.status, got.body.as_array().unwrap().len()), (200, 2));
    assert_eq!(got.body[1]["result"]["content"][0]["text"], "42");
    for version in ["2025-06-18", "2025-11-25"] {
        let session = gate.open_session(&user, version).await;
        let got = gate.post(&user, &[("mcp-session-id", &session)], &batch).await;
        assert_eq!(
            got.error(),
            (400, -32600, "batch_not_supported".to_owned()),
            "{version}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_hears_of_changes_until_its_session_ends() {
    tokio::time::resume();
    let gate = Gate::open(Wish::default()).await;
    gate.freeze();
    let user = keyed(Role::User, "k1");
    let session = gate.open_session(&user, "2025-11-25").await;
    let headers = crate::support::headers(&[("mcp-session-id", &session)]);
    let reply = gate.front.get(&headers, &user, &Scope::Whole).await;
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    let forebay_mcp::ReplyBody::Events(mut stream) = reply.body else {
        panic!("a stream")
    };
    let opening = stream.next().await.unwrap();
    assert!(opening.starts_with(b"id: l1.") && opening.ends_with(b"-0\nretry: 1000\ndata: \n\n"));
    gate.front.lists_changed();
    for list in ["tools", "resources"] {
        let event = stream.next().await.unwrap();
        assert!(
            event.ends_with(format!("notifications/{list}/list_changed\"}}\n\n").as_bytes()),
            "{event:?}"
        );
    }
    assert_eq!(stream.next().await.unwrap(), ": keep-alive\n\n");
    gate.clock.advance(Duration::from_hours(5));
    assert_eq!(gate.sessions.count(), 1, "a session with a listener is not idle");
    gate.front.close_key(&KeyId::try_from("k1").unwrap());
    assert_eq!(stream.next().await, None);
    assert_eq!(gate.sessions.count(), 0);
}

#[tokio::test]
async fn a_listener_ends_when_the_gateway_drains() {
    let gate = Gate::open(Wish::default()).await;
    let user = principal(Role::User);
    let session = gate.open_session(&user, "2025-06-18").await;
    let headers = crate::support::headers(&[("mcp-session-id", &session)]);
    let reply = gate.front.get(&headers, &user, &Scope::Whole).await;
    gate.stop.drain();
    let got = Got::read(reply).await;
    assert_eq!(got.events.unwrap(), [": stream\n\n"]);
    let mut plain = headers.clone();
    plain.insert("accept", "application/json".parse().unwrap());
    assert_eq!(gate.front.get(&plain, &user, &Scope::Whole).await.status.as_u16(), 406);
}
