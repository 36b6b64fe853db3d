//! `/api/v1/mcp`: the plain JSON-RPC that curl speaks.

use crate::support::{Gate, Wish, principal, request};
use forebay_domain::Role;
use serde_json::{Value, json};

#[tokio::test]
async fn an_empty_handshake_is_answered_as_documented() {
    let gate = Gate::open(Wish::default()).await;
    let got = gate
        .plain(
            &principal(Role::User),
            r#"{"jsonrpc":"2.0","method":"initialize","params":{},"id":1}"#,
        )
        .await;
    assert_eq!(
        got.body,
        json!({
            "jsonrpc": "2.0",
            "result": {
                "protocolVersion": "2024-11-05",
                "serverInfo": {"name": "forebay", "version": "1.2.3"},
                "capabilities": {"tools": {}, "resources": {}},
            },
            "id": 1,
        })
    );
    assert!(!got.headers.contains_key("mcp-session-id"));
    let newer = gate
        .plain(
            &principal(Role::User),
            &request(2, "initialize", &json!({"protocolVersion": "2025-06-18"})),
        )
        .await;
    assert_eq!(newer.body["result"]["protocolVersion"], "2025-06-18");
}

#[tokio::test]
async fn calls_need_neither_session_nor_accept() {
    let gate = Gate::open(Wish::default()).await;
    let user = principal(Role::User);
    let list = gate.plain(&user, &request(1, "tools/list", &json!({}))).await;
    assert_eq!(list.body["result"]["tools"][0]["name"], "calculator");
    let call = json!({"name": "calculator", "arguments": {"expression": "2+2"}});
    let got = gate.plain(&user, &request(2, "tools/call", &call.clone())).await;
    assert_eq!(got.body["result"]["content"][0]["text"], "4");
    assert!(got.body["result"].get("resultType").is_none());
    let mut modern = call;
    modern["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    let got = gate.plain(&user, &request(3, "tools/call", &modern)).await;
    assert_eq!(got.body["result"]["resultType"], "complete");
}

#[tokio::test]
async fn each_request_of_a_batch_counts_against_the_limit() {
    let user = principal(Role::User);
    let pings: Vec<String> = (1..=5).map(|id| request(id, "ping", &json!({}))).collect();
    let noted = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let batch = format!("[{noted},{},{noted}]", pings.join(","));
    for is_plain in [true, false] {
        let wish = Wish {
            batched_per_minute: 2,
            ..Wish::default()
        };
        let gate = Gate::open(wish).await;
        let got = if is_plain {
            gate.plain(&user, &batch).await
        } else {
            let session = gate.open_session(&user, "2025-03-26").await;
            gate.post(&user, &[("mcp-session-id", &session)], &batch).await
        };
        let refused = |answer: &Value| answer["error"]["data"]["code"] == "rate_limited";
        let told: Vec<bool> = got.body.as_array().unwrap().iter().map(refused).collect();
        assert_eq!(told, [false, false, false, true, true], "{got:?}");
        assert_eq!(got.body[4]["id"], 5);
    }
}

#[tokio::test]
async fn errors_are_json_rpc_errors() {
    let gate = Gate::open(Wish::default()).await;
    let user = principal(Role::User);
    for (body, expected) in [
        ("{".to_owned(), (400, -32700, "malformed_json")),
        ("[]".to_owned(), (400, -32600, "invalid_request")),
        (request(1, "nothing", &json!({})), (200, -32601, "unknown_method")),
        (
            request(1, "tools/call", &json!({"name": "nothing"})),
            (200, -32602, "unknown_tool"),
        ),
        (
            request(1, "tools/call", &json!({"name": "calculator"})),
            (200, -32602, "invalid_arguments"),
        ),
        (
            request(1, "resources/read", &json!({"uri": "x://y"})),
            (200, -32002, "unknown_resource"),
        ),
        (
            request(
                1,
                "tools/list",
                &json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "1900-01-01"}}),
            ),
            (400, -32022, "unsupported_protocol_version"),
        ),
    ] {
        let got = gate.plain(&user, &body).await;
        let (status, number, code) = expected;
        assert_eq!(got.error(), (status, number, code.to_owned()), "{body}");
    }
    let got = gate
        .plain(&user, &request(1, "tools/call", &json!({"name": "calculator"})))
        .await;
    assert!(
        got.body["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("Invalid params")
    );
    assert!(
        got.body["error"]["data"]["details"]
            .as_str()
            .unwrap()
            .contains("expression")
    );
}

#[tokio::test]
async fn a_batch_is_answered_in_order_and_notifications_are_not() {
    let gate = Gate::open(Wish::default()).await;
    let user = principal(Role::User);
    let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let batch = format!(
        "[{},{note},7,{}]",
        request(1, "ping", &json!({})),
        request(2, "tools/list", &json!({}))
    );
    let got = gate.plain(&user, &batch).await;
    let ids: Vec<_> = got
        .body
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| answer["id"].clone())
        .collect();
    assert_eq!(ids, [json!(1), Value::Null, json!(2)]);
    assert_eq!(got.body[1]["error"]["code"], -32600);
    for silent in [note.to_owned(), format!("[{note}]")] {
        let got = gate.plain(&user, &silent).await;
        assert_eq!((got.status, got.body), (202, Value::Null), "{silent}");
    }
    let many = format!("[{}]", vec![note; 101].join(","));
    assert_eq!(
        gate.plain(&user, &many).await.error(),
        (400, -32600, "invalid_request".to_owned())
    );
}
