//! Contexts through the whole gateway, on both databases: over REST, as a stream, and over MCP.

use crate::rig::Rig;
use forebay_domain::Role;
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
