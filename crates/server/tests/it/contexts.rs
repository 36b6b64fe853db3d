//! Contexts through the whole gateway, on both databases: over REST, as a stream, and over MCP.

use crate::rig::Rig;
use forebay_domain::Role;
use forebay_server::http::ROUTES;
use forebay_testkit::{
    db::TestDb,
    openai::{ANSWER, Reply, polite_events},
};
use reqwest::Response;
use serde_json::{Value, json};

const CONTEXTS: &str = "/api/v1/mcp/contexts";

async fn json_of(response: Response, status: u16) -> Value {
    let (was, text) = (response.status().as_u16(), response.text().await.unwrap());
    assert_eq!(was, status, "{text}");
    serde_json::from_str(&text).unwrap()
}

async fn create(rig: &Rig, key: &str, body: &Value) -> Value {
    json_of(rig.post(CONTEXTS, key, body).await, 201).await
}

fn stub() -> Value {
    json!({"model_id": "stub", "nodes": [{"content": "Be brief.", "metadata": {"role": "system"}}]})
}

/// The events of a stream, by their names.
fn events(text: &str) -> Vec<(String, Value)> {
    let read = |event: &str| {
        let (name, data) = event.strip_prefix("event: ")?.split_once("\ndata: ")?;
        Some((name.to_owned(), serde_json::from_str(data).ok()?))
    };
    text.split("\n\n").filter_map(read).collect()
}

#[tokio::test]
async fn a_conversation_is_had_on_either_database() {
    for db in TestDb::both().await {
        let rig = Rig::on(db.url(), tempfile::tempdir().unwrap(), |_| {}).await;
        let key = rig.key("acme", "ann", Role::User, &[]).await;
        let made = create(&rig, &key, &stub()).await;
        let path = format!("{CONTEXTS}/{}", made["id"].as_str().unwrap());
        let question = json!({"prompt": "Capital of France?"});
        let answer = json_of(rig.post(&format!("{path}/prompt"), &key, &question).await, 200).await;
        assert_eq!(answer["node"]["content"], ANSWER, "{}", db.name());
        assert_eq!(answer["usage"]["total_tokens"], 18);
        let remark = json!({"content": "a note", "return_context": true});
        let added = json_of(rig.post(&format!("{path}/nodes"), &key, &remark).await, 201).await;
        assert_eq!(added["context"]["node_count"], 4);
        let node = format!("{path}/nodes/{}", added["node"]["id"].as_str().unwrap());
        let removed = rig.request("DELETE", &node, &key).send().await.unwrap();
        assert_eq!(json_of(removed, 200).await["deleted"], true);
        let shown = json_of(rig.request("GET", &path, &key).send().await.unwrap(), 200).await;
        let roles: Vec<_> = shown["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| &node["role"])
            .collect();
        assert_eq!(roles, ["system", "user", "assistant"]);
        let gone = rig.request("DELETE", &path, &key).send().await.unwrap();
        assert_eq!(json_of(gone, 200).await["deleted"], true);
        assert_eq!(rig.request("GET", &path, &key).send().await.unwrap().status(), 404);
    }
}

#[tokio::test]
async fn what_was_made_says_where_it_is_and_what_is_asked_later_where_to_look() {
    let rig = Rig::start().await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    let response = rig.post(CONTEXTS, &key, &stub()).await;
    let place = response.headers()["location"].to_str().unwrap().to_owned();
    let made = json_of(response, 201).await;
    assert_eq!(place, format!("{CONTEXTS}/{}", made["id"].as_str().unwrap()));
    rig.engine.will(Reply::events().hold_head());
    let request = rig
        .request("POST", &format!("{place}/prompt"), &key)
        .json(&json!({"prompt": "?"}));
    let later = request.header("prefer", "respond-async").send().await.unwrap();
    assert_eq!(later.headers()["preference-applied"], "respond-async");
    let task = later.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(later.headers()["x-task-id"], task.rsplit('/').next().unwrap());
    json_of(later, 202).await;
    let cancelled = rig.post(&format!("{task}/cancel"), &key, &json!({})).await;
    assert_eq!(cancelled.status(), 200);
    let ended = rig
        .request("GET", &format!("{task}?wait=20s"), &key)
        .send()
        .await
        .unwrap();
    assert_eq!(json_of(ended, 200).await["status"], "cancelled");
    let bare = json!({"model_id": "stub", "return_context": false});
    let made = create(&rig, &key, &bare).await;
    assert!(made.get("nodes").is_none() && made["id"].is_string(), "{made}");
}

#[tokio::test]
async fn pieces_come_before_the_node() {
    let rig = Rig::start().await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    let made = create(&rig, &key, &stub()).await;
    let path = format!("{CONTEXTS}/{}/prompt", made["id"].as_str().unwrap());
    let stream = polite_events("stub", true).into_iter();
    rig.engine.will(stream.fold(Reply::events(), Reply::piece));
    let response = rig.post(&path, &key, &json!({"prompt": "?", "stream": true})).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let told = events(&response.text().await.unwrap());
    let (last, pieces) = told.split_last().unwrap();
    assert!(
        pieces.len() > 1 && pieces.iter().all(|(name, _)| name == "delta"),
        "{told:?}"
    );
    let joined: String = pieces
        .iter()
        .map(|(_, piece)| piece["content"].as_str().unwrap())
        .collect();
    assert_eq!((last.0.as_str(), joined.as_str()), ("node", ANSWER));
    assert_eq!(last.1["node"]["content"], ANSWER);
    rig.engine.will(Reply::json(400, &json!({"error": {"message": "no"}})));
    let failed = rig.post(&path, &key, &json!({"prompt": "?", "stream": true})).await;
    let told = events(&failed.text().await.unwrap());
    assert_eq!(told.last().unwrap().0, "error", "{told:?}");
    assert!(told.last().unwrap().1["code"].is_string());
}

#[tokio::test]
async fn the_server_contexts_and_the_routes_are_one() {
    let rig = Rig::start().await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    let call = |tool: &'static str, arguments: Value| {
        let (rig, key) = (&rig, &key);
        async move {
            let answer = rig
                .rpc(key, "tools/call", json!({"name": tool, "arguments": arguments}))
                .await;
            assert_eq!(answer["result"]["isError"], false, "{tool}: {answer}");
            answer["result"]["structuredContent"].clone()
        }
    };
    let made = call("create_context", stub()).await;
    let id = made["id"].as_str().unwrap().to_owned();
    let answer = call("add_prompt", json!({"context_id": id, "prompt": "?", "priority": 4})).await;
    let task = call("get_task", json!({"task_id": answer["task_id"]})).await;
    assert_eq!(
        (&task["priority"], &task["output"]["node"]),
        (&json!("critical"), &answer["node"])
    );
    let path = format!("{CONTEXTS}/{id}");
    let shown = json_of(rig.request("GET", &path, &key).send().await.unwrap(), 200).await;
    assert_eq!(call("get_context", json!({"context_id": id})).await, shown);
    let read = rig
        .rpc(&key, "resources/read", json!({"uri": format!("context://{id}")}))
        .await;
    let text = read["result"]["contents"][0]["text"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), shown);
    let other = rig.key("other", "oscar", Role::User, &[]).await;
    let refused = rig
        .rpc(&other, "resources/read", json!({"uri": format!("context://{id}")}))
        .await;
    assert!(refused.get("error").is_some(), "{refused}");
}

#[tokio::test]
async fn what_is_not_allowed_is_not_offered() {
    let rig = Rig::start().await;
    let looker = rig
        .key(
            "acme",
            "ann",
            Role::User,
            &["contexts:read", "tool:*", "resources:read"],
        )
        .await;
    let listed = rig.rpc(&looker, "tools/list", json!({})).await;
    let tools = listed["result"]["tools"].as_array().unwrap().iter();
    let names: Vec<_> = tools.map(|tool| tool["name"].as_str().unwrap()).collect();
    assert!(
        names.contains(&"get_context") && !names.contains(&"add_prompt"),
        "{names:?}"
    );
    assert_eq!(rig.post(CONTEXTS, &looker, &stub()).await.status(), 403);
    let unasked = rig.key("acme", "ann", Role::User, &["contexts:*"]).await;
    let refused = rig.post(CONTEXTS, &unasked, &stub()).await;
    assert!(
        refused.status().is_client_error(),
        "no model may be asked with that key"
    );
}

#[tokio::test]
async fn a_node_belongs_to_the_one_before_it_unless_somebody_says_otherwise() {
    let rig = Rig::start().await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    let made = create(&rig, &key, &stub()).await;
    let (path, system) = (
        format!("{CONTEXTS}/{}", made["id"].as_str().unwrap()),
        made["nodes"][0]["id"].clone(),
    );
    let add = |body: Value, status: u16| {
        let sent = rig.request("POST", &format!("{path}/nodes"), &key).json(&body);
        async move { json_of(sent.send().await.unwrap(), status).await }
    };
    let first = add(json!({"content": "one"}), 201).await["node"].clone();
    assert_eq!(first["parent_id"], system);
    let second = add(json!({"content": "two"}), 201).await["node"].clone();
    assert_eq!(second["parent_id"], first["id"]);
    let branch = add(json!({"content": "another", "parent_id": system}), 201).await["node"].clone();
    assert_eq!(branch["parent_id"], system);
    let refused = add(json!({"content": "lost", "parent_id": "node_nothing"}), 404).await;
    assert_eq!(refused["code"], "unknown_node", "{refused}");
    let early = json!({"model_id": "stub", "nodes": [{"content": "x", "parent_id": system}]});
    let refused = json_of(rig.post(CONTEXTS, &key, &early).await, 400).await;
    assert_eq!(refused["code"], "invalid_request", "{refused}");
    let shown = json_of(rig.request("GET", &path, &key).send().await.unwrap(), 200).await;
    let parents: Vec<_> = shown["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["parent_id"].clone())
        .collect();
    assert_eq!(parents, [Value::Null, system.clone(), first["id"].clone(), system]);
}

#[tokio::test]
async fn where_nobody_may_work_with_contexts_every_way_to_them_says_so() {
    let rig = Rig::with(|config| {
        config.mcp = serde_json::from_value(json!({"enabled": false, "max_contexts": 2, "timeout": "5s"})).unwrap();
    })
    .await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    let is_theirs = |path: &str| path.starts_with(CONTEXTS) || path == "/api/v1/mcp/models";
    let routes = ROUTES.iter().filter(|route| is_theirs(route.path));
    let mut walked = 0;
    for route in routes {
        let request = rig.request(route.method, route.path, &key);
        let body = match route.path.rsplit('/').next() {
            Some("prompt") => json!({"prompt": "?", "stream": true}),
            Some("nodes") => json!({"content": "x"}),
            _ => json!({"model_id": "stub"}),
        };
        let sent = if route.method == "POST" {
            request.json(&body)
        } else {
            request
        };
        let refused = json_of(sent.send().await.unwrap(), 409).await;
        assert_eq!(refused["code"], "contexts_disabled", "{} {}", route.method, route.path);
        walked += 1;
    }
    assert!(walked >= 8, "the routes are found");
    for (kind, input) in [
        ("mcp.create_context", json!({"model_id": "stub"})),
        ("mcp.add_prompt", json!({"context_id": "c1", "prompt": "?"})),
        ("mcp.add_node", json!({"context_id": "c1", "content": "x"})),
        ("mcp.delete_node", json!({"context_id": "c1", "node_id": "n1"})),
        ("mcp.delete_context", json!({"context_id": "c1"})),
    ] {
        let wish = json!({"type": kind, "input": input});
        let refused = json_of(rig.post("/api/v1/mcp/tasks", &key, &wish).await, 409).await;
        assert_eq!(refused["code"], "contexts_disabled", "{kind}");
    }
    let health = rig.request("GET", "/api/v1/mcp/health", &key).send().await.unwrap();
    assert_eq!(json_of(health, 200).await["status"], "disabled");
    assert!(rig.engine.seen().is_empty());
}

#[tokio::test]
async fn where_nobody_may_work_with_contexts_agents_see_tasks_alone() {
    let rig = Rig::with(|config| config.mcp.enabled = false).await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    let listed = rig.rpc(&key, "tools/list", json!({})).await;
    let tools = listed["result"]["tools"].as_array().unwrap().iter();
    let names: Vec<_> = tools.map(|tool| tool["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"list_tasks"), "{names:?}");
    let is_theirs = |name: &&str| name.contains("context") || name.contains("_node") || *name == "add_prompt";
    assert!(!names.iter().any(is_theirs), "{names:?}");
    let call = |tool: &'static str, arguments: Value| {
        let called = rig.rpc(&key, "tools/call", json!({"name": tool, "arguments": arguments}));
        async move { called.await["result"].clone() }
    };
    let refused = call("add_prompt", json!({"context_id": "c1", "prompt": "?"})).await;
    let text = refused["content"][0]["text"].as_str().unwrap();
    assert!(
        refused["isError"] == true && text.contains("CONTEXTS_DISABLED"),
        "{refused}"
    );
    assert_eq!(call("list_tasks", json!({})).await["isError"], false);
    let read = rig.rpc(&key, "resources/read", json!({"uri": "context://c1"})).await;
    assert_eq!(read["error"]["data"]["code"], "contexts_disabled", "{read}");
}
