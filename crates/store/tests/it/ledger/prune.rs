//! What may be forgotten.

use super::{Timed, came_to, hard, is_balanced, once, payer, spend, usd};
use forebay_domain::{
    ledger::{MINUTES_MAX, Payer, Scope},
    money::Usd,
};
use forebay_store::ledger::HoldRequest;
use forebay_testkit::db::TestDb;
use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);

fn visiting(session: &str) -> HoldRequest {
    HoldRequest {
        payer: Payer {
            session: Some(session.parse().unwrap()),
            ..payer("acme", "k1")
        },
        ..once("0.01")
    }
}

#[tokio::test]
async fn sessions_of_last_year_are_forgotten_and_the_longest_window_still_knows_its_day() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let ledger = timed.ledger();
        ledger.configure(vec![
            hard(MINUTES_MAX, "100"),
            super::budget(Scope::Session, 60, "1", forebay_domain::ledger::Enforcement::Hard),
        ]);
        for number in 0..30 {
            let hold = ledger.hold(visiting(&format!("s{number}"))).await.unwrap();
            ledger.settle(&hold.id, came_to("0.01")).await.unwrap();
            timed.advance(Duration::from_millis(1));
        }
        let running = ledger.hold(visiting("runs")).await.unwrap();
        let count = async |what: &str| db.number(&format!("SELECT COUNT(*) FROM {what}")).await;
        assert_eq!(count("purse WHERE name LIKE '% 3 %'").await, 31, "{}", db.name());
        assert_eq!(ledger.prune().await.unwrap(), 0, "{}: all of it counts", db.name());

        timed.advance(DAY * 366);
        spend(&ledger, "2").await;
        assert_eq!(
            ledger.prune().await.unwrap(),
            0,
            "{}: a window may go back so far",
            db.name()
        );
        let posted = async || ledger.standings(&payer("acme", "k1")).await.unwrap()[0].posted;
        assert_eq!(posted().await, usd("2.30"));

        timed.advance(DAY * 35);
        assert_eq!(posted().await, usd("2"), "{}: long ago", db.name());
        assert!(ledger.prune().await.unwrap() > 60, "{}", db.name());
        assert_eq!(count("purse WHERE name LIKE '% 3 %'").await, 1, "what runs stays");
        assert_eq!(count("purse_posted WHERE purse LIKE '% 3 %'").await, 0, "{}", db.name());
        assert_eq!(count("purse_posted WHERE purse LIKE '% 0 %'").await, 2, "{}", db.name());
        assert_eq!(
            posted().await,
            usd("2"),
            "{}: nothing that counts is forgotten",
            db.name()
        );
        assert_eq!(ledger.prune().await.unwrap(), 0, "{}: once", db.name());

        // Somebody comes back to a session that was forgotten, and to one that was not.
        let again = ledger.hold(visiting("s1")).await.unwrap();
        ledger.settle(&again.id, came_to("0.50")).await.unwrap();
        ledger.settle(&running.id, came_to("0.25")).await.unwrap();
        for (session, spent) in [("s1", "0.50"), ("runs", "0.25")] {
            let standings = ledger.standings(&visiting(session).payer).await.unwrap();
            let of_session = standings.iter().find(|one| one.purse.scope == Scope::Session).unwrap();
            assert_eq!(
                (of_session.posted, of_session.held),
                (usd(spent), Usd::ZERO),
                "{session}"
            );
        }
        is_balanced(&db).await;
        timed.close().await;
    }
}
