//! What is not waited for, and whoever stops waiting.

use super::{Timed, came_to, hard, is_balanced, once, payer, usd};
use crate::{open, until};
use forebay_domain::money::Usd;
use forebay_store::{
    Ledger,
    ledger::{LATER_MAX, Posting},
};
use forebay_testkit::db::TestDb;
use futures_util::FutureExt;

fn posting(amount: &str) -> Posting {
    let hold = once(amount);
    Posting {
        payer: hold.payer,
        purpose: hold.purpose,
        amount: usd(amount),
        trace: hold.trace,
        estimated: false,
    }
}

async fn held(ledger: &Ledger) -> Usd {
    ledger.standings(&payer("acme", "k1")).await.unwrap()[0].held
}

#[tokio::test]
async fn what_is_not_waited_for_is_done_before_the_store_closes() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let ledger = opened.store.ledger();
        let (settles, voids) = (
            ledger.hold(once("1")).await.unwrap(),
            ledger.hold(once("1")).await.unwrap(),
        );
        for _ in 0..300 {
            ledger.post_soon(posting("0.01"));
        }
        ledger.settle_soon(settles.id, came_to("0.50"));
        ledger.void_soon(voids.id);
        opened.close().await;
        assert_eq!(
            db.number("SELECT COUNT(*) FROM ledger_hold WHERE state = 'open'").await,
            0
        );
        let posted = "SELECT CAST(SUM(posted) AS BIGINT) FROM ledger_txn";
        assert_eq!(db.number(posted).await, 3_500_000, "{}", db.name());
        is_balanced(&db).await;
    }
}

#[tokio::test]
async fn it_waits_for_a_database_that_is_away() {
    let db = TestDb::postgres().await;
    let opened = open(&db).await;
    let ledger = opened.store.ledger();
    let hold = ledger.hold(once("1")).await.unwrap();
    db.refuse_connections().await;
    ledger.settle_soon(hold.id, came_to("0.50"));
    ledger.post_soon(posting("0.25"));
    until("the database is found to be away", || async {
        ledger.hold(once("1")).await.is_err()
    })
    .await;
    db.accept_connections().await;
    let posted = "SELECT CAST(COALESCE(SUM(posted), 0) AS BIGINT) FROM ledger_txn";
    until("both are posted once", || async { db.number(posted).await == 750_000 }).await;
    until("what nobody was told of is given back", || async {
        db.number("SELECT COUNT(*) FROM ledger_hold WHERE state = 'open'").await == 0
    })
    .await;
    is_balanced(&db).await;
    opened.close().await;
}

#[tokio::test]
async fn while_the_database_is_away_nothing_is_lost_and_nobody_spends_more_than_can_be_kept() {
    let db = TestDb::postgres().await;
    let opened = open(&db).await;
    let ledger = opened.store.ledger();
    db.refuse_connections().await;
    let count = LATER_MAX + 300;
    for _ in 0..LATER_MAX {
        ledger.room().await.unwrap();
        ledger.post_soon(posting("0.01"));
    }
    let mut waiting = Box::pin(ledger.room());
    assert!(waiting.as_mut().now_or_never().is_none(), "whoever comes now waits");
    // What was under way by then has been spent.
    for _ in LATER_MAX..count {
        ledger.post_soon(posting("0.01"));
    }
    db.accept_connections().await;
    until("there is room again", || async { ledger.room().await.is_ok() }).await;
    let posted = "SELECT COUNT(*) FROM ledger_txn WHERE kind = 'post' AND posted = 10000";
    let count = i64::try_from(count).unwrap();
    until("all of it is written", || async { db.number(posted).await == count }).await;
    opened.close().await;
    assert_eq!(db.number(posted).await, count, "and nothing twice");
    is_balanced(&db).await;
}

#[tokio::test]
async fn whoever_stops_waiting_holds_nothing() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let ledger = timed.ledger();
        ledger.configure(vec![hard(60, "1")]);
        let waiting = ledger.hold(once("0.80")).now_or_never();
        assert!(waiting.is_none(), "it was asked for, and nobody waits any more");
        // The line is in order: once another is answered, the first was decided.
        let after = ledger.hold(once("0.10")).await.unwrap();
        ledger.void(&after.id).await.unwrap();
        until("it is given back", || async { held(&ledger).await == Usd::ZERO }).await;
        let voided = "SELECT COUNT(*) FROM ledger_txn WHERE kind = 'void' AND held = -800000";
        assert_eq!(db.number(voided).await, 1, "{}", db.name());

        // It was made and told, and nobody looked at the answer any more.
        let mut waiting = Box::pin(ledger.hold(once("0.70")));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        let after = ledger.hold(once("0.10")).await.unwrap();
        ledger.void(&after.id).await.unwrap();
        assert_eq!(held(&ledger).await, usd("0.70"), "{}", db.name());
        drop(waiting);
        until("it is given back too", || async { held(&ledger).await == Usd::ZERO }).await;
        timed.close().await;
    }
}
