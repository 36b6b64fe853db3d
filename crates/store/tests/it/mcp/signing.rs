//! Signing keys: one signs at a time, all replicas have the same, those before still verify for a while.

use crate::{at, open};
use forebay_store::mcp::signing::{Purpose, Rotation, SigningKey};
use forebay_testkit::db::TestDb;
use std::time::Duration;

const ROTATION: Rotation = Rotation {
    sign_for: Duration::from_secs(100),
    verify_for: Duration::from_secs(50),
};
const STATE: Purpose = Purpose::REQUEST_STATE;

fn ids(keys: &[SigningKey]) -> Vec<&str> {
    keys.iter().map(|key| key.id.as_str()).collect()
}

#[tokio::test]
async fn a_key_signs_then_verifies_then_goes() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let signing = opened.store.signing();
        assert_eq!(signing.verify_set(STATE, at(0)).await.unwrap(), []);
        let first = signing.current_or_create(STATE, at(0), ROTATION).await.unwrap();
        let same = signing.current_or_create(STATE, at(99_999), ROTATION).await.unwrap();
        assert_eq!(first, same, "{}", db.name());
        assert_eq!((first.sign_until, first.retire_at), (at(100_000), at(150_000)));

        let second = signing.current_or_create(STATE, at(100_000), ROTATION).await.unwrap();
        assert_ne!(first.secret, second.secret);
        let both = signing.verify_set(STATE, at(149_999)).await.unwrap();
        assert_eq!(both, [second.clone(), first]);
        let later = signing.verify_set(STATE, at(150_000)).await.unwrap();
        assert_eq!(ids(&later), [second.id.as_str()]);

        let third = signing.current_or_create(STATE, at(200_000), ROTATION).await.unwrap();
        assert_ne!(third.id, second.id);
        assert_eq!(
            db.number("SELECT COUNT(*) FROM signing_key").await,
            2,
            "the first is gone"
        );
        opened.close().await;
    }
}

#[tokio::test]
async fn purposes_share_no_key() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let signing = opened.store.signing();
        let state = signing.current_or_create(STATE, at(0), ROTATION).await.unwrap();
        let other = Purpose::named("other");
        assert_eq!(signing.verify_set(other, at(0)).await.unwrap(), []);
        let theirs = signing.current_or_create(other, at(0), ROTATION).await.unwrap();
        assert_ne!(theirs.secret, state.secret, "{}", db.name());
        opened.close().await;
    }
}

#[tokio::test]
async fn of_replicas_that_want_a_key_together_all_get_the_same() {
    for db in TestDb::both().await {
        let (one, two) = tokio::join!(open(&db), open(&db));
        for round in 0..4 {
            let now = at(round * 1_000_000);
            let wishes = (0..16).map(|n| {
                let store = if n % 2 == 0 { &one.store } else { &two.store };
                let signing = store.signing();
                async move { signing.current_or_create(STATE, now, ROTATION).await.unwrap() }
            });
            let keys = futures_util::future::join_all(wishes).await;
            assert!(keys.iter().all(|key| *key == keys[0]), "{}: {keys:?}", db.name());
        }
        assert_eq!(db.number("SELECT COUNT(*) FROM signing_key").await, 1);
        one.close().await;
        two.close().await;
    }
}

#[tokio::test]
async fn a_secret_is_not_shown_by_accident() {
    let db = TestDb::sqlite();
    let opened = open(&db).await;
    let key = opened.store.signing().current_or_create(STATE, at(0), ROTATION).await;
    let key = key.unwrap();
    let shown = format!("{key:?}");
    assert!(shown.contains(&key.id) && !shown.contains("secret"), "{shown}");
    assert!(key.secret.iter().any(|byte| *byte != 0));
    opened.close().await;
}
