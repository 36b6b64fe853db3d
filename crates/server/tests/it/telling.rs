//! Every request leaves an event, metrics count, and nothing tells a secret.

use crate::rig::{Rig, eventually};
use forebay_testkit::openai::Reply;
use serde_json::{Value, json};
use std::time::Duration;

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
async fn a_request_whose_client_hangs_up_leaves_an_event_and_a_count() {
    let rig = Rig::start().await;
    rig.engine.will(Reply::begin(200, "application/json").hold_head());
    let body = json!({"model": "stub", "messages": [{"role": "user", "content": "x"}]});
    let asked = tokio::time::timeout(
        Duration::from_millis(300),
        rig.post("/v1/chat/completions", &rig.admin, &body),
    );
    assert!(asked.await.is_err(), "the engine answers nothing, and the client goes");
    eventually("both events say so", || async {
        let page: Value = rig.get("/api/v1/events?limit=1000").await.json().await.unwrap();
        let cancelled = |action| {
            let mut events = page["events"].as_array().unwrap().iter();
            events.any(|e| e["action"] == action && e["outcome"] == "cancelled" && e["subject"] == "admin")
        };
        cancelled("model:stub") && cancelled("POST /v1/chat/completions")
    })
    .await;
    let metrics = rig.get("/metrics").await.text().await.unwrap();
    assert!(
        metrics.contains(r#"route="/v1/chat/completions",status="499""#),
        "{metrics}"
    );
}

#[tokio::test]
async fn what_the_gateway_does_by_itself_is_audited_before() {
    let rig = Rig::start().await;
    let mut config = forebay_server::AppConfig::default();
    config.limits.requests_per_minute = 100_000;
    rig.gateway.app.reconfigure(&config).await.unwrap();
    let trail: Value = rig.get("/api/v1/audit?limit=1000").await.json().await.unwrap();
    let of_system = |action: &str| {
        let mut events = trail["events"].as_array().unwrap().iter();
        events.any(|e| e["action"] == action && e["surface"] == "system" && e["outcome"] == "intended")
    };
    assert!(of_system("keys:write"), "the first administrator's key: {trail}");
    assert!(of_system("config:reload"), "{trail}");
}

#[tokio::test]
async fn the_listener_for_metrics_answers_where_it_listens_and_nothing_else() {
    let rig = Rig::with_metrics("0.0.0.0:0").await;
    let address = rig.metrics_address();
    let asked = |method: &'static str, path: &'static str, host: &'static str| {
        rig.outside(method, &format!("http://127.0.0.1:{}{path}", address.port()))
            .header("host", host)
            .send()
    };
    let scraped = asked("GET", "/metrics", "10.1.2.3:9090").await.unwrap();
    assert_eq!(scraped.status(), 200, "by address, without a key");
    assert!(scraped.text().await.unwrap().contains("process_resident_memory_bytes"));
    assert_eq!(asked("GET", "/metrics", "evil.example").await.unwrap().status(), 403);
    let wrong = asked("POST", "/metrics", "10.1.2.3").await.unwrap();
    assert_eq!(wrong.status(), 405);
    assert!(wrong.text().await.unwrap().contains("method_not_allowed"));
    for path in ["/health", "/v1/models", "/api/v1/keys", "/mcp"] {
        assert_eq!(asked("GET", path, "10.1.2.3").await.unwrap().status(), 404, "{path}");
    }
    let main = rig
        .request("GET", "/health", "")
        .header("host", "10.1.2.3")
        .send()
        .await
        .unwrap();
    assert_eq!(main.status(), 403, "the main listener is bound to loopback");
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
