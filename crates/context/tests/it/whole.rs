//! What holds for all providers: who may ask, what is kept, what becomes of failures, what is told.

use crate::world::{World, asking, section, user, via};
use forebay_domain::{
    Code, Failure,
    context::{ContextQuery, OnFailure},
    port::FindContext,
};
use forebay_store::events::EventQuery;
use serde_json::{Value, json};
use std::{sync::atomic::Ordering, time::Duration};

fn two() -> Value {
    json!({ "providers": {
        "good": { "type": "mcp", "config": { "tool": "search" } },
        "bad": { "type": "rest", "config": { "base_url": "http://127.0.0.1:9/", "timeout_ms": 2000 } },
        "off": { "type": "mcp", "enabled": false, "config": { "tool": "search" } },
    } })
}

async fn world() -> World {
    let world = World::new(two()).await;
    world.tools.says("something");
    world
}

#[tokio::test]
async fn one_that_fails_does_not_keep_the_others_back_unless_it_is_to() {
    let world = world().await;
    let found = world.ask(&asking(&["bad", "good"], "q")).await.unwrap();
    assert_eq!(found.items.len(), 1);
    let names: Vec<_> = found
        .reports
        .iter()
        .map(|report| (report.provider.as_str(), report.failure.is_some()))
        .collect();
    assert_eq!(names, [("bad", true), ("good", false)]);

    let strict = ContextQuery {
        on_failure: Some(OnFailure::Fail),
        ..asking(&["bad", "good"], "q")
    };
    let failure = world.ask(&strict).await.unwrap_err();
    assert_eq!(failure.code, Code::ContextFailed);
    assert!(
        failure.message.contains("The provider `bad` found no context: "),
        "{}",
        failure.message
    );

    let mut config = section(two());
    config.context.on_failure = forebay_context::config::OnFailureConfig::Fail;
    world.providers.reconfigure(&config).unwrap();
    assert!(world.ask(&asking(&["bad", "good"], "q")).await.is_err());
    let lax = ContextQuery {
        on_failure: Some(OnFailure::Continue),
        ..asking(&["bad", "good"], "q")
    };
    assert!(world.ask(&lax).await.is_ok());
}

#[tokio::test]
async fn who_may_not_ask_learns_nothing_and_who_may_is_helped() {
    let world = world().await;
    let ask = async |grants: &[&str], name: &str| -> Failure {
        let principal = user(grants);
        world
            .providers
            .find(&principal, &asking(&[name], "q"), via())
            .await
            .unwrap_err()
    };
    let denied = ask(&["context:other"], "good").await;
    assert_eq!(denied.code, Code::InsufficientScope);
    let denied_unknown = ask(&["context:other"], "nothing").await;
    assert_eq!(
        denied_unknown.code,
        Code::InsufficientScope,
        "whether there is one is not told"
    );
    let unknown = ask(&[], "godo").await;
    assert_eq!(unknown.code, Code::UnknownProvider);
    assert_eq!(unknown.hint.as_deref(), Some("You may use: bad, good."));
    let narrowed = ask(&["context:go*"], "goof").await;
    assert_eq!(narrowed.hint.as_deref(), Some("You may use: good."));
    assert_eq!(ask(&[], "off").await.code, Code::UnknownProvider);
    assert_eq!(
        world.ask(&asking(&["good"], " \n")).await.unwrap_err().code,
        Code::InvalidRequest
    );
    assert_eq!(
        world.ask(&asking(&[], "q")).await.unwrap_err().code,
        Code::InvalidRequest
    );
    assert!(world.tools.calls.lock().unwrap().is_empty());

    // Each refusal and each look-up is one event; a name that is none of ours stands in none.
    world.find("good", "a question").await;
    let query = EventQuery {
        limit: 100,
        ..EventQuery::default()
    };
    let mut shown = Vec::new();
    crate::world::until("the events", || async {
        let page = world.store.events().read(&query).await.unwrap();
        page.events.len() >= 6
    })
    .await;
    for stored in world.store.events().read(&query).await.unwrap().events {
        shown.push(format!("{} {}", stored.event.action, stored.event.outcome.as_str()));
    }
    assert!(shown.contains(&"context:good ok".to_owned()), "{shown:?}");
    assert!(
        shown.contains(&"context:good insufficient_scope".to_owned()),
        "{shown:?}"
    );
    assert!(shown.contains(&"context:? unknown_provider".to_owned()), "{shown:?}");
    assert!(!shown.join(" ").contains("godo"), "{shown:?}");
}

#[tokio::test]
async fn what_was_found_is_kept_for_a_while() {
    let world = world().await;
    let is_kept = async || world.find("good", "q").await.reports[0].from_cache;
    assert!(!is_kept().await);
    assert!(is_kept().await);
    world.clock.advance(Duration::from_mins(5));
    assert!(!is_kept().await, "it is too old");
    assert!(is_kept().await);

    // Other settings are another provider; the same settings again are not.
    world.providers.reconfigure(&section(two())).unwrap();
    assert!(is_kept().await);
    let mut changed = two();
    changed["providers"]["good"]["config"]["arguments"] = json!({ "n": 1 });
    world.providers.reconfigure(&section(changed)).unwrap();
    assert!(!is_kept().await);

    let mut off = two();
    off["context"] = json!({ "cache_enabled": false });
    world.providers.reconfigure(&section(off)).unwrap();
    assert!(!is_kept().await);
    assert!(!is_kept().await);

    let metrics = world.metrics();
    assert!(
        metrics.contains("mcp_context_requests_total{provider=\"good\"} 8"),
        "{metrics}"
    );
    assert!(
        metrics.contains("mcp_context_cache_hits_total{provider=\"good\"} 3"),
        "{metrics}"
    );
    assert!(
        metrics.contains("mcp_context_retrieval_duration_seconds_count{provider=\"good\"} 8"),
        "{metrics}"
    );
    assert!(
        metrics.contains("mcp_provider_query_duration_seconds_count{provider=\"good\"} 5"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_leaves_the_old_one() {
    let world = world().await;
    let mut bad = two();
    bad["providers"]["good"]["config"] = json!({});
    let failure = world.providers.reconfigure(&section(bad)).unwrap_err();
    assert_eq!(failure.code, Code::InvalidConfig);
    assert!(
        failure.message.starts_with("mcp.providers.good.config.tool: "),
        "{}",
        failure.message
    );
    assert_eq!(world.texts("good", "q").await, ["something"]);
}

#[tokio::test]
async fn a_series_goes_with_its_provider() {
    let world = world().await;
    world.find("good", "q").await;
    world.failure("bad", "q").await;
    let metrics = world.metrics();
    assert!(
        metrics.contains("mcp_provider_errors_total{provider=\"bad\",code=\""),
        "{metrics}"
    );
    world.providers.reconfigure(&section(json!({}))).unwrap();
    let metrics = world.metrics();
    assert!(!metrics.contains("good") && !metrics.contains("bad"), "{metrics}");
    assert_eq!(world.tools.calls.lock().unwrap().len(), 1);
    assert!(!world.tools.fails.load(Ordering::SeqCst));
}

#[tokio::test]
async fn the_budget_of_a_request_holds() {
    let world = world().await;
    let long = "All work and no play makes Jack a dull boy. ".repeat(200);
    world.tools.says(&json!([long, "short one", "short two"]).to_string());
    let small = ContextQuery {
        tokens_max: Some(100),
        items_max: Some(2),
        ..asking(&["good"], "q")
    };
    let found = world.ask(&small).await.unwrap();
    assert!(found.tokens <= 100, "{}", found.tokens);
    assert_eq!(found.items.len(), 2);
    assert!(
        found.items[0].text.ends_with("a dull boy. […]"),
        "{}",
        found.items[0].text
    );
}
