//! What watchers are told: each upstream by name and state, and nothing that would help a stranger.

use crate::{
    far::{Far, tool},
    rig::{Rig, eventually},
};
use forebay_domain::Role;
use serde_json::{Value, json};

async fn health(rig: &Rig) -> (u16, Value) {
    let answer = rig.request("GET", "/mcp/health", "").send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn without_upstreams_all_is_well() {
    let rig = Rig::start().await;
    let all_well = json!({
        "status": "healthy",
        "mcp": {"status": "healthy", "servers": {"forebay": {"status": "healthy"}}},
        "openai": {"status": "healthy"},
    });
    assert_eq!(health(&rig).await, (200, all_well));
}

#[tokio::test]
async fn an_upstream_that_is_away_is_named_and_hurts_nobody_else() {
    let far = Far::start(vec![tool("echo", "Echoes.")]).await;
    // Nobody listens on port 9 of this machine.
    let rig = Rig::with(|config| {
        config.upstreams = serde_json::from_value(json!({
            "near": {"url": far.url(), "protocol": "legacy"},
            "gone": {"url": "http://127.0.0.1:9/mcp", "protocol": "legacy"},
        }))
        .unwrap();
    })
    .await;
    eventually("one is ready and the other is not", || async {
        let servers = health(&rig).await.1["mcp"]["servers"].clone();
        servers["near"]["status"] == "healthy" && servers["gone"]["status"] == "unavailable"
    })
    .await;
    let (status, told) = health(&rig).await;
    assert_eq!(
        (status, &told["status"], &told["mcp"]["status"]),
        (200, &json!("degraded"), &json!("degraded"))
    );
    assert_eq!(told["mcp"]["servers"]["forebay"]["status"], "healthy");
    assert_eq!(told["openai"]["status"], "healthy");
    assert!(!told.to_string().contains("127.0.0.1"), "{told}");

    let user = rig.key("acme", "ursula", Role::User, &[]).await;
    let operator = rig.key("acme", "otto", Role::Operator, &[]).await;
    let told_to = |key: String| {
        let rig = &rig;
        async move {
            let status: Value = rig
                .request("GET", "/api/v1/status", &key)
                .send()
                .await
                .unwrap()
                .json()
                .await
                .unwrap();
            status["upstreams"].clone()
        }
    };
    assert_eq!(
        told_to(user).await,
        json!([{"name": "gone", "state": "unavailable"}, {"name": "near", "state": "ready"}])
    );
    let whole = told_to(operator).await;
    assert!(whole[0]["trouble"].is_string(), "{whole}");
    assert_eq!(whole[1], json!({"name": "near", "state": "ready", "held": 0}));
}

#[tokio::test]
async fn a_queue_that_nobody_works_on_is_not_well() {
    for (workers, status) in [(0, "no_workers"), (2, "ok")] {
        let rig = Rig::with(|config| config.tasks.workers = workers).await;
        let told: Value = rig.get("/api/v1/mcp/health").await.json().await.unwrap();
        assert_eq!(told["status"], status);
    }
}
