//! Keys: kept whole, found, listed, revoked for ever.

use crate::{at, open};
use forebay_domain::{
    Code, Failure, Role,
    id::{KeyId, ProjectId, SubjectId, TenantId},
    key::KeyHash,
};
use forebay_store::{
    StoreError,
    keys::{KeyFilter, NewKey, Revocation, StoredKey},
};
use forebay_testkit::db::TestDb;

fn key(id: &str, tenant: &str, role: Role) -> NewKey {
    NewKey {
        id: KeyId::try_from(id).unwrap(),
        hash: KeyHash([7; 32]),
        tenant: TenantId::try_from(tenant).unwrap(),
        project: None,
        subject: SubjectId::try_from("ann").unwrap(),
        role,
        grants: Vec::new(),
        shown: Vec::new(),
        created_at: at(1_000),
        created_by: None,
        expires_at: None,
    }
}

fn id(text: &str) -> KeyId {
    KeyId::try_from(text).unwrap()
}

#[tokio::test]
async fn a_key_is_kept_whole() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let keys = opened.store.keys();
        let new = NewKey {
            hash: KeyHash(std::array::from_fn(|n| u8::try_from(n * 8).unwrap())),
            project: Some(ProjectId::try_from("team").unwrap()),
            grants: vec!["tool:*".parse().unwrap(), "!tool:destroy_*".parse().unwrap()],
            shown: vec!["web_*".parse().unwrap(), "calculator".parse().unwrap()],
            created_by: Some(SubjectId::try_from("root").unwrap()),
            expires_at: Some(at(9_000)),
            ..key("a1", "acme", Role::Operator)
        };
        keys.create(&new).await.unwrap();
        let expected = StoredKey {
            id: new.id.clone(),
            hash: new.hash,
            tenant: new.tenant.clone(),
            project: new.project.clone(),
            subject: new.subject.clone(),
            role: new.role,
            grants: new.grants.clone(),
            shown: new.shown.clone(),
            created_at: new.created_at,
            created_by: new.created_by.clone(),
            expires_at: new.expires_at,
            revoked_at: None,
        };
        assert_eq!(keys.find(&new.id).await.unwrap(), Some(expected), "{}", db.name());
        assert_eq!(keys.find(&id("a2")).await.unwrap(), None);

        let again = keys.create(&new).await.unwrap_err();
        assert!(matches!(again, StoreError::Conflict(_)), "{again:?}");
        assert_eq!(Failure::from(again).code, Code::Conflict);
        opened.close().await;
    }
}

#[tokio::test]
async fn many_are_found_at_once() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let keys = opened.store.keys();
        for name in ["a1", "a2", "a3"] {
            keys.create(&key(name, "acme", Role::User)).await.unwrap();
        }
        let found = async |names: &[&str]| {
            let ids: Vec<KeyId> = names.iter().map(|name| id(name)).collect();
            let mut found: Vec<String> = keys
                .find_all(&ids)
                .await
                .unwrap()
                .into_iter()
                .map(|key| key.id.to_string())
                .collect();
            found.sort();
            found
        };
        assert_eq!(found(&["a3", "none", "a1"]).await, ["a1", "a3"], "{}", db.name());
        assert!(found(&[]).await.is_empty());
        opened.close().await;
    }
}

#[tokio::test]
async fn lists_come_in_pages_and_by_tenant() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let keys = opened.store.keys();
        // The same time for all: the id decides, by its bytes and not by the locale (where `b` comes before `C`).
        for (name, tenant) in [("b", "acme"), ("C", "other"), ("a", "acme"), ("D", "acme")] {
            keys.create(&key(name, tenant, Role::User)).await.unwrap();
        }
        let list = async |tenant: Option<&str>, after: Option<&str>, limit| {
            let filter = KeyFilter {
                tenant: tenant.map(|tenant| TenantId::try_from(tenant).unwrap()),
                after: after.map(id),
                limit,
            };
            let found = keys.list(&filter).await?;
            Ok::<_, StoreError>(found.iter().map(|key| key.id.to_string()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(list(None, None, 0).await.unwrap(), "C D a b", "{}", db.name());
        assert_eq!(list(None, None, 3).await.unwrap(), "C D a");
        assert_eq!(list(None, Some("a"), 3).await.unwrap(), "b");
        assert_eq!(list(None, Some("b"), 3).await.unwrap(), "");
        assert_eq!(list(Some("acme"), None, 2).await.unwrap(), "D a");
        assert_eq!(list(Some("acme"), Some("a"), 2).await.unwrap(), "b");
        assert_eq!(list(Some("nobody"), None, 2).await.unwrap(), "");
        let unknown = list(None, Some("zz"), 2).await.unwrap_err();
        assert_eq!(Failure::from(unknown).code, Code::UnknownKey);
        opened.close().await;
    }
}

#[tokio::test]
async fn a_key_is_revoked_once_and_for_ever() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let keys = opened.store.keys();
        for name in ["a", "b", "c"] {
            keys.create(&key(name, "acme", Role::User)).await.unwrap();
        }
        assert_eq!(keys.revoke(&id("a"), at(5_000)).await.unwrap(), Some(Revocation::Now));
        let again = keys.revoke(&id("a"), at(6_000)).await.unwrap();
        assert_eq!(again, Some(Revocation::Before(at(5_000))), "{}", db.name());
        assert_eq!(keys.revoke(&id("none"), at(6_000)).await.unwrap(), None);
        assert_eq!(keys.find(&id("a")).await.unwrap().unwrap().revoked_at, Some(at(5_000)));

        keys.revoke(&id("b"), at(5_001)).await.unwrap();
        assert_eq!(keys.revoked_since(at(5_000)).await.unwrap(), [id("a"), id("b")]);
        assert_eq!(keys.revoked_since(at(5_001)).await.unwrap(), [id("b")]);
        assert_eq!(keys.revoked_since(at(5_002)).await.unwrap(), []);
        opened.close().await;
    }
}

#[tokio::test]
async fn of_replicas_that_start_together_one_makes_the_first_admin() {
    for db in TestDb::both().await {
        let (one, two) = tokio::join!(open(&db), open(&db));
        let (keys_one, keys_two) = (one.store.keys(), two.store.keys());
        assert!(!keys_one.any_admin().await.unwrap());
        keys_one.create(&key("u", "acme", Role::User)).await.unwrap();
        assert!(!keys_one.any_admin().await.unwrap(), "a user is no admin");

        let (first, second) = (key("a", "acme", Role::Admin), key("b", "acme", Role::Admin));
        let (made_one, made_two) = tokio::join!(
            keys_one.ensure_first_admin(&first),
            keys_two.ensure_first_admin(&second)
        );
        assert!(made_one.unwrap() ^ made_two.unwrap(), "exactly one: {}", db.name());
        assert!(keys_two.any_admin().await.unwrap());

        for name in ["a", "b"] {
            keys_one.revoke(&id(name), at(1)).await.unwrap();
        }
        let third = key("c", "acme", Role::Admin);
        assert!(
            !keys_one.ensure_first_admin(&third).await.unwrap(),
            "a revoked admin is not replaced unasked"
        );
        one.close().await;
        two.close().await;
    }
}

#[tokio::test]
async fn five_hundred_at_once_share_commits_and_one_that_fails_fails_alone() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let keys = opened.store.keys();
        keys.create(&key("k250", "acme", Role::User)).await.unwrap();
        let news: Vec<NewKey> = (0..500).map(|n| key(&format!("k{n}"), "acme", Role::User)).collect();
        let outcomes = futures_util::future::join_all(news.iter().map(|new| keys.create(new))).await;
        for (new, outcome) in news.iter().zip(outcomes) {
            match outcome {
                Ok(()) => assert_ne!(new.id.as_str(), "k250"),
                Err(StoreError::Conflict(_)) => assert_eq!(new.id.as_str(), "k250"),
                Err(error) => panic!("{} {}: {error:?}", db.name(), new.id),
            }
        }
        assert_eq!(db.number("SELECT COUNT(*) FROM api_key").await, 500);
        if !db.is_postgres() {
            let commits = opened.metric("forebay_store_group_size_count");
            assert!(commits < 50, "501 writes in {commits} commits");
        }
        opened.close().await;
    }
}
