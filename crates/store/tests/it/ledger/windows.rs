//! Windows slide, to the millisecond.

use super::{Timed, hard, is_balanced, once, payer, spend, usd};
use forebay_domain::money::Usd;
use forebay_store::ledger::HoldError;
use forebay_testkit::db::TestDb;
use std::time::Duration;

async fn posted(timed: &Timed) -> Usd {
    timed.ledger().standings(&payer("acme", "k1")).await.unwrap()[0].posted
}

#[tokio::test]
async fn what_was_spent_at_the_end_of_an_hour_counts_at_the_beginning_of_the_next() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let ledger = timed.ledger();
        ledger.configure(vec![hard(60, "50")]);
        timed.advance(Duration::from_mins(59) + Duration::from_secs(59));
        spend(&ledger, "49.99").await;
        timed.advance(Duration::from_secs(2));
        let refused = ledger.hold(once("0.02")).await;
        assert!(
            matches!(refused, Err(HoldError::Refused(_))),
            "{}: {refused:?}",
            db.name()
        );
        let small = ledger.hold(once("0.01")).await.unwrap();
        ledger.void(&small.id).await.unwrap();

        // A millisecond before it has left the window, and then.
        timed.advance(Duration::from_hours(1) - Duration::from_millis(2_001));
        assert!(ledger.hold(once("50")).await.is_err());
        timed.advance(Duration::from_millis(1));
        ledger.hold(once("50")).await.unwrap();
        is_balanced(&db).await;
        timed.close().await;
    }
}

#[tokio::test]
async fn several_windows_count_at_once_and_several_posts_of_one_millisecond_are_all_counted() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let ledger = timed.ledger();
        ledger.configure(vec![hard(60, "1"), hard(1440, "2.5")]);
        for hour in 0..2 {
            spend(&ledger, "0.50").await;
            spend(&ledger, "0.50").await;
            assert!(ledger.hold(once("0.01")).await.is_err(), "{}: hour {hour}", db.name());
            timed.advance(Duration::from_hours(1));
        }
        let refused = ledger.hold(once("0.51")).await.unwrap_err();
        let HoldError::Refused(overrun) = refused else {
            unreachable!("there are limits")
        };
        assert_eq!(overrun.standing.window.minutes, 1440);
        spend(&ledger, "0.50").await;
        timed.close().await;
    }
}

#[tokio::test]
async fn a_refund_leaves_no_room_that_was_never_there() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let ledger = timed.ledger();
        ledger.configure(vec![hard(60, "10")]);
        let hold = ledger.hold(once("10")).await.unwrap();
        for total in ["4", "10"] {
            ledger.accrue(&hold.id, usd(total)).await.unwrap();
            timed.advance(Duration::from_mins(20));
        }
        // The newest of it goes first: 6 of 20 minutes ago, and 1 of 40 minutes ago.
        ledger.refund(&hold.id, usd("7"), "early end").await.unwrap();
        assert_eq!(posted(&timed).await, usd("3"), "{}", db.name());
        timed.advance(Duration::from_mins(20));
        assert_eq!(posted(&timed).await, Usd::ZERO, "and not below");
        timed.advance(Duration::from_mins(20));
        assert_eq!(posted(&timed).await, Usd::ZERO);
        assert!(ledger.hold(once("10.01")).await.is_err());

        let billed = ledger.hold(once("1")).await.unwrap();
        ledger.accrue(&billed.id, usd("1")).await.unwrap();
        ledger.adjust(&billed.id, usd("0.5"), "bill").await.unwrap();
        assert_eq!(posted(&timed).await, usd("1.5"));
        timed.advance(Duration::from_mins(30));
        ledger.adjust(&billed.id, usd("-0.75"), "corrected bill").await.unwrap();
        assert_eq!(posted(&timed).await, usd("0.75"));
        timed.advance(Duration::from_mins(30));
        assert_eq!(posted(&timed).await, Usd::ZERO);
        is_balanced(&db).await;
        timed.close().await;
    }
}

/// As docs/money.md prints it.
const MEND_A_CLOCK: [&str; 3] = [
    "UPDATE purse SET last_at_ms = NOW_MS WHERE last_at_ms > NOW_MS",
    "DELETE FROM purse_posted WHERE at_ms > NOW_MS",
    "UPDATE purse_refund SET original_at_ms = NOW_MS WHERE original_at_ms > NOW_MS",
];

#[tokio::test]
async fn a_clock_that_was_a_year_ahead_is_seen_and_its_windows_move_on_once_it_is_mended() {
    for db in TestDb::both().await {
        let wrong = Timed::open(&db).await;
        wrong.advance(Duration::from_hours(365 * 24));
        spend(&wrong.ledger(), "0.10").await;
        wrong.close().await;

        let timed = Timed::open(&db).await;
        let ledger = timed.ledger();
        ledger.configure(vec![hard(60, "1")]);
        let mut registry = prometheus_client::registry::Registry::default();
        timed.opened.store.register_metrics(&mut registry);
        spend(&ledger, "0.20").await;
        let mut shown = String::new();
        prometheus_client::encoding::text::encode(&mut shown, &registry).unwrap();
        assert!(shown.contains("forebay_ledger_ahead_seconds 31536000"), "{shown}");
        timed.advance(Duration::from_hours(2));
        assert_eq!(posted(&timed).await, usd("0.30"), "{}: nothing leaves", db.name());

        let now_ms = super::START_MS + 2 * 3_600_000;
        for statement in MEND_A_CLOCK {
            db.execute(&statement.replace("NOW_MS", &now_ms.to_string())).await;
        }
        assert_eq!(posted(&timed).await, usd("0.30"), "{}: nothing is forgotten", db.name());
        spend(&ledger, "0.30").await;
        assert_eq!(posted(&timed).await, usd("0.60"), "{}", db.name());
        timed.advance(Duration::from_hours(1));
        assert_eq!(posted(&timed).await, Usd::ZERO, "{}: all of it leaves", db.name());
        is_balanced(&db).await;
        timed.close().await;
    }
}
