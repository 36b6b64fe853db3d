//! Providers and tools declared at run time: kept as written, each sort by itself, never taken over, bounded.

use crate::{at, open};
use forebay_domain::{Code, Failure, id::SubjectId};
use forebay_store::declared::{CONFIG_BYTES_MAX, DECLARED_MAX, NAME_BYTES_MAX, NewDeclared, Put};
use forebay_testkit::db::TestDb;
use serde_json::value::RawValue;

fn new(name: &str, config: &str, by: &str) -> NewDeclared {
    NewDeclared {
        name: name.to_owned(),
        config: RawValue::from_string(config.to_owned()).unwrap(),
        by: SubjectId::try_from(by).unwrap(),
        at: at(1_000),
    }
}

#[tokio::test]
async fn what_is_declared_is_kept_as_written_until_it_is_deleted() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let (providers, tools) = (opened.store.providers(), opened.store.declared());
        let config = r#"{ "type" : "rest", "n":1.0 }"#;
        assert_eq!(providers.put(&new("docs", config, "ann")).await.unwrap(), Put::Created);
        let again = providers.put(&new("docs", "{}", "bob")).await.unwrap();
        assert_eq!(again, Put::Taken, "{}", db.name());
        assert_eq!(
            tools.put(&new("docs", "[]", "bob")).await.unwrap(),
            Put::Created,
            "another sort"
        );
        assert_eq!(tools.put(&new("Zeta", "[]", "bob")).await.unwrap(), Put::Created);

        let kept = providers.get("docs").await.unwrap().unwrap();
        assert_eq!(kept.config.get(), config);
        assert_eq!((kept.created_at, kept.created_by.as_str()), (at(1_000), "ann"));
        let names: Vec<String> = tools.list().await.unwrap().into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["Zeta", "docs"], "{}: by bytes", db.name());

        assert!(tools.delete("docs").await.unwrap());
        assert!(!tools.delete("docs").await.unwrap());
        assert!(tools.get("docs").await.unwrap().is_none());
        assert!(providers.get("docs").await.unwrap().is_some());
        opened.close().await;
    }
}

#[tokio::test]
async fn of_many_who_want_a_name_one_gets_it() {
    for db in TestDb::both().await {
        let (one, two) = (open(&db).await, open(&db).await);
        let (a, b) = (one.store.providers(), two.store.providers());
        for n in 0..10 {
            let wanted = new(&format!("p{n}"), "{}", "ann");
            let (first, second) = tokio::join!(a.put(&wanted), b.put(&wanted));
            let mut outcomes = [first.unwrap(), second.unwrap()];
            outcomes.sort_by_key(|outcome| *outcome != Put::Created);
            assert_eq!(outcomes, [Put::Created, Put::Taken], "{}", db.name());
        }
        one.close().await;
        two.close().await;
    }
}

#[tokio::test]
async fn there_are_only_so_many_declared_and_only_so_large() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let tools = opened.store.declared();
        let large = format!("\"{}\"", "x".repeat(CONFIG_BYTES_MAX));
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for refused in [new("a", &large, "ann"), new(&long, "{}", "ann")] {
            let refused = tools.put(&refused).await.unwrap_err();
            assert_eq!(Failure::from(refused).code, Code::BodyTooLarge);
        }
        let rows = (0..DECLARED_MAX).map(|n| format!("('tool', 't{n}', '{{}}', 1, 'ann')"));
        let rows = rows.collect::<Vec<_>>().join(", ");
        db.execute(&format!(
            "INSERT INTO declared (sort, name, config, created_at_ms, created_by) VALUES {rows}"
        ))
        .await;
        assert_eq!(
            tools.put(&new("more", "{}", "ann")).await.unwrap(),
            Put::Full,
            "{}",
            db.name()
        );
        assert_eq!(tools.put(&new("t1", "{}", "ann")).await.unwrap(), Put::Taken);
        let other = opened.store.providers().put(&new("more", "{}", "ann")).await.unwrap();
        assert_eq!(other, Put::Created, "each sort has its own bound");
        opened.close().await;
    }
}
