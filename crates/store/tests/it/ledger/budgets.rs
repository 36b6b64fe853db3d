//! Limits that are set at run time.

use super::{Timed, came_to, once, payer, usd};
use crate::{open, until};
use forebay_domain::{
    Code, Failure,
    ledger::{BudgetRule, Enforcement, PurseName, Scope, Window},
};
use forebay_store::ledger::{BudgetKey, HoldError};
use forebay_testkit::db::TestDb;

fn of(scope: Scope, id: Option<&str>, minutes: u32) -> BudgetKey {
    BudgetKey {
        tenant: "acme".parse().unwrap(),
        scope,
        id: id.map(str::to_owned),
        minutes,
    }
}

fn window(minutes: u32, limit: &str) -> Window {
    Window::new(minutes, usd(limit), Enforcement::Hard).unwrap()
}

#[tokio::test]
async fn a_tenant_has_no_more_of_them_than_can_be_looked_at() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let ledger = timed.ledger();
        db.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) \
             INSERT INTO budget (tenant, scope, id, minutes, limit_usd, enforcement) \
             SELECT 'acme', 'key', 'k', i, 1000000, 'hard' FROM n",
        )
        .await;
        let set = async |tenant: &str, minutes, limit: &str| {
            let of = BudgetKey {
                tenant: tenant.parse().unwrap(),
                ..of(Scope::Key, Some("k"), minutes)
            };
            ledger.set_budget(of, window(minutes, limit)).await
        };
        let failure = Failure::from(set("acme", 1_001, "1").await.unwrap_err());
        assert_eq!(failure.code, Code::Conflict, "{}", db.name());
        assert!(failure.message.contains("1000"), "{}", failure.message);
        set("acme", 1_000, "2").await.unwrap();
        set("zeta", 1_001, "1").await.unwrap();
        assert!(ledger.limits(&payer("acme", "k")) && ledger.limits(&payer("zeta", "k")));
        assert!(!ledger.limits(&payer("zeta", "k1")) && !ledger.limits(&payer("other", "k")));
        timed.close().await;
    }
}

#[tokio::test]
async fn a_limit_counts_as_soon_as_it_is_set_and_until_it_is_removed() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let ledger = timed.ledger();
        let (ours, theirs) = (payer("acme", "k1"), payer("acme", "k2"));
        ledger
            .set_budget(of(Scope::Key, Some("k1"), 0), window(60, "0.50"))
            .await
            .unwrap();
        assert!(ledger.limits(&ours) && !ledger.limits(&theirs), "{}", db.name());
        let hold = ledger.hold(once("0.50")).await.unwrap();
        assert!(matches!(ledger.hold(once("0.01")).await, Err(HoldError::Refused(_))));
        ledger
            .set_budget(of(Scope::Key, Some("k1"), 0), window(60, "0.75"))
            .await
            .unwrap();
        ledger.settle(&hold.id, came_to("0.50")).await.unwrap();
        ledger.hold(once("0.25")).await.unwrap();

        ledger
            .set_budget(of(Scope::Key, None, 0), window(5, "9"))
            .await
            .unwrap();
        assert!(ledger.limits(&theirs), "each key of the tenant");
        ledger
            .set_budget(of(Scope::Tenant, Some("acme"), 0), window(5, "9"))
            .await
            .unwrap();
        let rules = ledger.budgets(Some(&ours.tenant)).await.unwrap();
        let named = |scope, id: Option<&str>, window| BudgetRule {
            scope,
            of: Some(PurseName {
                tenant: ours.tenant.clone(),
                id: id.map(str::to_owned),
            }),
            window,
        };
        let expected = [
            named(Scope::Key, None, window(5, "9")),
            named(Scope::Key, Some("k1"), window(60, "0.75")),
            named(Scope::Tenant, None, window(5, "9")),
        ];
        assert_eq!(rules, expected);
        assert!(
            ledger
                .budgets(Some(&payer("zeta", "k").tenant))
                .await
                .unwrap()
                .is_empty()
        );

        assert!(ledger.remove_budget(of(Scope::Key, Some("k1"), 60)).await.unwrap());
        assert!(!ledger.remove_budget(of(Scope::Key, Some("k1"), 60)).await.unwrap());
        ledger.hold(once("5")).await.unwrap();
        for (scope, id) in [(Scope::Tenant, "zeta"), (Scope::Key, "a b"), (Scope::Key, "a\nb")] {
            let refused = ledger
                .set_budget(of(scope, Some(id), 0), window(5, "1"))
                .await
                .unwrap_err();
            assert_eq!(Failure::from(refused).code, Code::InvalidRequest, "{id}");
        }
        timed.close().await;
    }
}

#[tokio::test]
async fn others_learn_of_it_and_a_hold_knows_at_once() {
    for db in TestDb::both().await {
        let (one, other) = (open(&db).await, open(&db).await);
        let (here, there) = (one.store.ledger(), other.store.ledger());
        here.set_budget(of(Scope::Tenant, None, 0), window(60, "0.50"))
            .await
            .unwrap();
        assert!(
            matches!(there.hold(once("0.51")).await, Err(HoldError::Refused(_))),
            "{}",
            db.name()
        );
        until("the other process knows", || async {
            there.limits(&payer("acme", "k1"))
        })
        .await;
        one.close().await;
        other.close().await;
        let again = open(&db).await;
        assert!(
            again.store.ledger().limits(&payer("acme", "k1")),
            "known before anybody asks"
        );
        again.close().await;
    }
}

#[tokio::test]
async fn they_come_page_by_page_and_each_once() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let ledger = timed.ledger();
        let mut set = Vec::new();
        for (scope, id) in [
            (Scope::Key, None),
            (Scope::Key, Some("k1")),
            (Scope::Project, Some("search")),
            (Scope::Tenant, None),
        ] {
            for minutes in [5, 60] {
                for tenant in ["acme", "zeta"] {
                    let key = BudgetKey {
                        tenant: tenant.parse().unwrap(),
                        ..of(scope, id, minutes)
                    };
                    ledger.set_budget(key.clone(), window(minutes, "1")).await.unwrap();
                    set.push(key);
                }
            }
        }
        let keys = |rules: Vec<BudgetRule>| {
            let key = |rule: BudgetRule| {
                let name = rule.of.unwrap();
                BudgetKey {
                    tenant: name.tenant,
                    scope: rule.scope,
                    id: name.id,
                    minutes: rule.window.minutes,
                }
            };
            rules.into_iter().map(key).collect::<Vec<_>>()
        };
        let acme = payer("acme", "k").tenant;
        for (tenant, count) in [(Some(&acme), 8), (None, 16)] {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = ledger.budget_page(tenant, after.as_ref(), 3).await.unwrap();
                assert!(page.budgets.len() <= 3);
                seen.extend(keys(page.budgets));
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            assert_eq!(seen.len(), count, "{}", db.name());
            assert!(seen.iter().all(|key| set.contains(key)), "{}: {seen:?}", db.name());
            assert_eq!(seen, keys(ledger.budgets(tenant).await.unwrap()), "{}", db.name());
        }
        timed.close().await;
    }
}

#[tokio::test]
async fn what_somebody_changes_beside_the_store_is_learnt_too_and_what_is_removed_is_forgotten() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let ledger = opened.store.ledger();
        let knows = |tenant: &'static str| {
            let ledger = ledger.clone();
            async move { ledger.limits(&payer(tenant, "k1")) }
        };
        assert!(!knows("acme").await && !knows("zeta").await, "{}", db.name());
        for tenant in ["acme", "zeta"] {
            db.execute(&format!(
                "INSERT INTO budget (tenant, scope, id, minutes, limit_usd, enforcement) \
                 VALUES ('{tenant}', 'tenant', '', 60, 1000000, 'hard')"
            ))
            .await;
        }
        until("both are learnt", || async {
            knows("acme").await && knows("zeta").await
        })
        .await;
        db.execute("DELETE FROM budget WHERE tenant = 'acme'").await;
        until("one is forgotten", || async { !knows("acme").await }).await;
        assert!(knows("zeta").await, "{}: the other stays", db.name());
        opened.close().await;
    }
}
