//! Asking backends in the background whether they are well.

use crate::world::{ENGINE_KEY, World, chat, until, user};
use forebay_testkit::openai::{Engine, Reply};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn a_backend_that_is_not_well_gets_nothing_until_it_is() {
    let second = Engine::start().await;
    let world = World::still(|engine| {
        let first = json!({ "url": engine, "engine": "vllm", "weight": 1000, "probe": { "interval_s": 10 } });
        let other = json!({ "url": second.url(), "probe": { "interval_s": 0 } });
        json!({ "qwen": { "backends": [first, other], "affinity": false } })
    })
    .await;
    for _ in 0..2 {
        world.engine.will(Reply::json(503, &json!({})));
    }
    world.router.start_probes(&world.tasks);
    until(|| world.engine.seen().len() == 1).await;
    assert_eq!(world.engine.seen()[0].path, "/health");
    assert_eq!(world.state(0).0, "up", "one may be lost");
    world.clock.advance(Duration::from_secs(10));
    until(|| world.state(0).0 == "unhealthy").await;
    assert_eq!(world.read(&chat()).await.1, None);
    assert_eq!(second.seen().len(), 1, "no probe, one request");
    let told = world.router.explain_route(&user(), "qwen", None).unwrap();
    assert_eq!(
        told.steps[0].backends[0].reason,
        "probes find since 2026-11-21T12:00:10Z that it answers with status 503"
    );
    assert!(
        world
            .metrics()
            .contains("forebay_backend_up{model=\"qwen\",backend=\"0\"} 0")
    );
    world.clock.advance(Duration::from_secs(10));
    until(|| world.state(0).0 == "up").await;
}

#[tokio::test]
async fn a_probe_shows_the_backends_key_in_its_own_way() {
    let world = World::still(|engine| {
        let key = json!({ "env": "ENGINE_KEY" });
        let anthropic = json!({ "url": engine, "engine": "anthropic", "api_key": key, "probe": { "path": "/up" } });
        json!({ "claude": { "backends": [anthropic] } })
    })
    .await;
    world.router.start_probes(&world.tasks);
    until(|| !world.engine.seen().is_empty()).await;
    let seen = &world.engine.seen()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/up"));
    assert_eq!(seen.header("x-api-key"), Some(ENGINE_KEY));
    assert_eq!(seen.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(seen.header("authorization"), None);
}

#[tokio::test]
async fn one_that_is_gone_is_found_out_without_a_request() {
    let world = World::still(|engine| json!({ "qwen": { "backends": [{ "url": engine }] } })).await;
    world.engine.will(Reply::silent(forebay_testkit::openai::End::Reset));
    world.engine.will(Reply::silent(forebay_testkit::openai::End::Reset));
    world.router.start_probes(&world.tasks);
    until(|| world.engine.seen().len() == 1).await;
    world.clock.advance(Duration::from_secs(10));
    until(|| world.state(0).0 == "unhealthy").await;
    assert_eq!(world.read(&chat()).await.1, None, "the last one is asked all the same");
}
