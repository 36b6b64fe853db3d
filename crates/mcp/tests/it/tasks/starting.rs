//! Which calls become tasks, and for whom.

use super::{Core, Modern, open};
use crate::{
    actor::Actor,
    support::{Gate, Wish, modern_request, principal, request},
};
use forebay_domain::{Role, port::RunTask};
use serde_json::{Value, json};
use std::sync::Arc;

#[tokio::test]
async fn tasks_are_announced_in_the_versions_that_know_them() {
    let (with, without) = (open().await, Gate::open(Wish::default()).await);
    let user = principal(Role::User);
    let core = json!({"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}});
    for (gate, version, tasks) in [
        (&with, "2025-11-25", core),
        (&with, "2025-06-18", Value::Null),
        (&without, "2025-11-25", Value::Null),
    ] {
        let params =
            json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}});
        let got = gate.post(&user, &[], &request(1, "initialize", &params)).await;
        let capabilities = &got.body["result"]["capabilities"];
        assert_eq!(
            (&capabilities["tasks"], &capabilities["extensions"]),
            (&tasks, &Value::Null),
            "{version}"
        );
    }
    let discovered = Modern::new(&with).ask("server/discover", json!({})).await;
    let extensions = json!({"io.modelcontextprotocol/tasks": {}});
    assert_eq!(discovered["capabilities"]["extensions"], extensions);
    assert_eq!(discovered["capabilities"]["tasks"], Value::Null);
    let discovered = Modern::new(&without).ask("server/discover", json!({})).await;
    assert_eq!(discovered["capabilities"]["extensions"], Value::Null);
    let got = Modern::new(&without).send("tasks/get", json!({"taskId": "x"})).await;
    assert_eq!(got.error(), (404, -32601, "unknown_method".to_owned()));
}

#[tokio::test]
async fn every_tool_says_that_it_can_run_as_a_task_to_those_who_would_ask() {
    let gate = open().await;
    Actor::join(&gate);
    let listed = Core::open(&gate, principal(Role::User))
        .await
        .ask("tools/list", json!({}))
        .await;
    let tools = listed["tools"].as_array().unwrap();
    assert!(tools.len() > 10);
    assert!(
        tools
            .iter()
            .all(|tool| tool["execution"] == json!({"taskSupport": "optional"})),
        "{tools:?}"
    );
    let listed = Modern::new(&gate).ask("tools/list", json!({})).await;
    assert!(
        listed["tools"][0]["execution"].is_null(),
        "the extension has no such member"
    );
}

#[tokio::test]
async fn the_extension_has_to_be_named_and_older_versions_have_no_tasks() {
    let gate = open().await;
    Actor::join(&gate).release.add_permits(9);
    let unnamed = Modern {
        caps: json!({}),
        ..Modern::new(&gate)
    };
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let got = unnamed.send(method, json!({"taskId": "x", "inputResponses": {}})).await;
        assert_eq!(
            got.error(),
            (400, -32021, "missing_client_capability".to_owned()),
            "{method}"
        );
        let needed = &got.body["error"]["data"]["requiredCapabilities"]["extensions"];
        assert!(needed["io.modelcontextprotocol/tasks"].is_object());
    }
    let meta = json!({"io.forebay/task": true});
    let wanted = json!({"name": "wait", "arguments": {}, "_meta": meta});
    assert_eq!(unnamed.ask("tools/call", wanted).await["content"][0]["text"], "waited");
    let named = Modern::new(&gate);
    let core = json!({"name": "wait", "arguments": {}, "task": {"ttl": 1}});
    assert_eq!(
        named.ask("tools/call", core.clone()).await["resultType"],
        "complete",
        "that member means nothing now"
    );
    for method in ["tasks/list", "tasks/result"] {
        assert_eq!(
            named.send(method, json!({"taskId": "x"})).await.error().1,
            -32601,
            "{method}"
        );
    }
    let user = principal(Role::User);
    let session = gate.open_session(&user, "2025-06-18").await;
    let headers = [("mcp-session-id", session.as_str())];
    let got = gate.post(&user, &headers, &request(2, "tools/call", &core)).await;
    assert_eq!(got.body["result"]["content"][0]["text"], "waited");
    let got = gate.post(&user, &headers, &request(2, "tasks/list", &json!({}))).await;
    assert_eq!(got.error().1, -32601);
    let got = gate.plain(&user, &request(2, "tools/call", &core)).await;
    assert_eq!(got.body["result"]["content"][0]["text"], "waited");
}

#[tokio::test]
async fn the_header_names_the_task() {
    let gate = open().await;
    let client = Modern::new(&gate);
    let (headers, body) = modern_request("tasks/get", json!({"taskId": "x"}));
    let mut headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(
        gate.post(&client.user, &headers, &body).await.error().1,
        -32020,
        "it is missing"
    );
    headers.push(("mcp-name", "y"));
    assert_eq!(gate.post(&client.user, &headers, &body).await.error().1, -32020);
    assert_eq!(client.send("tasks/get", json!({"taskId": "x"})).await.error().1, -32602);
}

#[tokio::test]
async fn what_is_submitted_by_other_ways_names_a_tool_and_its_arguments() {
    let gate = open().await;
    let run = gate.call_task.clone();
    let user = principal(Role::User);
    let accept = |input: &str| {
        run.accept(&user, input.as_bytes())
            .map_err(|failure| failure.code.as_str())
    };
    assert_eq!(
        accept(r#"{"name":"calculator","arguments":{"expression":"1"}}"#),
        Ok(())
    );
    assert_eq!(accept(r#"{"name":"nothing"}"#), Err("unknown_tool"));
    assert_eq!(accept(r#"{"tool":"calculator"}"#), Err("invalid_params"));
    let ours = r#"{"name":"calculator","arguments":{"expression":"1"},"forebay":{"state":"mine"}}"#;
    assert_eq!(
        accept(ours),
        Err("invalid_params"),
        "what goes on from earlier rounds is signed"
    );
    assert_eq!(run.limits().retry.attempts_max, 1, "nobody knows what it does");
    let viewer = principal(Role::Viewer);
    let refused = run.accept(&viewer, br#"{"name":"calculator"}"#).unwrap_err();
    assert_eq!(refused.code.as_str(), "forbidden");
    let _kept: Arc<dyn RunTask> = run.clone();
}
