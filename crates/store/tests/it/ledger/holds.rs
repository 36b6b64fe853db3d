//! Holds, and how they end.

use super::{Timed, budget, came_to, hard, is_balanced, once, payer, spend, usd};
use crate::at;
use forebay_domain::{
    Code, Failure,
    ledger::{Ask, Enforcement, Scope},
    money::{Usd, UsdRate},
};
use forebay_store::ledger::{HoldError, HoldRequest, LedgerNews};
use forebay_testkit::db::TestDb;
use sqlx::{Connection, PgConnection, SqliteConnection};
use std::time::Duration;

/// Held, and posted within the hour, for the tenant.
async fn stands(timed: &Timed) -> (Usd, Usd) {
    let standings = timed.ledger().standings(&payer("acme", "k1")).await.unwrap();
    (standings[0].held, standings[0].posted)
}

#[tokio::test]
async fn what_is_held_counts_until_it_is_settled_or_voided_and_each_ends_once() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let ledger = timed.ledger();
        ledger.configure(vec![hard(60, "1")]);
        let one = ledger.hold(once("0.60")).await.unwrap();
        let refused = ledger.hold(once("0.41")).await.unwrap_err();
        let failure = Failure::from(refused);
        assert_eq!(failure.code, Code::SpendingLimitExceeded);
        let details = failure.details.unwrap();
        assert_eq!(details["held_usd"], 0.6);
        assert_eq!(details["requested_usd"], 0.41);
        assert_eq!(
            (&details["scope"], &details["reason"]),
            (&"tenant".into(), &"amount".into())
        );

        let settled = ledger.settle(&one.id, came_to("0.25")).await.unwrap();
        assert!(!settled.above_hold && !settled.is_repeat);
        let again = ledger.settle(&one.id, came_to("0.99")).await.unwrap();
        assert!(again.is_repeat, "{}", db.name());
        assert!(ledger.void(&one.id).await.unwrap().is_repeat);
        assert_eq!(stands(&timed).await, (Usd::ZERO, usd("0.25")));

        let two = ledger.hold(once("0.75")).await.unwrap();
        assert!(!ledger.void(&two.id).await.unwrap().is_repeat);
        assert!(ledger.settle(&two.id, came_to("0.75")).await.unwrap().is_repeat);
        assert_eq!(stands(&timed).await, (Usd::ZERO, usd("0.25")));

        let three = ledger.hold(once("0.10")).await.unwrap();
        assert!(ledger.settle(&three.id, came_to("0.90")).await.unwrap().above_hold);
        assert_eq!(stands(&timed).await.1, usd("1.15"), "posted in full");
        assert!(matches!(
            ledger.hold(once("0.000001")).await,
            Err(HoldError::Refused(_))
        ));
        is_balanced(&db).await;
        timed.close().await;
    }
}

#[tokio::test]
async fn the_same_key_is_the_same_hold() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let ledger = timed.ledger();
        ledger.configure(vec![hard(60, "1")]);
        let named = |amount: &str| HoldRequest {
            idempotency_key: Some("rental-1".to_owned()),
            ..once(amount)
        };
        let first = ledger.hold(named("0.60")).await.unwrap();
        let (one, other) = tokio::join!(ledger.hold(named("0.60")), ledger.hold(named("0.60")));
        for again in [one.unwrap(), other.unwrap()] {
            assert_eq!((&again.id, again.is_repeat), (&first.id, true), "{}", db.name());
        }
        assert!(matches!(ledger.hold(named("0.30")).await, Err(HoldError::Conflict)));
        let elsewhere = HoldRequest {
            payer: payer("zeta", "k1"),
            ..named("0.60")
        };
        assert!(
            !ledger.hold(elsewhere).await.unwrap().is_repeat,
            "keys are a tenant's own"
        );

        ledger.settle(&first.id, came_to("0.60")).await.unwrap();
        assert!(matches!(ledger.hold(named("0.60")).await, Err(HoldError::Conflict)));
        let key = "bill-7";
        assert_eq!(
            ledger.refund(&first.id, usd("0.20"), key).await.unwrap().amount,
            usd("-0.20")
        );
        let again = ledger.refund(&first.id, usd("0.20"), key).await.unwrap();
        assert!(again.is_repeat);
        assert_eq!(again.amount, usd("-0.20"));
        assert_eq!(stands(&timed).await.1, usd("0.40"));
        let most = ledger.refund(&first.id, usd("5"), "bill-8").await.unwrap();
        assert_eq!(most.amount, usd("-0.40"), "no more than was posted");
        is_balanced(&db).await;
        timed.close().await;
    }
}

#[tokio::test]
async fn what_goes_on_is_posted_by_the_time_since_its_start_and_draws_on_its_hold() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let ledger = timed.ledger();
        ledger.configure(vec![hard(1440, "24")]);
        let rate = UsdRate::per_hour(usd("0.40"));
        let renting = |hourly: &str| HoldRequest {
            ask: Ask {
                amount: usd("0.40"),
                rate: UsdRate::per_hour(usd(hourly)),
            },
            needs_limit: true,
            ..once("0")
        };
        let hold = ledger.hold(renting("0.40")).await.unwrap();
        let dear = ledger.hold(renting("0.61")).await.unwrap_err();
        assert_eq!(Failure::from(dear).details.unwrap()["reason"], "rate");

        let mut posted = Usd::ZERO;
        for minute in 1..=59 {
            timed.advance(Duration::from_mins(1));
            let total = rate.cost_of(Duration::from_mins(minute));
            posted = posted.saturating_add(ledger.accrue(&hold.id, total).await.unwrap());
        }
        assert_eq!(posted, rate.cost_of(Duration::from_mins(59)), "{}", db.name());
        assert_eq!(
            ledger.accrue(&hold.id, usd("0.1")).await.unwrap(),
            Usd::ZERO,
            "never back"
        );
        let (aside, spent) = stands(&timed).await;
        assert_eq!(
            aside.saturating_add(spent),
            usd("0.40"),
            "what is posted is no longer set aside"
        );

        let ask = Ask {
            amount: usd("0.40"),
            rate,
        };
        let renewed = ledger.renew(&hold.id, ask, at(4_000_000_000_000)).await.unwrap();
        assert_eq!(renewed.amount, usd("0.40"));
        let total = rate.cost_of(Duration::from_hours(1));
        ledger.settle(&hold.id, came_to(&total.to_string())).await.unwrap();
        assert_eq!(stands(&timed).await, (Usd::ZERO, usd("0.40")));
        assert!(matches!(
            ledger.renew(&hold.id, ask, at(4_000_000_000_000)).await,
            Err(HoldError::Conflict)
        ));
        assert_eq!(
            timed.ledger().standings(&payer("acme", "k1")).await.unwrap()[0].burn,
            UsdRate::ZERO
        );
        is_balanced(&db).await;
        timed.close().await;
    }
}

#[tokio::test]
async fn what_nobody_settles_is_posted_in_full_and_can_still_be_corrected() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let ledger = timed.ledger();
        ledger.configure(vec![hard(60, "1")]);
        let mut news = ledger.news();
        let due = HoldRequest {
            lapses_at: timed.clock.now() + Duration::from_mins(5),
            ..once("0.50")
        };
        let lapses = ledger.hold(due.clone()).await.unwrap();
        let runs = HoldRequest {
            ask: Ask {
                amount: usd("0.01"),
                rate: UsdRate::per_hour(usd("0.01")),
            },
            ..due.clone()
        };
        let runs = ledger.hold(runs).await.unwrap();
        assert_eq!(ledger.lapse().await.unwrap(), 0);
        timed.advance(Duration::from_mins(5));
        ledger.lapse().await.unwrap();
        assert_eq!(stands(&timed).await, (usd("0.01"), usd("0.50")), "{}", db.name());
        let LedgerNews::Lapsed(lapse) = news.recv().await.unwrap() else {
            unreachable!("nothing else has happened")
        };
        assert_eq!((lapse.hold, lapse.posted), (lapses.id.clone(), usd("0.50")));
        let flagged = "SELECT COUNT(*) FROM ledger_txn WHERE lapsed AND estimated AND posted = 500000";
        assert_eq!(db.number(flagged).await, 1);

        timed.advance(Duration::from_mins(30));
        let late = ledger.settle(&lapses.id, came_to("0.20")).await.unwrap();
        assert!(!late.is_repeat);
        assert_eq!(stands(&timed).await.1, usd("0.20"));
        timed.advance(Duration::from_mins(31));
        assert_eq!(
            stands(&timed).await.1,
            Usd::ZERO,
            "the correction leaves with what it corrects"
        );
        ledger.void(&runs.id).await.unwrap();
        is_balanced(&db).await;
        timed.close().await;
    }
}

#[tokio::test]
async fn what_needs_a_limit_is_refused_without_one_and_soft_limits_only_warn() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let ledger = timed.ledger();
        let needy = HoldRequest {
            needs_limit: true,
            ..once("0.50")
        };
        let failure = Failure::from(ledger.hold(needy.clone()).await.unwrap_err());
        assert_eq!(failure.code, Code::NoSpendingLimit, "{}", db.name());
        assert!(!ledger.limits(&payer("acme", "k1")));

        ledger.configure(vec![budget(Scope::Key, 60, "0.40", Enforcement::Soft)]);
        assert!(ledger.limits(&payer("acme", "k1")));
        assert!(
            matches!(ledger.hold(needy.clone()).await, Err(HoldError::NoLimit)),
            "a soft one stops nothing"
        );
        ledger.configure(vec![budget(Scope::Session, 60, "0.60", Enforcement::Hard)]);
        let mut visiting = needy;
        visiting.payer.session = Some("s1".parse().unwrap());
        assert!(
            matches!(ledger.hold(visiting.clone()).await, Err(HoldError::NoLimit)),
            "the next call may have another session"
        );
        visiting.needs_limit = false;
        let visit = ledger.hold(visiting.clone()).await.unwrap();
        assert!(
            matches!(ledger.hold(visiting).await, Err(HoldError::Refused(_))),
            "what it bounds, it bounds"
        );
        ledger.void(&visit.id).await.unwrap();
        ledger.configure(vec![budget(Scope::Key, 60, "0.40", Enforcement::Soft)]);
        let mut news = ledger.news();
        let warned = ledger.hold(once("0.50")).await.unwrap();
        assert_eq!(warned.warnings.len(), 1);
        assert!(matches!(news.recv().await.unwrap(), LedgerNews::SoftLimit(_)));
        ledger.configure(vec![hard(60, "0.40")]);
        let judged = ledger.judge(&payer("acme", "k1"), once("0.1").ask).await.unwrap();
        assert!(judged.is_err(), "advice says what a hold would");
        ledger.hold(once("0.1")).await.unwrap_err();
        assert!(matches!(news.recv().await.unwrap(), LedgerNews::Refused(_)));
        timed.close().await;
    }
}

#[tokio::test]
async fn the_ledger_is_only_added_to() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        spend(&timed.ledger(), "0.50").await;
        for table in ["ledger_txn", "ledger_entry"] {
            let change = if table == "ledger_txn" {
                "posted = 0"
            } else {
                "amount = 0"
            };
            for sql in [format!("DELETE FROM {table}"), format!("UPDATE {table} SET {change}")] {
                let sql = sqlx::AssertSqlSafe(sql);
                let refused = if db.is_postgres() {
                    let mut connection = PgConnection::connect(db.url()).await.unwrap();
                    sqlx::query(sql).execute(&mut connection).await.err()
                } else {
                    let mut connection = SqliteConnection::connect(db.url()).await.unwrap();
                    sqlx::query(sql).execute(&mut connection).await.err()
                };
                let refused = refused.unwrap().to_string();
                assert!(refused.contains("only added to"), "{}: {refused}", db.name());
            }
        }
        is_balanced(&db).await;
        timed.close().await;
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_disturbs_nobody() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let ledger = timed.ledger();
        let mut nameless = once("0.1");
        nameless.purpose.name = "a\0b".to_owned();
        let mut negative = once("0.1");
        negative.ask.amount = usd("-1");
        let bad = ledger.hold(once("0.2")).await.unwrap();
        db.execute(&format!(
            "UPDATE ledger_hold SET state = 'gone' WHERE id = '{}'",
            bad.id
        ))
        .await;
        let good = ledger.hold(once("0.3")).await.unwrap();
        let (one, two, unreadable, settled, unknown) = tokio::join!(
            ledger.hold(nameless),
            ledger.hold(negative),
            ledger.settle(&bad.id, came_to("0.1")),
            ledger.settle(&good.id, came_to("0.3")),
            async { ledger.void(&"no-such-hold".parse().unwrap()).await },
        );
        assert_eq!(Failure::from(one.unwrap_err()).code, Code::InvalidRequest);
        assert!(matches!(two, Err(HoldError::Invalid(_))));
        assert!(unreadable.is_err() && unknown.is_err());
        assert!(!settled.unwrap().is_repeat, "{}", db.name());
        timed.close().await;
    }
}
