//! The ledger: what is admitted, what is posted, and that nothing is lost or doubled.

mod budgets;
mod crash;
mod holds;
mod later;
mod property;
mod prune;
mod together;
mod transactions;
mod trips;
mod windows;

use crate::{Opened, at, trace};
use forebay_domain::{
    ledger::{Ask, BudgetRule, Enforcement, Payer, Purpose, PurposeKind, Scope, Window},
    money::{Usd, UsdRate},
};
use forebay_runtime::{Clock, Entropy, Tasks};
use forebay_store::{
    Ledger, Store, StoreParts,
    ledger::{HoldRequest, Settlement},
};
use forebay_testkit::db::TestDb;
use std::time::Duration;

const START_MS: i64 = 1_800_000_000_000;

/// A store whose clock is moved by hand.
struct Timed {
    opened: Opened,
    clock: Clock,
}

impl Timed {
    async fn open(db: &TestDb) -> Self {
        Self::open_at(db, Clock::manual(at(START_MS))).await
    }

    async fn open_at(db: &TestDb, clock: Clock) -> Self {
        let tasks = Tasks::new();
        let parts = StoreParts {
            clock: clock.clone(),
            entropy: Entropy::system(),
            tasks: tasks.clone(),
        };
        let store = Store::open(db.url(), parts).await.unwrap();
        Self {
            opened: Opened { store, tasks },
            clock,
        }
    }

    fn ledger(&self) -> Ledger {
        self.opened.store.ledger()
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn close(self) {
        self.opened.close().await;
    }
}

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn payer(tenant: &str, key: &str) -> Payer {
    Payer {
        tenant: tenant.parse().unwrap(),
        project: None,
        key: Some(key.parse().unwrap()),
        session: None,
        subject: Some("ann".parse().unwrap()),
    }
}

fn budget(scope: Scope, minutes: u32, limit: &str, enforcement: Enforcement) -> BudgetRule {
    BudgetRule {
        scope,
        of: None,
        window: Window::new(minutes, usd(limit), enforcement).unwrap(),
    }
}

fn hard(minutes: u32, limit: &str) -> BudgetRule {
    budget(Scope::Tenant, minutes, limit, Enforcement::Hard)
}

/// Something with one price, for key k1 of acme.
fn once(amount: &str) -> HoldRequest {
    HoldRequest {
        payer: payer("acme", "k1"),
        purpose: Purpose {
            kind: PurposeKind::Model,
            name: "qwen".to_owned(),
        },
        ask: Ask {
            amount: usd(amount),
            rate: UsdRate::ZERO,
        },
        trace: trace(1),
        idempotency_key: None,
        lapses_at: at(4_000_000_000_000),
        needs_limit: false,
    }
}

fn came_to(amount: &str) -> Settlement {
    Settlement {
        actual: usd(amount),
        estimated: false,
    }
}

/// Holds and settles at once.
async fn spend(ledger: &Ledger, amount: &str) {
    let hold = ledger.hold(once(amount)).await.unwrap();
    ledger.settle(&hold.id, came_to(amount)).await.unwrap();
}

/// The entries of each transaction sum to zero, and purses, holds and entries say the same.
async fn is_balanced(db: &TestDb) {
    let odd = "SELECT COUNT(*) FROM (SELECT txn FROM ledger_entry GROUP BY txn HAVING SUM(amount) <> 0) AS odd";
    assert_eq!(db.number(odd).await, 0, "{}: a transaction out of balance", db.name());
    let orphans = "SELECT COUNT(*) FROM ledger_entry WHERE txn NOT IN (SELECT id FROM ledger_txn)";
    assert_eq!(db.number(orphans).await, 0, "{}: entries of nothing", db.name());
    let sum = async |column: &str, rows: &str| {
        let sql = format!("SELECT CAST(COALESCE(SUM({column}), 0) AS BIGINT) FROM {rows}");
        db.number(&sql).await
    };
    let held = sum("held", "purse WHERE name LIKE '% 0 %'").await;
    assert_eq!(
        held,
        sum("amount", "ledger_hold WHERE state = 'open'").await,
        "{}",
        db.name()
    );
    assert_eq!(
        held,
        sum("amount", "ledger_entry WHERE account = 'hold'").await,
        "{}",
        db.name()
    );
    let posted = sum("posted", "purse WHERE name LIKE '% 0 %'").await;
    let given_back = sum("amount", "purse_refund WHERE purse LIKE '% 0 %'").await;
    let entries = sum("amount", "ledger_entry WHERE account IN ('spend', 'adjustment')").await;
    assert_eq!(posted - given_back, entries, "{}", db.name());
}
