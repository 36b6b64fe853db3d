//! What is published is true: the OpenAPI document names every route, and its copy is current.

use crate::rig::Rig;
use forebay_server::http::{ROUTES, document};
use serde_json::Value;
use std::{collections::BTreeSet, path::Path};

#[test]
fn the_openapi_document_names_every_route_and_no_other() {
    let document = serde_json::to_value(document()).unwrap();
    let mut named = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        named.extend(
            methods
                .as_object()
                .unwrap()
                .keys()
                .map(|method| format!("{} {path}", method.to_uppercase())),
        );
    }
    let routes: BTreeSet<String> = ROUTES
        .iter()
        // OpenAPI has no word for a parameter that takes all the rest of a path.
        .map(|route| format!("{} {}", route.method, route.path.replace("{*", "{")))
        .collect();
    assert_eq!(named, routes);
}

/// `UPDATE_SCHEMA=1` renews the copy (`make schema`).
#[test]
fn the_copy_of_the_openapi_document_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema/openapi.json");
    let current = format!("{}\n", serde_json::to_string_pretty(&document()).unwrap());
    #[expect(clippy::disallowed_methods, reason = "how a person asks this test to renew the copy")]
    let renew = std::env::var_os("UPDATE_SCHEMA").is_some();
    if renew {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &current).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == current, "schema/openapi.json has drifted: run `make schema`");
}

#[tokio::test]
async fn protected_resource_metadata_is_found_from_the_challenge() {
    let rig = Rig::with(|config| {
        config.auth.jwt = Some(serde_json::from_value(serde_json::json!({
            "issuer": "https://issuer.example", "audience": "https://gw.example/mcp", "secret": {"env": "JWT_SECRET"},
        })).unwrap());
    })
    .await;
    let refused = rig.request("POST", "/mcp", "").body("{}").send().await.unwrap();
    assert_eq!(refused.status(), 401);
    let challenge = refused.headers()["www-authenticate"].to_str().unwrap().to_owned();
    let url = challenge
        .split("resource_metadata=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    assert!(url.starts_with(&rig.gateway.url()), "{challenge}");
    let document: Value = rig
        .request("GET", url.strip_prefix(&rig.gateway.url()).unwrap(), "")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(document["resource"], format!("{}/mcp", rig.gateway.url()));
    assert_eq!(
        document["authorization_servers"],
        serde_json::json!(["https://issuer.example"])
    );
    let forbidden = rig.key("acme", "v", forebay_domain::Role::Viewer, &[]).await;
    let refused = rig.request("GET", "/metrics", &forbidden).send().await.unwrap();
    assert!(
        refused.headers()["www-authenticate"]
            .to_str()
            .unwrap()
            .contains("insufficient_scope")
    );
}

#[tokio::test]
async fn each_endpoint_has_its_own_document_and_no_secret_tells_whether_it_is_there() {
    let rig = Rig::start().await;
    for path in ["/servers/forebay/mcp", "/servers/nobody/mcp"] {
        let refused = rig.request("POST", path, "").body("{}").send().await.unwrap();
        assert_eq!(refused.status(), 401, "{path}");
        let challenge = refused.headers()["www-authenticate"].to_str().unwrap().to_owned();
        let url = format!("{}/.well-known/oauth-protected-resource{path}", rig.gateway.url());
        assert!(
            challenge.contains(&format!("resource_metadata=\"{url}\"")),
            "{challenge}"
        );
        let document: Value = rig.outside("GET", &url).send().await.unwrap().json().await.unwrap();
        assert_eq!(document["resource"], format!("{}{path}", rig.gateway.url()));
    }
    let no_name = "/.well-known/oauth-protected-resource/servers/a__b/mcp";
    assert_eq!(rig.request("GET", no_name, "").send().await.unwrap().status(), 404);
    let unknown = rig.request("POST", "/servers/nobody/mcp", &rig.admin);
    let unknown = unknown
        .header("accept", "application/json, text/event-stream")
        .json(&serde_json::json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}));
    assert_eq!(unknown.send().await.unwrap().status(), 404);
}
