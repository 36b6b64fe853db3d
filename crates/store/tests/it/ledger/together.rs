//! Many at once, in one process and in several.

use super::{came_to, hard, is_balanced, once, payer};
use crate::open;
use forebay_domain::money::Usd;
use forebay_store::{Ledger, ledger::HoldError};
use forebay_testkit::db::TestDb;
use futures_util::future::join_all;

/// How many of so many holds of a cent get in, one task each.
async fn admitted(ledgers: &[Ledger], count: usize) -> usize {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..count {
        let ledger = ledgers[number % ledgers.len()].clone();
        tasks.spawn(async move { ledger.hold(once("0.01")).await });
    }
    let became = tasks.join_all().await;
    let refused = |became: &Result<_, HoldError>| matches!(became, Err(HoldError::Refused(_)));
    assert!(
        became.iter().all(|became| became.is_ok() || refused(became)),
        "{became:?}"
    );
    became.iter().filter(|became| became.is_ok()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_at_once_never_pass_a_limit() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let ledger = opened.store.ledger();
        ledger.configure(vec![hard(60, "1.23")]);
        assert_eq!(admitted(&[ledger], 500).await, 123, "{}", db.name());
        is_balanced(&db).await;
        opened.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_count_what_the_others_hold() {
    for db in TestDb::both().await {
        let replicas = [open(&db).await, open(&db).await, open(&db).await];
        let ledgers = replicas.each_ref().map(|opened| opened.store.ledger());
        for ledger in &ledgers {
            ledger.configure(vec![hard(60, "1")]);
        }
        assert_eq!(admitted(&ledgers, 300).await, 100, "{}", db.name());
        let standing = ledgers[2].standings(&payer("acme", "k1")).await.unwrap();
        assert_eq!(standing[0].remaining(), Usd::ZERO);
        is_balanced(&db).await;
        for opened in replicas {
            opened.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_settle_one_hold_once() {
    for db in TestDb::both().await {
        let replicas = [open(&db).await, open(&db).await];
        let ledgers = replicas.each_ref().map(|opened| opened.store.ledger());
        for round in 0..10 {
            let hold = ledgers[round % 2].hold(once("0.50")).await.unwrap();
            let settling = (0..8).map(|number| ledgers[number % 2].settle(&hold.id, came_to("0.40")));
            let settled = join_all(settling).await;
            let first = settled
                .into_iter()
                .filter(|settled| !settled.as_ref().unwrap().is_repeat);
            assert_eq!(first.count(), 1, "{}", db.name());
        }
        let posted = "SELECT CAST(SUM(posted) AS BIGINT) FROM ledger_txn";
        assert_eq!(db.number(posted).await, 4_000_000, "{}", db.name());
        is_balanced(&db).await;
        for opened in replicas {
            opened.close().await;
        }
    }
}
