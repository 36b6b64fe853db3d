//! The gateway's own resources.

use crate::support::{Gate, Scripted, Wish, principal};
use forebay_domain::Role;
use serde_json::{Value, json};

#[tokio::test]
async fn status_and_models_are_resources() {
    let model = Scripted {
        names: vec!["tiny"],
        ..Scripted::default()
    };
    let gate = Gate::open(Wish {
        model,
        ..Wish::default()
    })
    .await;
    let viewer = principal(Role::Viewer);
    let list = gate.modern(&viewer, "resources/list", json!({})).await;
    let uris: Vec<_> = list.body["result"]["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|own| &own["uri"])
        .collect();
    assert_eq!(uris, ["forebay://models", "forebay://status"]);
    for (uri, expected) in [
        ("forebay://status", json!({"version": "1.2.3", "store": "ok"})),
        (
            "forebay://models",
            json!({"models": [{"name": "tiny", "engine": null}]}),
        ),
    ] {
        let got = gate.modern(&viewer, "resources/read", json!({"uri": uri})).await;
        let content = &got.body["result"]["contents"][0];
        let read: Value = serde_json::from_str(content["text"].as_str().unwrap()).unwrap();
        assert_eq!((read, &content["uri"]), (expected, &json!(uri)));
        assert_eq!(
            (&got.body["result"]["ttlMs"], &got.body["result"]["cacheScope"]),
            (&json!(0), &json!("private"))
        );
    }
    let status = gate
        .modern(&viewer, "tools/call", json!({"name": "gateway_status"}))
        .await;
    assert_eq!(
        status.body["result"]["structuredContent"]["version"], "1.2.3",
        "arguments may be left out"
    );
}

#[tokio::test]
async fn a_resource_that_may_not_be_read_is_not_listed() {
    let gate = Gate::open(Wish::default()).await;
    let mut narrowed = principal(Role::User);
    narrowed.grants = vec![
        "resources:read".parse().unwrap(),
        "status:read".parse().unwrap(),
        "!models:*".parse().unwrap(),
    ];
    let list = gate.modern(&narrowed, "resources/list", json!({})).await;
    let uris: Vec<_> = list.body["result"]["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|own| &own["uri"])
        .collect();
    assert_eq!(uris, ["forebay://status"]);
    let got = gate
        .modern(&narrowed, "resources/read", json!({"uri": "forebay://models"}))
        .await;
    assert_eq!(got.error(), (403, -32000, "insufficient_scope".to_owned()));
    let mut barred = principal(Role::User);
    barred.grants.push("tool:calculator".parse().unwrap());
    let got = gate.modern(&barred, "resources/list", json!({})).await;
    assert_eq!(got.error(), (403, -32000, "insufficient_scope".to_owned()));
}
