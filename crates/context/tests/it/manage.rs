//! Providers that come and go at run time, on both databases and on every replica.

use crate::world::{World, section};
use forebay_context::{Kind, ProviderConfig};
use forebay_domain::{Code, context::Strategy, id::SubjectId};
use forebay_testkit::db::TestDb;
use serde_json::{Value, json};

fn one(config: &Value) -> ProviderConfig {
    serde_json::from_value(json!({ "type": "mcp", "config": config })).unwrap()
}

fn admin() -> SubjectId {
    SubjectId::try_from("admin").unwrap()
}

#[tokio::test]
async fn what_is_created_serves_everywhere_and_outlives_the_process() {
    for db in TestDb::both().await {
        let file = json!({ "providers": { "fixed": { "type": "mcp", "config": { "tool": "search" } } } });
        let here = World::on(&db, file.clone()).await;
        let there = World::on(&db, file.clone()).await;
        here.providers
            .create("docs", &one(&json!({ "tool": "search" })), admin())
            .await
            .unwrap();
        here.tools.says("hello");
        there.tools.says("hello");
        assert_eq!(here.texts("docs", "q").await, ["hello"]);
        there.providers.sync().await.unwrap();
        assert_eq!(there.texts("docs", "q").await, ["hello"], "{}", db.name());

        let detail = there.providers.get("docs").unwrap();
        assert_eq!((detail.status.kind, detail.status.registered), (Kind::Mcp, true));
        assert_eq!(detail.status.condition.as_str(), "answers");
        assert_eq!(detail.status.strategies, [Strategy::Keyword]);
        assert_eq!(detail.config.config.tool.as_deref(), Some("search"));
        let names: Vec<String> = there.providers.list().into_iter().map(|status| status.name).collect();
        assert_eq!(names, ["docs", "fixed"]);

        // One that has not heard of it yet can take it away too.
        let third = World::on(&db, file.clone()).await;
        third.providers.delete("docs").await.unwrap();
        there.providers.sync().await.unwrap();
        assert_eq!(there.providers.list().len(), 1);
        here.providers.sync().await.unwrap();
        assert_eq!(here.providers.get("docs").unwrap_err().code, Code::UnknownProvider);
        assert_eq!(here.providers.list().len(), 1);
    }
}

#[tokio::test]
async fn a_name_is_given_once_and_the_file_is_not_overruled() {
    let db = TestDb::sqlite();
    let file = json!({ "providers": { "fixed": { "type": "mcp", "config": { "tool": "search" } } } });
    let world = World::on(&db, file).await;
    let create = async |name: &str, config: Value| world.providers.create(name, &one(&config), admin()).await;
    create("docs", json!({ "tool": "a" })).await.unwrap();
    assert_eq!(
        create("docs", json!({ "tool": "b" })).await.unwrap_err().code,
        Code::Conflict
    );
    assert_eq!(
        create("fixed", json!({ "tool": "b" })).await.unwrap_err().code,
        Code::Conflict
    );
    let failure = create("bad", json!({})).await.unwrap_err();
    assert_eq!(failure.code, Code::InvalidParams);
    assert_eq!(world.providers.delete("fixed").await.unwrap_err().code, Code::Conflict);
    assert_eq!(
        world.providers.delete("none").await.unwrap_err().code,
        Code::UnknownProvider
    );

    // What the file names from now on wins, and what was registered comes back once the file lets go of it.
    let docs = json!({ "providers": { "docs": { "type": "mcp", "config": { "tool": "c" } } } });
    world.providers.reconfigure(&section(docs)).unwrap();
    world.providers.sync().await.unwrap();
    let tool = || world.providers.get("docs").unwrap().config.config.tool.unwrap();
    assert_eq!(tool(), "c");
    world.providers.reconfigure(&section(json!({}))).unwrap();
    world.providers.sync().await.unwrap();
    assert_eq!(tool(), "a");
}

#[tokio::test]
async fn a_test_asks_anew_and_reports() {
    let db = TestDb::sqlite();
    let world = World::on(&db, json!({})).await;
    world
        .providers
        .create("docs", &one(&json!({ "tool": "search" })), admin())
        .await
        .unwrap();
    world.tools.says("hello");
    for _ in 0..2 {
        let principal = crate::world::user(&[]);
        let found = world
            .providers
            .test(&principal, "docs", "q", None, crate::world::via())
            .await
            .unwrap();
        assert_eq!((found.items.len(), found.reports[0].from_cache), (1, false));
    }
    assert_eq!(world.tools.calls.lock().unwrap().len(), 2);
}
