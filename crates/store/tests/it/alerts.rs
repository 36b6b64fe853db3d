//! Alerts: told once in a while, and on their way until a webhook has taken them.

use crate::{at, open};
use forebay_store::alerts::{NewAlert, RESERVED, Told, WAITING_MAX};
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
        is_urgent: false,
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

#[tokio::test]
async fn a_webhook_that_takes_nothing_leaves_the_others_theirs_and_room_for_what_is_urgent() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let alerts = opened.store.alerts();
        let fill = async |name: &str, from: u32, to: u32| {
            db.execute(&format!(
                "WITH RECURSIVE n (i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to} - 1) \
                 INSERT INTO alert_delivery (id, webhook, body, created_at_ms, due_at_ms, attempts) \
                 SELECT 'f' || i, '{name}', '', 0, 0, 0 FROM n"
            ))
            .await;
        };
        let ops = || vec!["ops".to_owned()];
        fill("ops", 0, WAITING_MAX - RESERVED).await;
        let told = alerts.tell(alert("m1", "a", 1_000), both(), HOUR).await.unwrap();
        assert_eq!(
            told,
            Told::New { queued: 1 },
            "{}: the pager has its own room",
            db.name()
        );
        let told = alerts.tell(alert("m2", "b", 1_000), ops(), HOUR).await.unwrap();
        assert_eq!(told, Told::New { queued: 0 });
        let urgent = |id, thing| NewAlert {
            is_urgent: true,
            ..alert(id, thing, 1_000)
        };
        let told = alerts.tell(urgent("m3", "c"), ops(), HOUR).await.unwrap();
        assert_eq!(told, Told::New { queued: 1 }, "{}", db.name());
        fill("ops", WAITING_MAX - RESERVED, WAITING_MAX - 1).await;
        let told = alerts.tell(urgent("m4", "d"), ops(), HOUR).await.unwrap();
        assert_eq!(told, Told::New { queued: 0 }, "{}: all of it is bounded", db.name());

        // Nobody was told of b: it comes again, but not with every cause.
        let told = alerts.tell(alert("m5", "b", 60_999), ops(), HOUR).await.unwrap();
        assert_eq!(told, Told::Already);
        db.execute("DELETE FROM alert_delivery").await;
        let told = alerts.tell(alert("m6", "b", 61_000), ops(), HOUR).await.unwrap();
        assert_eq!(told, Told::New { queued: 1 }, "{}", db.name());
        let told = alerts.tell(alert("m7", "a", 61_000), both(), HOUR).await.unwrap();
        assert_eq!(told, Told::Already, "one webhook was told of a");
        opened.close().await;
    }
}
