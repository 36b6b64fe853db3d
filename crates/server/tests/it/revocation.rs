//! A key or a token that is good no longer opens nothing any more and holds nothing open.

use crate::rig::{Rig, eventually};
use forebay_domain::{Role, id::SessionId};
use forebay_testkit::openai::{Reply, chunk, event};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;

fn id(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

#[tokio::test]
async fn revoking_closes_sessions_streams_and_the_door() {
    let rig = Rig::start().await;
    let key = rig.key("acme", "ursula", Role::User, &[]).await;
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let accept = "application/json, text/event-stream";
    let opened = rig
        .request("POST", "/mcp", &key)
        .header("accept", accept)
        .json(&initialize)
        .send()
        .await
        .unwrap();
    let session = opened.headers()["mcp-session-id"].clone();
    let stream = rig
        .request("GET", "/mcp", &key)
        .header("accept", "text/event-stream")
        .header("mcp-session-id", session.clone());
    let mut server_speaks = stream.send().await.unwrap().bytes_stream();
    rig.engine.will(
        Reply::events()
            .piece(event(&chunk("stub", &json!({"content": "The"}), None)))
            .gate(),
    );
    let ask = json!({"model": "stub", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let mut chat = rig.post("/v1/chat/completions", &key, &ask).await.bytes_stream();
    assert!(chat.next().await.unwrap().is_ok());

    let revoked: Value = rig
        .request("DELETE", &format!("/api/v1/keys/{}", id(&key)), &rig.admin)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert!(revoked["revoked_at"].is_string(), "{revoked}");

    let closed = async {
        while server_speaks.next().await.is_some_and(|chunk| chunk.is_ok()) {}
        while chat.next().await.is_some_and(|chunk| chunk.is_ok()) {}
    };
    tokio::time::timeout(Duration::from_secs(10), closed)
        .await
        .expect("both streams end");
    rig.engine.left(1).await;
    let app = &rig.gateway.app;
    let session = SessionId::try_from(session.to_str().unwrap()).unwrap();
    eventually("no replica would find the session again", || async {
        let kept = app.store.mcp_sessions().find(&session, app.clock.now()).await;
        kept.unwrap().is_none()
    })
    .await;
    let refused = rig.request("GET", "/v1/models", &key).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    let again = rig
        .request("DELETE", &format!("/api/v1/keys/{}", id(&key)), &rig.admin)
        .send()
        .await
        .unwrap();
    assert_eq!(
        again.json::<Value>().await.unwrap()["revoked_at"],
        revoked["revoked_at"],
        "the first time counts"
    );
}

#[tokio::test]
async fn a_revocation_by_another_replica_is_noticed() {
    let rig = Rig::start().await;
    let key = rig.key("acme", "ursula", Role::User, &[]).await;
    let status = || async {
        rig.request("GET", "/v1/models", &key)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(status().await, 200, "and remembered from now on");
    let app = &rig.gateway.app;
    app.store
        .keys()
        .revoke(&id(&key).try_into().unwrap(), app.clock.now())
        .await
        .unwrap();
    eventually("the remembered key is forgotten", || async { status().await == 401 }).await;
}

#[tokio::test]
async fn keys_are_listed_without_secrets_and_audited_before_they_are_made() {
    let rig = Rig::start().await;
    let created: Value = rig
        .post(
            "/api/v1/keys",
            &rig.admin,
            &json!({"name": "ci", "role": "user", "tenant": "acme", "grants": ["tool:web_*"], "expires_in_s": 60}),
        )
        .await
        .json()
        .await
        .unwrap();
    let key = created["key"].as_str().unwrap();
    let secret = key.rsplit('_').next().unwrap();
    let listed = rig.get("/api/v1/keys?tenant=acme").await.text().await.unwrap();
    assert!(
        listed.contains(created["id"].as_str().unwrap()) && !listed.contains(secret),
        "{listed}"
    );
    assert_eq!(
        rig.request("GET", "/v1/models", key).send().await.unwrap().status(),
        200
    );
    let trail: Value = rig.get("/api/v1/audit?limit=1000").await.json().await.unwrap();
    let event = trail["events"]
        .as_array()
        .unwrap()
        .iter()
        .find(|event| event["action"] == "keys:write" && event["surface"] == "api")
        .unwrap();
    assert_eq!(
        (event["outcome"].as_str(), event["subject"].as_str()),
        (Some("intended"), Some("admin"))
    );
    assert!(event["chain_position"].is_u64() && event["chain_hash"].is_string());
    let report: Value = rig.get("/api/v1/audit/verify").await.json().await.unwrap();
    assert_eq!(report["ok"], true, "{report}");
}

#[tokio::test]
async fn a_list_of_keys_says_where_it_goes_on() {
    let rig = Rig::start().await;
    for number in 0..501 {
        rig.key("acme", &format!("k{number}"), Role::Viewer, &[]).await;
    }
    let first: Value = rig
        .get("/api/v1/keys?tenant=acme&limit=1000")
        .await
        .json()
        .await
        .unwrap();
    let (page, next) = (first["keys"].as_array().unwrap().len(), first["next"].as_str().unwrap());
    let rest: Value = rig
        .get(&format!("/api/v1/keys?tenant=acme&limit=1000&after={next}"))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(page + rest["keys"].as_array().unwrap().len(), 501);
    assert!(rest["next"].is_null(), "the last page says so");
}
