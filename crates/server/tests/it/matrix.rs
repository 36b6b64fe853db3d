//! Every route and every tool × everybody: anonymous, each role, and another tenant. A new route or tool without a row
//! here fails.

use crate::rig::Rig;
use forebay_domain::Role;
use forebay_server::http::ROUTES;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What each of anonymous, viewer, user, operator, admin and a user of another tenant is answered.
type Row = [u16; 6];

const OPEN: Row = [200; 6];

/// What is kept and done later.
fn of_contexts_and_tasks() -> BTreeMap<&'static str, Row> {
    BTreeMap::from([
        ("POST /api/v1/mcp/contexts", [401, 403, 201, 201, 201, 201]),
        ("GET /api/v1/mcp/contexts", [401, 403, 200, 200, 200, 200]),
        // Of nothing there is nothing to ask or to take away.
        ("GET /api/v1/mcp/contexts/{id}", [401, 403, 404, 404, 404, 404]),
        ("DELETE /api/v1/mcp/contexts/{id}", [401, 403, 404, 404, 404, 404]),
        ("POST /api/v1/mcp/contexts/{id}/prompt", [401, 403, 404, 404, 404, 404]),
        ("POST /api/v1/mcp/contexts/{id}/nodes", [401, 403, 404, 404, 404, 404]),
        (
            "DELETE /api/v1/mcp/contexts/{id}/nodes/{node}",
            [401, 403, 404, 404, 404, 404],
        ),
        ("GET /api/v1/mcp/health", [401, 200, 200, 200, 200, 200]),
        ("GET /api/v1/mcp/models", [401, 200, 200, 200, 200, 200]),
        ("POST /api/v1/mcp/tasks", [401, 403, 400, 400, 400, 400]),
        ("GET /api/v1/mcp/tasks", [401, 403, 200, 200, 200, 200]),
        ("GET /api/v1/mcp/tasks/{id}", [401, 403, 404, 404, 404, 404]),
        ("POST /api/v1/mcp/tasks/{id}/cancel", [401, 403, 404, 404, 404, 404]),
        ("POST /api/v1/mcp/tasks/{id}/requeue", [401, 403, 404, 404, 404, 404]),
    ])
}

/// The status of every route. Where a role may pass, the status is that of a request that makes sense.
fn expected() -> BTreeMap<&'static str, Row> {
    let mut rows = of_contexts_and_tasks();
    rows.extend([
        ("GET /health", OPEN),
        ("GET /livez", OPEN),
        ("GET /readyz", OPEN),
        ("GET /mcp/health", OPEN),
        ("GET /.well-known/oauth-protected-resource", OPEN),
        ("GET /.well-known/oauth-protected-resource/mcp", OPEN),
        ("GET /.well-known/oauth-protected-resource/servers/{name}/mcp", OPEN),
        ("GET /metrics", [401, 403, 403, 200, 200, 403]),
        ("GET /openapi.json", [401, 200, 200, 200, 200, 200]),
        ("GET /api/v1/status", [401, 200, 200, 200, 200, 200]),
        ("GET /api/v1/explain", [401, 200, 200, 200, 200, 200]),
        ("POST /api/v1/keys", [401, 403, 403, 403, 201, 403]),
        ("GET /api/v1/keys", [401, 403, 403, 403, 200, 403]),
        ("DELETE /api/v1/keys/{id}", [401, 403, 403, 403, 404, 403]),
        ("GET /api/v1/events", [401, 403, 403, 200, 200, 403]),
        ("GET /api/v1/audit", [401, 403, 403, 403, 200, 403]),
        ("GET /api/v1/audit/verify", [401, 403, 403, 403, 200, 403]),
        ("GET /api/v1/upstreams", [401, 403, 403, 200, 200, 403]),
        ("POST /api/v1/upstreams", [401, 403, 403, 403, 201, 403]),
        ("GET /api/v1/upstreams/{name}", [401, 403, 403, 404, 404, 403]),
        ("DELETE /api/v1/upstreams/{name}", [401, 403, 403, 403, 404, 403]),
        ("POST /api/v1/upstreams/{name}/approve", [401, 403, 403, 403, 404, 403]),
        ("POST /api/v1/upstreams/{name}/forget", [401, 403, 403, 403, 404, 403]),
        ("POST /api/v1/upstreams/{name}/refresh", [401, 403, 403, 403, 404, 403]),
        ("GET /api/v1/explain/route", [401, 403, 200, 200, 200, 200]),
        ("GET /api/v1/providers", [401, 403, 403, 200, 200, 403]),
        ("POST /api/v1/providers", [401, 403, 403, 403, 201, 403]),
        ("GET /api/v1/providers/{name}", [401, 403, 403, 404, 404, 403]),
        ("DELETE /api/v1/providers/{name}", [401, 403, 403, 403, 404, 403]),
        ("POST /api/v1/providers/{name}/test", [401, 403, 403, 404, 404, 403]),
        ("GET /api/v1/tools", [401, 403, 403, 200, 200, 403]),
        ("POST /api/v1/tools", [401, 403, 403, 403, 201, 403]),
        ("DELETE /api/v1/tools/{name}", [401, 403, 403, 403, 404, 403]),
        ("GET /api/v1/spending", [401, 403, 200, 200, 200, 200]),
        ("POST /api/v1/spending/check", [401, 403, 200, 200, 200, 200]),
        ("GET /api/v1/budgets", [401, 403, 200, 200, 200, 200]),
        ("PUT /api/v1/budgets", [401, 403, 403, 200, 200, 403]),
        ("DELETE /api/v1/budgets", [401, 403, 403, 404, 404, 403]),
        ("GET /api/v1/billing/transactions", [401, 403, 200, 200, 200, 200]),
        ("GET /api/v1/gpu/offers", [401, 403, 200, 200, 200, 200]),
        // Here is no market, so there is nothing of what is asked for.
        ("POST /api/v1/gpu/quotes", [401, 403, 404, 404, 404, 404]),
        ("POST /api/v1/gpu/instances", [401, 403, 404, 404, 404, 404]),
        ("GET /api/v1/gpu/instances", [401, 403, 200, 200, 200, 200]),
        ("GET /api/v1/gpu/instances/{id}", [401, 403, 404, 404, 404, 404]),
        ("DELETE /api/v1/gpu/instances/{id}", [401, 403, 404, 404, 404, 404]),
        ("POST /api/v1/gpu/instances/{id}/extend", [401, 403, 404, 404, 404, 404]),
        ("GET /api/v1/gpu/instances/{id}/logs", [401, 403, 404, 404, 404, 404]),
        // These are for machines, which have tokens of their own.
        ("POST /api/v1/gpu/agent", [401; 6]),
        ("GET /dist/forebay", [401; 6]),
        ("GET /v1/models", [401, 200, 200, 200, 200, 200]),
        ("GET /v1/models/{*id}", [401, 404, 200, 200, 200, 200]),
        ("POST /v1/chat/completions", [401, 403, 200, 200, 200, 200]),
        // Whoever may ask models is told that there is none of that name.
        ("POST /v1/completions", [401, 403, 404, 404, 404, 404]),
        ("POST /v1/embeddings", [401, 403, 404, 404, 404, 404]),
        ("POST /v1/responses", [401, 403, 404, 404, 404, 404]),
        ("GET /v1/responses/{id}", [401, 404, 404, 404, 404, 404]),
        ("DELETE /v1/responses/{id}", [401, 404, 404, 404, 404, 404]),
        ("POST /v1/responses/{id}/cancel", [401, 404, 404, 404, 404, 404]),
        ("GET /v1/responses/{id}/input_items", [401, 404, 404, 404, 404, 404]),
        ("POST /v1/messages", [401, 403, 404, 404, 404, 404]),
        ("GET /models", [401, 200, 200, 200, 200, 200]),
        ("GET /models/{*id}", [401, 404, 200, 200, 200, 200]),
        ("POST /chat/completions", [401, 403, 200, 200, 200, 200]),
        ("POST /completions", [401, 403, 404, 404, 404, 404]),
        ("POST /embeddings", [401, 403, 404, 404, 404, 404]),
        ("POST /responses", [401, 403, 404, 404, 404, 404]),
        ("GET /responses/{id}", [401, 404, 404, 404, 404, 404]),
        ("DELETE /responses/{id}", [401, 404, 404, 404, 404, 404]),
        ("POST /responses/{id}/cancel", [401, 404, 404, 404, 404, 404]),
        ("GET /responses/{id}/input_items", [401, 404, 404, 404, 404, 404]),
        ("POST /messages", [401, 403, 404, 404, 404, 404]),
        ("POST /mcp", [401, 200, 200, 200, 200, 200]),
        // Without a session there is no stream to read and nothing to end.
        ("GET /mcp", [401, 400, 400, 400, 400, 400]),
        ("DELETE /mcp", [401, 400, 400, 400, 400, 400]),
        ("POST /servers/{name}/mcp", [401, 200, 200, 200, 200, 200]),
        ("GET /servers/{name}/mcp", [401, 400, 400, 400, 400, 400]),
        ("DELETE /servers/{name}/mcp", [401, 400, 400, 400, 400, 400]),
        ("GET /mcp/sse", [401, 200, 200, 200, 200, 200]),
        ("GET /api/v1/mcp/sse", [401, 200, 200, 200, 200, 200]),
        ("GET /servers/{name}/mcp/sse", [401, 200, 200, 200, 200, 200]),
        // Without a stream there is nothing to post to, and without a handshake no WebSocket.
        ("POST /mcp/messages", [401, 400, 400, 400, 400, 400]),
        ("POST /api/v1/mcp/messages", [401, 400, 400, 400, 400, 400]),
        ("POST /servers/{name}/mcp/messages", [401, 400, 400, 400, 400, 400]),
        ("GET /mcp/ws", [401, 400, 400, 400, 400, 400]),
        ("GET /servers/{name}/mcp/ws", [401, 400, 400, 400, 400, 400]),
        ("GET /mcp/tools", [401, 200, 200, 200, 200, 200]),
        ("POST /mcp/tools/{name}", [401, 403, 200, 200, 200, 200]),
        ("GET /mcp/resources", [401, 200, 200, 200, 200, 200]),
        ("POST /mcp/resources", [401, 200, 200, 200, 200, 200]),
        ("POST /api/v1/mcp", [401, 200, 200, 200, 200, 200]),
    ]);
    rows
}

async fn everybody(rig: &Rig) -> [String; 6] {
    [
        String::new(),
        rig.key("acme", "vera", Role::Viewer, &[]).await,
        rig.key("acme", "ursula", Role::User, &[]).await,
        rig.key("acme", "otto", Role::Operator, &[]).await,
        rig.admin.clone(),
        rig.key("other", "oscar", Role::User, &[]).await,
    ]
}

fn said() -> Value {
    json!([{"role": "user", "content": "hi"}])
}

fn body(route: &str) -> Option<Value> {
    let discover = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    match route {
        "POST /api/v1/keys" => Some(json!({"name": "n", "role": "user"})),
        "POST /v1/chat/completions" | "POST /chat/completions" => Some(json!({"model": "stub", "messages": said()})),
        "POST /v1/completions" | "POST /completions" => Some(json!({"model": "none", "prompt": "hi"})),
        "POST /v1/messages" | "POST /messages" => Some(json!({"model": "none", "messages": said(), "max_tokens": 16})),
        "POST /v1/embeddings" | "POST /embeddings" | "POST /v1/responses" | "POST /responses" => {
            Some(json!({"model": "none", "input": "hi"}))
        }
        "POST /mcp" | "POST /servers/{name}/mcp" | "POST /api/v1/mcp" => Some(discover),
        "POST /api/v1/spending/check" => Some(json!({"tool": "calculator"})),
        "PUT /api/v1/budgets" => Some(json!({"scope": "tenant", "window": "60m", "limit_usd": 50})),
        "POST /api/v1/gpu/quotes" | "POST /api/v1/gpu/instances" => Some(json!({"offer_id": "local:cpu-0"})),
        "POST /api/v1/gpu/instances/{id}/extend" => Some(json!({"hours": 1})),
        "POST /api/v1/mcp/contexts" => Some(json!({"model_id": "stub"})),
        "POST /api/v1/mcp/contexts/{id}/prompt" => Some(json!({"prompt": "hi"})),
        "POST /api/v1/mcp/contexts/{id}/nodes" => Some(json!({"content": "hi"})),
        // Of a type that there is none of: what may be queued is tried elsewhere.
        "POST /api/v1/mcp/tasks" => Some(json!({"type": "none"})),
        "POST /api/v1/upstreams" => Some(json!({"name": "far", "url": "http://127.0.0.1:9/mcp"})),
        "POST /api/v1/providers" => {
            Some(json!({"name": "wiki", "type": "rest", "config": {"base_url": "https://wiki.example.com"}}))
        }
        "POST /api/v1/providers/{name}/test" => Some(json!({"query": "hi"})),
        "POST /api/v1/tools" => Some(json!({"name": "weather", "description": "The weather",
            "parameters": {"city": {"type": "string"}}, "endpoint": {"url": "https://weather.example.com/{city}"}})),
        "POST /api/v1/upstreams/{name}/approve" => Some(json!({"all": true})),
        "POST /mcp/tools/{name}" => Some(json!({"expression": "1+1"})),
        _ => None,
    }
}

#[tokio::test]
async fn every_route_answers_every_role_as_its_row_says() {
    let rig = Rig::start().await;
    let everybody = everybody(&rig).await;
    let rows = expected();
    let routes: BTreeSet<String> = ROUTES
        .iter()
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    assert_eq!(
        routes,
        rows.keys().map(|&route| route.to_owned()).collect(),
        "a route without a row, or a row without a route"
    );
    for (route, row) in rows {
        let (method, path) = route.split_once(' ').unwrap();
        let path = match path {
            "/api/v1/explain" => "/api/v1/explain?action=tool:calculator".to_owned(),
            "/api/v1/explain/route" => "/api/v1/explain/route?model=stub".to_owned(),
            "/api/v1/budgets" if method == "DELETE" => "/api/v1/budgets?scope=key&window=60m".to_owned(),
            path if path.ends_with("/models/{*id}") => path.replace("{*id}", "stub"),
            "/mcp/tools/{name}" => "/mcp/tools/calculator".to_owned(),
            path if path.starts_with("/servers/") => path.replace("{name}", "forebay"),
            path => path
                .replace("{id}", "0000000000000000")
                .replace("{node}", "none")
                .replace("{name}", "none"),
        };
        for (key, expected) in everybody.iter().zip(row) {
            let mut request = rig
                .request(method, &path, key)
                .header("accept", "application/json, text/event-stream");
            if let Some(body) = body(route) {
                request = request.json(&body);
            }
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            let who = &key[..key.len().min(10)];
            assert_eq!(
                status,
                expected,
                "{route} as {who:?}: {}",
                response.text().await.unwrap()
            );
        }
    }
}

/// Which of viewer, user, operator, admin and a user of another tenant may call each tool.
const TOOLS: &[(&str, [bool; 5])] = &[
    ("add_node", [false, true, true, true, true]),
    ("add_prompt", [false, true, true, true, true]),
    ("calculator", [false, true, true, true, true]),
    ("call_batch", [false, true, true, true, true]),
    ("call_chain", [false, true, true, true, true]),
    ("cancel_task", [false, true, true, true, true]),
    ("chat", [false, true, true, true, true]),
    ("check_spending_limit", [false, true, true, true, true]),
    ("create_context", [false, true, true, true, true]),
    ("create_gpu_instance", [false, true, true, true, true]),
    ("delete_context", [false, true, true, true, true]),
    ("delete_node", [false, true, true, true, true]),
    ("destroy_gpu_instance", [false, true, true, true, true]),
    ("extend_gpu_instance", [false, true, true, true, true]),
    ("file_reader", [false, true, true, true, true]),
    ("gateway_status", [true, true, true, true, true]),
    ("get_billing_transactions", [false, true, true, true, true]),
    ("get_context", [false, true, true, true, true]),
    ("get_gpu_instance", [false, true, true, true, true]),
    ("get_gpu_instance_logs", [false, true, true, true, true]),
    ("get_spending_info", [false, true, true, true, true]),
    ("get_task", [false, true, true, true, true]),
    ("list_contexts", [false, true, true, true, true]),
    ("list_gpu_instances", [false, true, true, true, true]),
    ("list_my_gpu_instances", [false, true, true, true, true]),
    ("list_tasks", [false, true, true, true, true]),
    ("proxy_inference_request", [false, true, true, true, true]),
    ("quote_gpu_instance", [false, true, true, true, true]),
    ("search_tools", [false, true, true, true, true]),
];

/// Tools that are told, where there is no machine, context or task, that there is none: by then they were allowed.
const OF_SOMETHING: [&str; 13] = [
    "add_node",
    "add_prompt",
    "cancel_task",
    "create_gpu_instance",
    "delete_context",
    "delete_node",
    "destroy_gpu_instance",
    "extend_gpu_instance",
    "get_context",
    "get_gpu_instance",
    "get_gpu_instance_logs",
    "get_task",
    "quote_gpu_instance",
];

#[tokio::test]
async fn every_tool_is_seen_and_called_by_those_alone_who_may() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hello.txt"), "hello").unwrap();
    let allowed = folder.path().canonicalize().unwrap();
    let rig = Rig::with(|config| {
        config.tools = serde_json::from_value(json!({"file_reader": {"allowed_paths": [allowed]}})).unwrap();
    })
    .await;
    let file = allowed.join("hello.txt");
    let arguments = |tool: &str| match tool {
        "calculator" => json!({"expression": "2+2"}),
        "call_batch" => json!({"calls": [{"tool": "gateway_status"}]}),
        "call_chain" => json!({"steps": [{"tool": "gateway_status"}]}),
        "chat" => json!({"prompt": "hi"}),
        "file_reader" => json!({"path": file}),
        "search_tools" => json!({"query": "status"}),
        "check_spending_limit" => json!({"estimated_cost": 1}),
        "create_gpu_instance" | "destroy_gpu_instance" | "quote_gpu_instance" => {
            json!({"provider": "local", "instance_id": "cpu-0"})
        }
        "create_context" => json!({"model_id": "stub"}),
        "add_prompt" => json!({"context_id": "none", "prompt": "hi"}),
        "add_node" => json!({"context_id": "none", "content": "hi"}),
        "delete_node" => json!({"context_id": "none", "node_id": "none"}),
        "get_context" | "delete_context" => json!({"context_id": "none"}),
        "get_task" | "cancel_task" => json!({"task_id": "none"}),
        "extend_gpu_instance" => json!({"instance_id": "none", "hours": 1}),
        "get_gpu_instance" | "get_gpu_instance_logs" => json!({"instance_id": "none"}),
        "proxy_inference_request" => json!({"target_url": "/v1/models", "method": "GET"}),
        _ => json!({}),
    };
    let everybody = everybody(&rig).await;
    for (index, key) in everybody[1..].iter().enumerate() {
        let listed = rig.rpc(key, "tools/list", json!({})).await;
        let names: BTreeSet<&str> = listed["result"]["tools"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tool| tool["name"].as_str().unwrap())
            .collect();
        let may: BTreeSet<&str> = TOOLS
            .iter()
            .filter(|(_, row)| row[index])
            .map(|(tool, _)| *tool)
            .collect();
        assert_eq!(
            names, may,
            "a list shows what its reader may use, and every tool needs a row"
        );
        for (tool, row) in TOOLS {
            let answer = rig
                .rpc(key, "tools/call", json!({"name": tool, "arguments": arguments(tool)}))
                .await;
            let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_default();
            if row[index] && OF_SOMETHING.contains(tool) {
                assert!(text.contains("\"code\":\"UNKNOWN_"), "{tool}: {answer}");
                continue;
            }
            assert_eq!(
                answer["result"]["isError"].as_bool() == Some(false)
                    || (answer.get("result").is_some() && answer["result"].get("isError").is_none()),
                row[index],
                "{tool}: {answer}"
            );
        }
    }
    let anonymous = rig
        .post(
            "/api/v1/mcp",
            "",
            &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
        )
        .await;
    assert_eq!(anonymous.status(), 401);
}

#[tokio::test]
async fn a_tenant_reads_its_own_events_and_keys_alone() {
    let rig = Rig::start().await;
    let acme = rig.key("acme", "otto", Role::Operator, &[]).await;
    let other = rig.key("other", "olga", Role::Operator, &[]).await;
    rig.rpc(
        &acme,
        "tools/call",
        json!({"name": "calculator", "arguments": {"expression": "1+1"}}),
    )
    .await;
    let read = |key: String, path: &'static str| {
        let rig = &rig;
        async move { rig.request("GET", path, &key).send().await.unwrap() }
    };
    crate::rig::eventually("acme sees its call", || async {
        let text = read(acme.clone(), "/api/v1/events?limit=1000")
            .await
            .text()
            .await
            .unwrap();
        text.contains("tool:calculator")
    })
    .await;
    let events: Value = read(other.clone(), "/api/v1/events?limit=1000")
        .await
        .json()
        .await
        .unwrap();
    for event in events["events"].as_array().unwrap() {
        assert_eq!(event["tenant"], "other", "{event}");
    }
    assert_eq!(read(other.clone(), "/api/v1/events?tenant=acme").await.status(), 403);
    let id = acme.split('_').nth(1).unwrap().to_owned();
    let explain = format!("/api/v1/explain?action=tool:calculator&key={id}");
    let asked = rig.request("GET", &explain, &other).send().await.unwrap();
    assert_eq!(asked.status(), 404, "another tenant's key does not exist");
    assert_eq!(rig.request("GET", &explain, &acme).send().await.unwrap().status(), 200);
}
