//! Registered upstreams: kept as written, replaced by their tenant alone, bounded.

use super::raw;
use crate::{at, open};
use forebay_domain::{
    Code, Failure,
    id::{SubjectId, TenantId},
    quarantine::ServerName,
};
use forebay_store::mcp::upstreams::{CONFIG_BYTES_MAX, NewUpstream, Put, UPSTREAMS_MAX};
use forebay_testkit::db::TestDb;

fn name(text: &str) -> ServerName {
    ServerName::try_from(text).unwrap()
}

fn upstream(server: &str, tenant: Option<&str>, config: &str, at_ms: i64) -> NewUpstream {
    NewUpstream {
        name: name(server),
        tenant: tenant.map(|tenant| TenantId::try_from(tenant).unwrap()),
        config: raw(config),
        by: SubjectId::try_from("ann").unwrap(),
        at: at(at_ms),
    }
}

#[tokio::test]
async fn an_upstream_is_kept_as_written_until_it_is_removed() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let upstreams = opened.store.upstreams();
        let config = r#"{ "url" : "https://x/mcp", "n":1.0 }"#;
        let first = upstream("docs", Some("acme"), config, 1_000);
        assert_eq!(upstreams.put(&first).await.unwrap(), Put::Created, "{}", db.name());
        let again = NewUpstream {
            by: SubjectId::try_from("bob").unwrap(),
            ..upstream("docs", Some("acme"), r#"{"url":"https://y"}"#, 2_000)
        };
        let stored = upstreams.get(&name("docs")).await.unwrap().unwrap();
        assert_eq!(stored.config.get(), config);
        assert_eq!((stored.created_at, stored.updated_at), (at(1_000), at(1_000)));

        assert_eq!(upstreams.put(&again).await.unwrap(), Put::Replaced);
        let stored = upstreams.get(&name("docs")).await.unwrap().unwrap();
        assert_eq!(stored.config.get(), r#"{"url":"https://y"}"#);
        assert_eq!((stored.created_at, stored.updated_at), (at(1_000), at(2_000)));
        assert_eq!(stored.created_by.unwrap().as_str(), "ann");

        assert!(upstreams.remove(&name("docs")).await.unwrap());
        assert!(!upstreams.remove(&name("docs")).await.unwrap());
        assert!(upstreams.get(&name("docs")).await.unwrap().is_none());
        opened.close().await;
    }
}

#[tokio::test]
async fn a_name_is_nobody_elses() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let upstreams = opened.store.upstreams();
        for (server, tenant) in [("b", Some("acme")), ("a", None)] {
            upstreams.put(&upstream(server, tenant, "{}", 1_000)).await.unwrap();
        }
        for (server, tenant) in [("b", Some("other")), ("b", None), ("a", Some("acme"))] {
            let theirs = upstream(server, tenant, "[]", 2_000);
            assert_eq!(
                upstreams.put(&theirs).await.unwrap(),
                Put::Taken,
                "{} {server}",
                db.name()
            );
        }
        let shared = upstream("a", None, "{}", 2_000);
        assert_eq!(upstreams.put(&shared).await.unwrap(), Put::Replaced);
        let list = upstreams.list().await.unwrap();
        let seen: Vec<_> = list.iter().map(|one| (one.name.as_str(), one.config.get())).collect();
        assert_eq!(seen, [("a", "{}"), ("b", "{}")]);
        opened.close().await;
    }
}

#[tokio::test]
async fn there_are_only_so_many_and_only_so_large() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let upstreams = opened.store.upstreams();
        let large = upstream("a", None, &format!("\"{}\"", "x".repeat(CONFIG_BYTES_MAX)), 1);
        let refused = upstreams.put(&large).await.unwrap_err();
        assert_eq!(Failure::from(refused).code, Code::BodyTooLarge);

        upstreams.put(&upstream("a", None, "{}", 1)).await.unwrap();
        let rows = (1..UPSTREAMS_MAX).map(|n| format!("('s{n}', '{{}}', 1, 1)"));
        let rows = rows.collect::<Vec<_>>().join(", ");
        db.execute(&format!(
            "INSERT INTO upstream (name, config, created_at_ms, updated_at_ms) VALUES {rows}"
        ))
        .await;
        let more = upstream("one-more", None, "{}", 1);
        assert_eq!(upstreams.put(&more).await.unwrap(), Put::Full, "{}", db.name());
        let known = upstream("a", None, "{}", 1);
        assert_eq!(upstreams.put(&known).await.unwrap(), Put::Replaced);
        opened.close().await;
    }
}
