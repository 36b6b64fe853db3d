//! Rate limits: counted by subject, told in headers, the same on every surface.

use crate::rig::Rig;
use forebay_domain::Role;
use serde_json::{Value, json};

#[tokio::test]
async fn a_batch_costs_as_many_requests_as_it_has() {
    let rig = Rig::with(|config| config.limits.requests_per_minute = 4).await;
    let key = rig.key("acme", "ursula", Role::User, &[]).await;
    let pings: Vec<Value> = (1..=6)
        .map(|id| json!({"jsonrpc": "2.0", "id": id, "method": "ping"}))
        .collect();
    let answers: Value = rig.post("/api/v1/mcp", &key, &json!(pings)).await.json().await.unwrap();
    for (number, answer) in answers.as_array().unwrap().iter().enumerate() {
        assert_eq!(answer["result"].is_object(), number < 4, "{answer}");
    }
    assert_eq!(answers[5]["error"]["data"]["code"], "rate_limited");
    let next = rig.request("GET", "/v1/models", &key).send().await.unwrap();
    assert_eq!(next.status(), 429);
}

#[tokio::test]
async fn a_subject_has_its_limit_over_all_keys_and_surfaces() {
    let rig = Rig::with(|config| config.limits.requests_per_minute = 4).await;
    let first = rig.key("acme", "ursula", Role::User, &[]).await;
    let second = rig.key("acme", "ursula", Role::User, &[]).await;
    let models = rig.request("GET", "/v1/models", &first).send().await.unwrap();
    assert_eq!(models.headers()["ratelimit-policy"], r#""requests";q=4;w=60"#);
    assert_eq!(models.headers()["ratelimit"], r#""requests";r=3;t=15"#);
    assert_eq!(models.headers()["x-ratelimit-remaining-requests"], "3");
    assert_eq!(models.headers()["x-ratelimit-limit-requests"], "4");
    for _ in 0..3 {
        assert_eq!(
            rig.request("GET", "/api/v1/status", &second)
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
    }
    let refused = rig.request("GET", "/v1/models", &first).send().await.unwrap();
    assert_eq!(refused.status(), 429);
    let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=15).contains(&seconds));
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["error"]["code"], "rate_limit_exceeded");
    let rpc = rig
        .post(
            "/api/v1/mcp",
            &first,
            &json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}),
        )
        .await;
    assert_eq!(rpc.status(), 429);
    assert_eq!(rpc.json::<Value>().await.unwrap()["error"]["code"], -32000);
    let other = rig.key("acme", "otto", Role::User, &[]).await;
    assert_eq!(
        rig.request("GET", "/v1/models", &other).send().await.unwrap().status(),
        200,
        "others have their own"
    );
    let namesake = rig.key("other", "ursula", Role::User, &[]).await;
    assert_eq!(
        rig.request("GET", "/v1/models", &namesake)
            .send()
            .await
            .unwrap()
            .status(),
        200,
        "tenants do not share"
    );
}

#[tokio::test]
async fn each_tool_has_a_limit_of_its_own() {
    let rig = Rig::with(|config| config.limits.tool_calls_per_minute = 2).await;
    let key = rig.key("acme", "ursula", Role::User, &[]).await;
    let call = |tool: &'static str, arguments: Value| {
        rig.rpc(&key, "tools/call", json!({"name": tool, "arguments": arguments}))
    };
    for _ in 0..2 {
        assert!(call("calculator", json!({"expression": "1+1"})).await["result"].is_object());
    }
    let refused = call("calculator", json!({"expression": "1+1"})).await;
    assert_eq!(refused["error"]["data"]["code"], "rate_limited", "{refused}");
    assert!(
        call("gateway_status", json!({})).await["result"].is_object(),
        "another tool still answers"
    );
}

#[tokio::test]
async fn a_new_limit_holds_at_once() {
    let rig = Rig::with(|config| config.limits.requests_per_minute = 1).await;
    let key = rig.key("acme", "ursula", Role::User, &[]).await;
    let status = || async {
        rig.request("GET", "/v1/models", &key)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!((status().await, status().await), (200, 429));
    let mut config = forebay_server::AppConfig::default();
    config.limits.requests_per_minute = 50;
    rig.gateway.app.reconfigure(&config).await.unwrap();
    assert_eq!(status().await, 200);
}
