//! One server by itself, by its own names; and what a front puts around results and expects in headers.

use crate::{
    actor::{Actor, NAME},
    support::{Gate, Got, Wish, headers, modern_request, principal, request, trace},
};
use bytes::Bytes;
use forebay_domain::{Code, Principal, Role, event::Outcome};
use forebay_mcp::{HttpIn, Scope};
use rmcp::model::InitializeResult;
use serde_json::{Value, json};

async fn within(gate: &Gate, user: &Principal, scope: &Scope, extra: &[(&str, &str)], body: &str) -> Got {
    let headers = headers(extra);
    let reply = gate.front.post(HttpIn {
        headers: &headers,
        body: Bytes::from(body.to_owned()),
        principal: user.clone(),
        trace: trace(),
        scope: scope.clone(),
    });
    Got::read(reply.await).await
}

async fn open(gate: &Gate, user: &Principal, scope: &Scope) -> (String, Value) {
    let params =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}});
    let got = within(gate, user, scope, &[], &request(1, "initialize", &params)).await;
    let id = got.headers["mcp-session-id"].to_str().unwrap().to_owned();
    (id, got.body["result"].clone())
}

#[tokio::test]
async fn a_scope_tells_what_it_has() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let user = principal(Role::User);
    let (_, whole) = open(&gate, &user, &Scope::Whole).await;
    assert_eq!(
        whole["capabilities"],
        json!({
            "tools": {"listChanged": true}, "resources": {"listChanged": true, "subscribe": true},
            "prompts": {"listChanged": true}, "completions": {}, "logging": {},
        })
    );
    assert_eq!(whole["instructions"], "Ask away.");
    let (_, own) = open(&gate, &user, &Scope::Server(NAME.into())).await;
    assert_eq!(own["instructions"], "Act.");
    serde_json::from_value::<InitializeResult>(own).unwrap();
    let (_, builtin) = open(&gate, &user, &Scope::Server("forebay".into())).await;
    assert!(builtin["capabilities"].get("prompts").is_none());
    let nowhere = within(&gate, &user, &Scope::Server("nobody".into()), &[], "{}").await;
    assert_eq!(nowhere.error(), (404, -32000, "unknown_server".to_owned()));
}

#[tokio::test]
async fn a_session_belongs_to_its_scope() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let user = principal(Role::User);
    let own = Scope::Server(NAME.into());
    let (id, _) = open(&gate, &user, &own).await;
    let session = [("mcp-session-id", id.as_str())];
    let list = request(2, "tools/list", &json!({}));
    let got = within(&gate, &user, &own, &session, &list).await;
    let tools = got.body["result"]["tools"].as_array().unwrap();
    assert!(tools.iter().any(|tool| tool["name"] == "ask"));
    assert!(!tools.iter().any(|tool| tool["name"] == "calculator"));
    let got = within(&gate, &user, &Scope::Whole, &session, &list).await;
    assert_eq!(got.error(), (404, -32001, "unknown_session".to_owned()));
    assert_eq!(
        gate.front
            .get(&headers(&session), &user, &Scope::Whole)
            .await
            .status
            .as_u16(),
        404
    );
}

#[tokio::test]
async fn prompts_and_completions_are_served() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let user = principal(Role::User);
    let list = gate.modern(&user, "prompts/list", json!({})).await;
    assert_eq!(list.body["result"]["prompts"], json!([{"name": "greet"}]));
    let params = json!({"name": "greet", "arguments": {"a": "b"}, "x-more": 1.0});
    let got = gate.modern(&user, "prompts/get", params).await;
    assert_eq!(
        got.body["result"]["params"]["x-more"],
        json!(1.0),
        "params reach the server whole"
    );
    let unknown = gate.modern(&user, "prompts/get", json!({"name": "nothing"})).await;
    assert_eq!(unknown.error(), (200, -32602, "unknown_prompt".to_owned()));
    let params = json!({"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "a", "value": ""}});
    let got = gate.modern(&user, "completion/complete", params).await;
    assert_eq!(got.body["result"]["completion"]["values"], json!(["a"]));
    assert_eq!(got.body["result"]["resultType"], "complete");
}

#[tokio::test]
async fn a_completion_leaves_one_event_also_where_it_is_refused() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let user = principal(Role::User);
    for name in ["greet", "nothing"] {
        let params = json!({"ref": {"type": "ref/prompt", "name": name}, "argument": {"name": "a", "value": "canary"}});
        gate.modern(&user, "completion/complete", params).await;
    }
    let events = gate.events(2).await;
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.action.as_str(), event.outcome))
        .collect();
    let refused = Outcome::Failed(Code::UnknownPrompt);
    assert_eq!(
        told,
        [("completion:complete", Outcome::Ok), ("completion:complete", refused)]
    );
    assert!(!format!("{events:?}").contains("canary"));
}

#[tokio::test]
async fn results_keep_what_nobody_here_knows() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let user = principal(Role::User);
    let got = gate.modern(&user, "tools/call", json!({"name": "marked"})).await;
    let result = &got.body["result"];
    assert_eq!(
        (&result["resultType"], &result["x-more"]),
        (&json!("complete"), &json!({"kept": 1.0}))
    );
    assert_eq!(result["_meta"]["own"], true);
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "forebay");
    let legacy = gate.open_session(&user, "2025-11-25").await;
    let call = request(2, "tools/call", &json!({"name": "marked"}));
    let got = gate.post(&user, &[("mcp-session-id", &legacy)], &call).await;
    assert_eq!(
        got.body["result"],
        json!({"content": [], "x-more": {"kept": 1.0}, "_meta": {"own": true}}),
        "older clients know no result types"
    );
    let read = gate.modern(&user, "resources/read", json!({"uri": "actor://1"})).await;
    assert_eq!(
        (&read.body["result"]["ttlMs"], &read.body["result"]["cacheScope"]),
        (&json!(0), &json!("private"))
    );
    let refused = gate.modern(&user, "tools/call", json!({"name": "refuse"})).await;
    assert_eq!(
        refused.body["error"],
        json!({"code": -31999, "message": "Mine.", "data": {"x": [1.0]}}),
        "an error of a server is passed on as it is"
    );
}

#[tokio::test]
async fn arguments_that_stand_in_headers_stand_there_truly() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let user = principal(Role::User);
    for (header, region, expected) in [
        (Some("eu"), json!("eu"), 200),
        (Some("us"), json!("eu"), 400),
        (None, json!("eu"), 400),
        (None, Value::Null, 200),
    ] {
        let (mut extra, body) =
            modern_request("tools/call", json!({"name": "routed", "arguments": {"region": region}}));
        extra.extend(header.map(|value| ("mcp-param-region", value.to_owned())));
        let extra: Vec<_> = extra.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let got = gate.post(&user, &extra, &body).await;
        assert_eq!(got.status, expected, "{header:?} {region}");
        if expected == 400 {
            assert_eq!(got.error(), (400, -32020, "header_mismatch".to_owned()));
        }
    }
}

#[tokio::test]
async fn logs_come_from_the_level_on_that_the_client_named() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let user = principal(Role::User);
    let levels = |got: &Got| -> Vec<String> {
        let messages = got.messages();
        let logs = messages
            .iter()
            .filter(|message| message["method"] == "notifications/message");
        logs.map(|log| log["params"]["level"].as_str().unwrap().to_owned())
            .collect()
    };
    let quiet = gate.modern(&user, "tools/call", json!({"name": "loud"})).await;
    assert_eq!(
        quiet.headers["content-type"], "application/json",
        "nobody asked for logs"
    );
    let meta = json!({"io.modelcontextprotocol/logLevel": "error"});
    let got = gate
        .modern(&user, "tools/call", json!({"name": "loud", "_meta": meta}))
        .await;
    assert_eq!(levels(&got), ["error"]);
    let meta = json!({"io.modelcontextprotocol/logLevel": "loud"});
    let got = gate
        .modern(&user, "tools/call", json!({"name": "loud", "_meta": meta}))
        .await;
    assert_eq!(got.error(), (200, -32602, "invalid_params".to_owned()));
    let session = gate.open_session(&user, "2025-06-18").await;
    let id = [("mcp-session-id", session.as_str())];
    let call = request(2, "tools/call", &json!({"name": "loud"}));
    assert_eq!(levels(&gate.post(&user, &id, &call).await), ["info", "error"]);
    gate.post(&user, &id, &request(3, "logging/setLevel", &json!({"level": "debug"})))
        .await;
    assert_eq!(levels(&gate.post(&user, &id, &call).await), ["debug", "info", "error"]);
    let wrong = gate
        .post(&user, &id, &request(4, "logging/setLevel", &json!({"level": "loud"})))
        .await;
    assert_eq!(wrong.error(), (200, -32602, "invalid_params".to_owned()));
}

#[tokio::test]
async fn a_trace_in_the_body_counts_where_no_header_has_one() {
    let gate = Gate::open(Wish::default()).await;
    let user = principal(Role::User);
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let call = |name: &str| json!({"name": "gateway_status", "_meta": {"traceparent": name}});
    gate.modern(&user, "tools/call", call(traceparent)).await;
    gate.modern(&user, "tools/call", call("nonsense")).await;
    let events = gate.events(2).await;
    assert_eq!(events[0].trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(events[1].trace, trace());
}
