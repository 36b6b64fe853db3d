//! The section `mcp:`: providers and tools of the configuration and of the API, and one more port.

use crate::rig::{Rig, eventually};
use forebay_domain::Role;
use serde_json::{Value, json};

/// A folder with one file, as the section names it.
fn handbook(rig: &std::path::Path) -> Value {
    std::fs::create_dir(rig.join("handbook")).unwrap();
    std::fs::write(
        rig.join("handbook/dogs.md"),
        "# Dogs\n\nThe dog of the office is called Rex.\n",
    )
    .unwrap();
    json!({"providers": {"handbook": {"type": "files", "config": {"folder": rig.join("handbook")}}}})
}

#[tokio::test]
async fn a_configured_provider_is_listed_shown_and_asked() {
    let folder = tempfile::tempdir().unwrap();
    let section = handbook(folder.path());
    let rig = Rig::with(|config| config.mcp = serde_json::from_value(section).unwrap()).await;
    eventually("the file is found", || async {
        let asked = rig
            .post(
                "/api/v1/providers/handbook/test",
                &rig.admin,
                &json!({"query": "dog office"}),
            )
            .await;
        let found: Value = asked.json().await.unwrap();
        found["items"]
            .as_array()
            .is_some_and(|items| items.iter().any(|item| item["text"].as_str().unwrap().contains("Rex")))
    })
    .await;
    let listed: Value = rig.get("/api/v1/providers").await.json().await.unwrap();
    let one = &listed["providers"][0];
    assert_eq!(
        (&one["name"], &one["type"], &one["origin"]),
        (&json!("handbook"), &json!("files"), &json!("config"))
    );
    let shown: Value = rig.get("/api/v1/providers/handbook").await.json().await.unwrap();
    assert_eq!(
        (&shown["condition"], &shown["config"]["folder"]),
        (&json!("answers"), &json!(folder.path().join("handbook")))
    );
    let kept = rig
        .request("DELETE", "/api/v1/providers/handbook", &rig.admin)
        .send()
        .await
        .unwrap();
    assert_eq!(kept.status(), 409, "it stands in the file");
    for body in [json!({"query": "x", "strategy": "luck"}), json!({"question": "x"})] {
        let refused = rig.post("/api/v1/providers/handbook/test", &rig.admin, &body).await;
        assert_eq!(refused.status(), 400, "{body}");
    }
}

#[tokio::test]
async fn a_provider_is_registered_once_and_taken_away() {
    let rig = Rig::start().await;
    let wiki = json!({"name": "wiki", "type": "rest", "config": {"base_url": "https://wiki.example.com"}});
    for (body, status) in [
        (&wiki, 201),
        (&wiki, 409),
        (&json!({"name": "w", "type": "rest", "config": {"base_urls": 1}}), 400),
        (&json!({"name": "w", "type": "oracle"}), 400),
        (&json!({"name": "w", "type": "files", "config": {"folder": "/"}}), 400),
    ] {
        let answer = rig.post("/api/v1/providers", &rig.admin, body).await;
        assert_eq!(answer.status(), status, "{body}: {}", answer.text().await.unwrap());
    }
    let shown: Value = rig.get("/api/v1/providers/wiki").await.json().await.unwrap();
    assert_eq!(
        (&shown["origin"], &shown["condition"]),
        (&json!("api"), &json!("unasked"))
    );
    for status in [200, 404] {
        let gone = rig
            .request("DELETE", "/api/v1/providers/wiki", &rig.admin)
            .send()
            .await
            .unwrap();
        assert_eq!(gone.status(), status);
    }
}

#[tokio::test]
async fn a_tool_is_declared_offered_and_deleted() {
    let rig = Rig::start().await;
    let tool = json!({"name": "weather", "description": "The weather", "parameters": {"city": {"type": "string"}},
        "endpoint": {"url": "https://weather.example.com/{city}"}});
    for (body, status) in [
        (&tool, 201),
        (&tool, 409),
        (&json!({"description": "x"}), 400),
        (&json!({"name": "t", "endpoint": 1}), 400),
    ] {
        let answer = rig.post("/api/v1/tools", &rig.admin, body).await;
        assert_eq!(answer.status(), status, "{body}: {}", answer.text().await.unwrap());
    }
    let listed: Value = rig.get("/api/v1/tools").await.json().await.unwrap();
    let one = &listed["tools"][0];
    assert_eq!(
        (&one["name"], &one["origin"], &one["offered"]),
        (&json!("weather"), &json!("api"), &json!(true))
    );
    let user = rig.key("acme", "u", Role::User, &[]).await;
    let offered = async || {
        let tools: Value = rig
            .request("GET", "/mcp/tools", &user)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        tools["tools"]
            .as_array()
            .unwrap()
            .iter()
            .any(|tool| tool["name"].as_str().unwrap().ends_with("weather"))
    };
    assert!(offered().await);
    for status in [200, 404] {
        let gone = rig
            .request("DELETE", "/api/v1/tools/weather", &rig.admin)
            .send()
            .await
            .unwrap();
        assert_eq!(gone.status(), status);
    }
    assert!(!offered().await);
}

#[tokio::test]
async fn a_section_that_is_not_enabled_brings_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut section = handbook(folder.path());
    section["enabled"] = json!(false);
    let rig = Rig::with(|config| config.mcp = serde_json::from_value(section).unwrap()).await;
    let listed: Value = rig.get("/api/v1/providers").await.json().await.unwrap();
    assert_eq!(listed["providers"], json!([]));
}

#[tokio::test]
async fn one_more_port_serves_the_same() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let rig = Rig::with(|config| config.mcp.port = std::num::NonZeroU16::new(free.port())).await;
    let health = rig
        .outside("GET", &format!("http://{free}/mcp/health"))
        .send()
        .await
        .unwrap();
    assert_eq!(health.status(), 200);
    let models = rig
        .outside("GET", &format!("http://{free}/v1/models"))
        .bearer_auth(&rig.admin);
    assert_eq!(models.send().await.unwrap().status(), 200);
}
