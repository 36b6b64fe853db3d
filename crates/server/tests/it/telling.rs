//! Every request leaves an event, metrics count, and nothing tells a secret.

use crate::rig::{Rig, eventually};
use serde_json::{Value, json};

#[tokio::test]
async fn every_request_leaves_an_event() {
    let rig = Rig::start().await;
    for (method, path, key) in [
        ("GET", "/health", ""),
        ("GET", "/v1/models", rig.admin.as_str()),
        ("GET", "/v1/models", "fb_wrong"),
        ("PUT", "/v1/models", rig.admin.as_str()),
        ("GET", "/stranger-chosen-path", ""),
    ] {
        rig.request(method, path, key).send().await.unwrap();
    }
    let expected = [
        ("GET /health", "ok"),
        ("GET /v1/models", "ok"),
        ("GET /v1/models", "invalid_key"),
        ("PUT /v1/models", "method_not_allowed"),
        ("GET (unknown)", "route_not_found"),
    ];
    eventually("all five are there", || async {
        let page: Value = rig.get("/api/v1/events?limit=1000").await.json().await.unwrap();
        let events = page["events"].as_array().unwrap();
        expected.iter().all(|(action, outcome)| {
            events
                .iter()
                .any(|e| e["action"] == *action && e["outcome"] == *outcome)
        })
    })
    .await;
    let page = rig.get("/api/v1/events?limit=1000").await.text().await.unwrap();
    assert!(
        !page.contains("stranger-chosen-path"),
        "strangers do not write into the log"
    );
}

#[tokio::test]
async fn metrics_count_requests_tools_and_models() {
    let rig = Rig::start().await;
    rig.rpc(
        &rig.admin,
        "tools/call",
        json!({"name": "calculator", "arguments": {"expression": "1+1"}}),
    )
    .await;
    rig.post(
        "/v1/chat/completions",
        &rig.admin,
        &json!({"model": "stub", "messages": [{"role": "user", "content": "x"}]}),
    )
    .await;
    let text = rig.get("/metrics").await.text().await.unwrap();
    for name in [
        "forebay_http_requests_total{",
        "forebay_http_request_duration_seconds_bucket{",
        "mcp_tool_execution_total{",
        "gen_ai_server_request_duration_seconds_bucket{",
        "process_resident_memory_bytes",
        "forebay_store_commit_seconds_bucket",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
}

#[tokio::test]
async fn secrets_stand_nowhere_in_the_data_directory_metrics_or_answers() {
    let rig = Rig::start().await;
    let body = json!({"model": "stub", "messages": [{"role": "user", "content": "prompt-canary-77"}]});
    let chat = rig
        .post("/v1/chat/completions", &rig.admin, &body)
        .await
        .text()
        .await
        .unwrap();
    let tool = rig
        .rpc(
            &rig.admin,
            "tools/call",
            json!({"name": "calculator", "arguments": {"expression": "argument-canary-88 +"}}),
        )
        .await;
    rig.request("GET", "/v1/models", "")
        .bearer_auth("token-canary-99.a.b")
        .send()
        .await
        .unwrap();
    let refused = rig
        .request("GET", "/v1/models", &rig.admin.replace("fb_", "fb_0"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let metrics = rig.get("/metrics").await.text().await.unwrap();
    let events = rig.get("/api/v1/events?limit=1000").await.text().await.unwrap();
    let secret = rig.admin.rsplit('_').next().unwrap().to_owned();
    let data = rig.data.path().to_path_buf();
    let canaries = [
        secret.as_str(),
        "sk-backend-canary-3f1c",
        "prompt-canary-77",
        "token-canary-99",
        "argument-canary-88",
    ];
    for canary in canaries {
        for (place, text) in [("metrics", &metrics), ("events", &events), ("a refusal", &refused)] {
            assert!(!text.contains(canary), "{canary} stands in {place}");
        }
    }
    assert!(!chat.contains("sk-backend-canary"), "{chat}");
    drop(tool);
    let Rig {
        gateway, data: _kept, ..
    } = rig;
    gateway.stop().await;
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for canary in canaries {
            let own_file = path.ends_with("admin.key") && canary == secret;
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found || own_file, "{canary} stands in {}", path.display());
        }
    }
}
