//! What was spent, page by page.

use super::{Timed, came_to, once, payer, spend, usd};
use forebay_domain::{
    Code, Failure,
    ledger::{PurposeKind, TxnKind},
};
use forebay_store::ledger::{HoldRequest, TransactionQuery};
use forebay_testkit::db::TestDb;
use std::{collections::HashSet, time::Duration};

#[tokio::test]
async fn a_tenants_movements_come_newest_first_and_page_by_page() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let ledger = timed.ledger();
        let begun = timed.clock.now();
        for _ in 0..3 {
            timed.advance(Duration::from_mins(1));
            spend(&ledger, "0.25").await;
        }
        let other = HoldRequest {
            payer: payer("zeta", "k9"),
            ..once("1")
        };
        ledger.hold(other).await.unwrap();
        let mine = HoldRequest {
            payer: payer("acme", "k2"),
            ..once("1")
        };
        let hold = ledger.hold(mine).await.unwrap();
        ledger.settle(&hold.id, came_to("2")).await.unwrap();

        let query = TransactionQuery::of("acme".parse().unwrap());
        let all = ledger.transactions(&query).await.unwrap();
        assert_eq!((all.transactions.len(), all.next), (8, None), "{}", db.name());
        let newest = &all.transactions[0];
        assert_eq!(
            (newest.kind, newest.posted, newest.above_hold),
            (TxnKind::Settle, usd("2"), true)
        );
        assert_eq!(newest.hold.as_ref(), Some(&hold.id));
        assert_eq!(newest.payer, payer("acme", "k2"));
        assert_eq!(newest.purpose.to_string(), "model qwen");
        assert_eq!(
            all.transactions[1].kind,
            TxnKind::Hold,
            "in the order in which they were"
        );

        let mut seen = HashSet::new();
        let mut page = TransactionQuery {
            limit: 3,
            ..query.clone()
        };
        loop {
            let found = ledger.transactions(&page).await.unwrap();
            assert!(found.transactions.len() <= 3);
            for one in found.transactions {
                assert!(seen.insert(one.id));
            }
            match found.next {
                Some(next) => page.before = Some(next),
                None => break,
            }
        }
        assert_eq!(seen.len(), 8);

        let count = async |query: TransactionQuery| ledger.transactions(&query).await.unwrap().transactions.len();
        let posted = TransactionQuery {
            posted_only: true,
            ..query.clone()
        };
        assert_eq!(count(posted).await, 4);
        let of_key = TransactionQuery {
            key: Some("k2".parse().unwrap()),
            ..query.clone()
        };
        assert_eq!(count(of_key).await, 2);
        let of_nobody = TransactionQuery {
            subject: Some("bob".parse().unwrap()),
            ..query.clone()
        };
        assert_eq!(count(of_nobody).await, 0);
        let of_tools = TransactionQuery {
            purpose: Some(PurposeKind::Tool),
            ..query.clone()
        };
        assert_eq!(count(of_tools).await, 0);
        let second = TransactionQuery {
            since: Some(begun + Duration::from_mins(2)),
            until: Some(begun + Duration::from_mins(3)),
            ..query.clone()
        };
        assert_eq!(count(second).await, 2);
        let forged = TransactionQuery {
            before: Some("' OR 1=1".to_owned()),
            ..query
        };
        let refused = ledger.transactions(&forged).await.unwrap_err();
        assert_eq!(Failure::from(refused).code, Code::InvalidRequest);
        timed.close().await;
    }
}
