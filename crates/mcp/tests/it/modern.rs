//! 2026-07-28: every request stands alone.

use crate::support::{Gate, Scripted, Wish, modern_request, principal, request};
use forebay_domain::Role;
use forebay_mcp::Scope;
use rmcp::model::{CallToolResult, DiscoverResult, ListToolsResult};
use serde_json::json;

#[tokio::test]
async fn discovery_names_versions_capabilities_and_server() {
    let gate = Gate::open(Wish::default()).await;
    let got = gate
        .modern(&principal(Role::Viewer), "server/discover", json!({}))
        .await;
    assert_eq!(got.status, 200);
    assert_eq!(
        got.body["result"],
        json!({
            "resultType": "complete",
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "forebay", "title": "Forebay", "version": "1.2.3"}},
            "supportedVersions": ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"],
            "capabilities": {"tools": {"listChanged": true}, "resources": {"listChanged": true}, "logging": {}},
            "instructions": "Ask away.",
            "ttlMs": 60000,
            "cacheScope": "private",
        })
    );
    let typed: DiscoverResult = serde_json::from_value(got.body["result"].clone()).unwrap();
    assert_eq!(typed.server_info().unwrap().name, "forebay");
}

#[tokio::test]
async fn a_list_shows_what_its_reader_may_use() {
    let model = Scripted {
        names: vec!["tiny"],
        ..Scripted::default()
    };
    let gate = Gate::open(Wish {
        model,
        ..Wish::default()
    })
    .await;
    let limited = |grant: &str| {
        let mut limited = principal(Role::User);
        limited.grants.push(grant.parse().unwrap());
        limited
    };
    let all = [
        "calculator",
        "call_batch",
        "call_chain",
        "chat",
        "gateway_status",
        "search_tools",
    ];
    for (reader, expected) in [
        (principal(Role::Viewer), vec!["gateway_status"]),
        (principal(Role::User), all.to_vec()),
        (principal(Role::Admin), all.to_vec()),
        (limited("tool:calc*"), vec!["calculator"]),
        (limited("!tool:c*"), vec!["gateway_status", "search_tools"]),
    ] {
        let got = gate.modern(&reader, "tools/list", json!({})).await;
        let typed: ListToolsResult = serde_json::from_value(got.body["result"].clone()).unwrap();
        let names: Vec<_> = typed.tools.iter().map(|tool| tool.name.as_ref()).collect();
        assert_eq!(names, expected, "{reader:?}");
        assert_eq!(
            (&got.body["result"]["ttlMs"], &got.body["result"]["cacheScope"]),
            (&json!(60000), &json!("private"))
        );
    }
}

#[tokio::test]
async fn a_call_is_answered_completely_and_as_plain_json() {
    let gate = Gate::open(Wish::default()).await;
    let call = json!({"name": "calculator", "arguments": {"expression": "2 + 2"}});
    let got = gate.modern(&principal(Role::User), "tools/call", call).await;
    assert_eq!(got.headers["content-type"], "application/json");
    let structured = json!({"expression": "2 + 2", "result": "4"});
    let result = &got.body["result"];
    assert_eq!(result["structuredContent"], structured);
    assert_eq!(result["content"][0]["text"], "4");
    assert_eq!(
        result["content"][1]["text"],
        structured.to_string(),
        "for clients that see only text"
    );
    assert_eq!(
        (&result["isError"], &result["resultType"]),
        (&json!(false), &json!("complete"))
    );
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "forebay");
    serde_json::from_value::<CallToolResult>(result.clone()).unwrap();
}

#[tokio::test]
async fn a_bad_body_is_refused_with_a_reason() {
    let gate = Gate::open(Wish::default()).await;
    let deep = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":{}",
        "[".repeat(10_000)
    );
    for (body, expected) in [
        ("{", (400, -32700, "malformed_json")),
        (&deep, (400, -32700, "json_too_deep")),
        (
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}"#,
            (400, -32700, "duplicate_key"),
        ),
        ("7", (400, -32600, "invalid_request")),
        (
            r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#,
            (400, -32600, "invalid_request"),
        ),
        (
            r#"[{"jsonrpc":"2.0","id":1,"method":"x"}]"#,
            (400, -32600, "batch_not_supported"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            (400, -32600, "invalid_request"),
        ),
    ] {
        let got = gate
            .post(&principal(Role::User), &[("mcp-protocol-version", "2026-07-28")], body)
            .await;
        let (status, number, code) = expected;
        assert_eq!(
            got.error(),
            (status, number, code.to_owned()),
            "{}",
            &body[..body.len().min(60)]
        );
        assert!(
            got.body["error"]["message"]
                .as_str()
                .is_some_and(|message| message.len() > 20)
        );
    }
}

#[tokio::test]
async fn a_bad_request_is_refused_with_a_reason() {
    let gate = Gate::open(Wish::default()).await;
    let user = principal(Role::User);
    for (method, params, expected) in [
        ("ping", json!({}), (404, -32601, "unknown_method")),
        (
            "logging/setLevel",
            json!({"level": "info"}),
            (404, -32601, "unknown_method"),
        ),
        ("tools/call", json!({"name": "nothing"}), (200, -32602, "unknown_tool")),
        ("tools/call", json!({}), (200, -32602, "invalid_params")),
        (
            "tools/call",
            json!({"name": "calculator", "arguments": [1]}),
            (200, -32602, "invalid_params"),
        ),
        ("tools/call", json!({"name": 7}), (200, -32602, "invalid_params")),
        ("tools/list", json!({"cursor": "abc"}), (200, -32602, "invalid_params")),
        ("resources/list", json!({"cursor": ""}), (200, -32602, "invalid_params")),
        (
            "resources/read",
            json!({"uri": "forebay://nothing"}),
            (200, -32602, "unknown_resource"),
        ),
        ("resources/read", json!({}), (200, -32602, "invalid_params")),
    ] {
        let got = gate.modern(&user, method, params.clone()).await;
        let (status, number, code) = expected;
        assert_eq!(got.error(), (status, number, code.to_owned()), "{method} {params}");
    }
    let viewer = principal(Role::Viewer);
    let got = gate
        .modern(&viewer, "tools/call", json!({"name": "calculator", "arguments": {}}))
        .await;
    assert_eq!(got.error(), (403, -32000, "forbidden".to_owned()));
    assert!(
        got.body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("role user does"),
        "the reason is told"
    );
}

#[tokio::test]
async fn headers_must_agree_with_the_body() {
    let gate = Gate::open(Wish::default()).await;
    let call = json!({"name": "calculator", "arguments": {"expression": "1"}});
    for (name, value, expected) in [
        ("mcp-name", "chat", (400, -32020, "header_mismatch")),
        ("mcp-method", "tools/list", (400, -32020, "header_mismatch")),
        ("mcp-protocol-version", "2025-11-25", (400, -32020, "header_mismatch")),
        ("accept", "text/html", (406, -32600, "not_acceptable")),
        ("content-type", "text/plain", (415, -32600, "unsupported_media_type")),
    ] {
        let (mut headers, body) = modern_request("tools/call", call.clone());
        headers.push((name, value.to_owned()));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let got = gate.post(&principal(Role::User), &headers, &body).await;
        let (status, number, code) = expected;
        assert_eq!(got.error(), (status, number, code.to_owned()), "{name}: {value}");
    }
    assert_eq!(gate.events(0).await.len(), 0, "nothing of this reached the catalogue");
}

#[tokio::test]
async fn an_unsupported_version_is_told_which_are_supported() {
    let gate = Gate::open(Wish::default()).await;
    let meta = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "1900-01-01"}});
    let headers = [("mcp-protocol-version", "1900-01-01"), ("mcp-method", "tools/list")];
    let got = gate
        .post(&principal(Role::User), &headers, &request(5, "tools/list", &meta))
        .await;
    assert_eq!(got.error(), (400, -32022, "unsupported_protocol_version".to_owned()));
    assert_eq!(got.body["id"], 5);
    assert_eq!(got.body["error"]["data"]["requested"], "1900-01-01");
    assert_eq!(got.body["error"]["data"]["supported"][0], "2026-07-28");
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_told_to_the_model() {
    let gate = Gate::open(Wish::default()).await;
    let call = json!({"name": "calculator", "arguments": {"expression": 7, "extra": "canary"}});
    let got = gate.modern(&principal(Role::User), "tools/call", call).await;
    assert_eq!(got.status, 200);
    assert_eq!(got.body["result"]["isError"], true);
    let text = got.body["result"]["content"][0]["text"].as_str().unwrap();
    assert!(
        text.contains("INVALID_ARGUMENTS") && text.contains("expression"),
        "{text}"
    );
}

#[tokio::test]
async fn there_is_no_stream_and_no_session_to_end() {
    let gate = Gate::open(Wish::default()).await;
    let headers = crate::support::headers(&[("mcp-protocol-version", "2026-07-28")]);
    let user = principal(Role::User);
    for reply in [
        gate.front.get(&headers, &user, &Scope::Whole).await,
        gate.front.delete(&headers, &user, &Scope::Whole).await,
    ] {
        assert_eq!(
            (reply.status.as_u16(), reply.headers["allow"].to_str().unwrap()),
            (405, "POST")
        );
    }
    let note = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    let got = gate.post(&user, &[("mcp-protocol-version", "2026-07-28")], note).await;
    assert_eq!((got.status, got.body), (202, serde_json::Value::Null));
}
