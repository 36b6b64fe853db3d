//! Alerts: told once in a while, and on their way until a webhook has taken them.

use crate::{at, open};
use forebay_store::alerts::{NewAlert, Told};
use forebay_testkit::db::TestDb;
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);
const LEASE: Duration = Duration::from_mins(1);

fn alert(id: &str, thing: &str, ms: i64) -> NewAlert {
    NewAlert {
        id: id.to_owned(),
        tenant: Some("acme".parse().unwrap()),
        kind: "spending.refused",
        thing: thing.to_owned(),
        body: format!("{{\"id\":\"{id}\"}}"),
        at: at(ms),
    }
}

fn both() -> Vec<String> {
    vec!["ops".to_owned(), "pager".to_owned()]
}

#[tokio::test]
async fn the_same_is_told_once_in_a_while() {
    for db in TestDb::both().await {
        let (one, two) = (open(&db).await, open(&db).await);
        let (a, b) = (one.store.alerts(), two.store.alerts());
        let (first, second) = tokio::join!(
            a.tell(alert("m1", "tenant acme", 1_000), both(), HOUR),
            b.tell(alert("m2", "tenant acme", 1_000), both(), HOUR)
        );
        let mut told = [first.unwrap(), second.unwrap()];
        told.sort_by_key(|told| *told == Told::Already);
        assert_eq!(told, [Told::New { queued: 2 }, Told::Already], "{}", db.name());
        let other = a.tell(alert("m3", "key k1", 1_000), Vec::new(), HOUR).await.unwrap();
        assert_eq!(other, Told::New { queued: 0 }, "another thing");
        let nobody = NewAlert {
            tenant: None,
            ..alert("m4", "tenant acme", 1_000)
        };
        assert_eq!(a.tell(nobody, Vec::new(), HOUR).await.unwrap(), Told::New { queued: 0 });
        let hour = 3_600_000;
        let early = a
            .tell(alert("m5", "tenant acme", 999 + hour), both(), HOUR)
            .await
            .unwrap();
        assert_eq!(early, Told::Already);
        let later = a
            .tell(alert("m6", "tenant acme", 1_000 + hour), both(), HOUR)
            .await
            .unwrap();
        assert_eq!(later, Told::New { queued: 2 });
        one.close().await;
        two.close().await;
    }
}

#[tokio::test]
async fn a_delivery_comes_again_until_it_is_done() {
    for db in TestDb::both().await {
        let (one, two) = (open(&db).await, open(&db).await);
        let (a, b) = (one.store.alerts(), two.store.alerts());
        a.tell(alert("m1", "t", 1_000), both(), HOUR).await.unwrap();
        assert!(a.take(at(999), LEASE, 10).await.unwrap().is_empty());
        let (first, second) = tokio::join!(a.take(at(1_000), LEASE, 1), b.take(at(1_000), LEASE, 10));
        let mut taken = [first.unwrap(), second.unwrap()].concat();
        taken.sort_by(|a, b| a.webhook.cmp(&b.webhook));
        let named: Vec<_> = taken.iter().map(|one| (one.webhook.as_str(), one.attempts)).collect();
        assert_eq!(
            named,
            [("ops", 1), ("pager", 1)],
            "{}: each to one of the two",
            db.name()
        );
        assert_eq!(taken[0].body, "{\"id\":\"m1\"}");
        assert!(b.take(at(60_999), LEASE, 10).await.unwrap().is_empty(), "leased");
        a.done(&taken[0]).await.unwrap();
        a.later(&taken[1], at(500_000)).await.unwrap();
        assert!(b.take(at(499_999), LEASE, 10).await.unwrap().is_empty());
        let again = b.take(at(500_000), LEASE, 10).await.unwrap();
        assert_eq!((again.len(), again[0].attempts, again[0].created_at), (1, 2, at(1_000)));
        // Nobody says what became of it.
        assert_eq!(a.take(at(560_000), LEASE, 10).await.unwrap()[0].attempts, 3);
        one.close().await;
        two.close().await;
    }
}
