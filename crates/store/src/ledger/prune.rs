//! Forgets what no window can look at any more: sums of long ago, and purses that nobody has used since.
//!
//! The ledger itself, its movements and entries, is never pruned. Of a purse's sums the newest that is old enough stays, since
//! a window that begins after it is the difference to it.

use forebay_domain::{Failure, ledger::MINUTES_MAX};
use forebay_runtime::looping::Loop;
use std::time::Duration;

use super::Ledger;
use crate::{
    StoreError,
    sql::{Tx, on_both},
};

/// How often a page of purses is looked at.
pub(super) const PRUNE_EVERY: Duration = Duration::from_mins(1);
/// The longest window, and a month by which clocks may differ.
const KEPT_MS: i64 = (MINUTES_MAX as i64 + 33 * 24 * 60) * 60_000;
const PAGE: i64 = 1_000;
/// Sums that are forgotten in one transaction.
const ROWS_MAX: u64 = 2_000;

const LOOK: &str = "SELECT p.name, p.held, p.burn, p.last_at_ms, \
     (SELECT n.at_ms FROM purse_posted AS n WHERE n.purse = p.name ORDER BY n.at_ms LIMIT 1 OFFSET 1) \
     FROM purse AS p WHERE p.name > $1 ORDER BY p.name LIMIT $2";
const CUT: &str = "DELETE FROM purse_posted WHERE purse = $1 AND at_ms IN ( \
     SELECT o.at_ms FROM purse_posted AS o WHERE o.purse = $1 AND o.at_ms < ( \
     SELECT MAX(n.at_ms) FROM purse_posted AS n WHERE n.purse = $1 AND n.at_ms <= $2) ORDER BY o.at_ms LIMIT $3)";
/// Somebody may have used it since it was looked at.
const REMOVE: &str = "DELETE FROM purse WHERE name = $1 AND held = 0 AND burn = 0 AND last_at_ms <= $2";
const REMOVE_POSTED: &str = "DELETE FROM purse_posted WHERE purse = $1";
const REMOVE_REFUNDS: &str = "DELETE FROM purse_refund WHERE purse = $1";

/// A purse as far as pruning is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    name: String,
    is_idle: bool,
    last_at_ms: i64,
    /// The second oldest of its sums.
    second_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Sums before the newest that is old enough.
    Cut,
    /// All of it.
    Remove,
}

/// A tenant's own purse stays: its time must not go back, and what was given back of its holds stands there.
fn is_tenants(name: &str) -> bool {
    name.split(' ').nth(1) == Some("0")
}

/// What is to be done about a purse, in this order.
fn decide(seen: &Seen, horizon_ms: i64) -> Vec<Act> {
    let has_old = seen.second_ms.is_some_and(|second_ms| second_ms <= horizon_ms);
    let is_over = seen.is_idle && seen.last_at_ms <= horizon_ms && !is_tenants(&seen.name);
    let cut = has_old.then_some(Act::Cut);
    cut.into_iter().chain(is_over.then_some(Act::Remove)).collect()
}

/// What is old now, and was old a little more than a pass ago: a clock that is far ahead for a moment makes nothing old.
fn horizon(now_ms: i64, seen_ms: i64) -> i64 {
    let pass_ms = i64::try_from(PRUNE_EVERY.as_millis()).unwrap_or(i64::MAX);
    now_ms.min(seen_ms.saturating_add(2 * pass_ms)).saturating_sub(KEPT_MS)
}

/// Looks at one page of purses in each pass, around and around.
pub(super) struct Pruning {
    ledger: Ledger,
    after: String,
    /// The time at the last pass.
    seen_ms: Option<i64>,
}

impl Pruning {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            after: String::new(),
            seen_ms: None,
        }
    }
}

impl Loop for Pruning {
    type Seen = Option<(Vec<Seen>, i64)>;
    type Action = (String, Act, i64);

    fn name(&self) -> &'static str {
        "store.ledger.prune"
    }

    async fn observe(&mut self) -> Result<Self::Seen, Failure> {
        let now_ms = self.ledger.db.clock().now().as_millisecond();
        let Some(seen_ms) = self.seen_ms.replace(now_ms) else {
            return Ok(None);
        };
        let page = self.ledger.purses_after(&self.after).await?;
        self.after = page.last().map(|seen| seen.name.clone()).unwrap_or_default();
        Ok(Some((page, horizon(now_ms, seen_ms))))
    }

    fn decide(&self, seen: &Self::Seen) -> Vec<Self::Action> {
        let Some((page, horizon_ms)) = seen else {
            return Vec::new();
        };
        let acts = |seen: &Seen| {
            let name = seen.name.clone();
            decide(seen, *horizon_ms)
                .into_iter()
                .map(move |act| (name.clone(), act, *horizon_ms))
        };
        page.iter().flat_map(acts).collect()
    }

    async fn act(&mut self, (name, act, horizon_ms): Self::Action) -> Result<(), Failure> {
        self.ledger.forget(name, act, horizon_ms).await?;
        Ok(())
    }
}

impl Ledger {
    /// Forgets all that no window can look at any more, and says how many sums and purses that were. It is done by itself,
    /// a little every minute.
    pub async fn prune(&self) -> Result<u64, StoreError> {
        let horizon_ms = self.db.clock().now().as_millisecond().saturating_sub(KEPT_MS);
        let (mut after, mut forgotten) = (String::new(), 0);
        loop {
            let page = self.purses_after(&after).await?;
            let Some(last) = page.last() else { return Ok(forgotten) };
            after.clone_from(&last.name);
            for seen in page {
                for act in decide(&seen, horizon_ms) {
                    let count = self.forget(seen.name.clone(), act, horizon_ms).await?;
                    // One that was only made to be locked has nothing that could be forgotten.
                    forgotten += if seen.last_at_ms > 0 { count } else { 0 };
                }
            }
        }
    }

    async fn purses_after(&self, name: &str) -> Result<Vec<Seen>, StoreError> {
        let db = &self.db;
        let rows: Vec<(String, i64, i64, i64, Option<i64>)> = db
            .read(async {
                on_both!(db.pools(), |pool| sqlx::query_as(LOOK)
                    .bind(name)
                    .bind(PAGE)
                    .fetch_all(pool)
                    .await)
            })
            .await?;
        let seen = |(name, held, burn, last_at_ms, second_ms)| Seen {
            name,
            is_idle: (held, burn) == (0, 0),
            last_at_ms,
            second_ms,
        };
        Ok(rows.into_iter().map(seen).collect())
    }

    async fn forget(&self, name: String, act: Act, horizon_ms: i64) -> Result<u64, StoreError> {
        let what = (name, horizon_ms);
        match act {
            Act::Remove => {
                let removed = self.db.write(what, |tx, what| Box::pin(remove(tx, &what.0, what.1)));
                Ok(u64::from(removed.await?))
            }
            Act::Cut => {
                let mut forgotten = 0;
                loop {
                    let cut = self
                        .db
                        .write(what.clone(), |tx, what| Box::pin(cut(tx, &what.0, what.1)));
                    let rows = cut.await?;
                    forgotten += rows;
                    if rows < ROWS_MAX {
                        return Ok(forgotten);
                    }
                }
            }
        }
    }
}

async fn cut(tx: &mut Tx, name: &str, horizon_ms: i64) -> Result<u64, StoreError> {
    let rows = on_both!(tx, |tx| sqlx::query(CUT)
        .bind(name)
        .bind(horizon_ms)
        .bind(i64::try_from(ROWS_MAX).unwrap_or(i64::MAX))
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows)
}

async fn remove(tx: &mut Tx, name: &str, horizon_ms: i64) -> Result<bool, StoreError> {
    let is_gone = on_both!(&mut *tx, |tx| sqlx::query(REMOVE)
        .bind(name)
        .bind(horizon_ms)
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected() == 1))?;
    if is_gone {
        for sql in [REMOVE_POSTED, REMOVE_REFUNDS] {
            on_both!(&mut *tx, |tx| sqlx::query(sql)
                .bind(name)
                .execute(&mut **tx)
                .await
                .map(drop))?;
        }
    }
    Ok(is_gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_goes_and_what_anybody_may_look_at_stays() {
        let seen = |name: &str, last_at_ms, second_ms| Seen {
            name: name.to_owned(),
            is_idle: true,
            last_at_ms,
            second_ms,
        };
        assert_eq!(decide(&seen("acme 3 s1", 50, Some(40)), 50), [Act::Cut, Act::Remove]);
        assert_eq!(decide(&seen("acme 3 s1", 50, None), 50), [Act::Remove]);
        assert_eq!(decide(&seen("acme 3 s1", 51, Some(51)), 50), []);
        assert_eq!(decide(&seen("acme 3 s1", 51, Some(50)), 50), [Act::Cut]);
        assert_eq!(
            decide(&seen("acme 0 acme", 50, Some(40)), 50),
            [Act::Cut],
            "time does not go back"
        );
        let busy = Seen {
            is_idle: false,
            ..seen("acme 3 s1", 50, None)
        };
        assert_eq!(decide(&busy, 50), []);
    }

    #[test]
    fn a_clock_that_is_ahead_for_a_moment_makes_nothing_old() {
        let year_ms = 365 * 24 * 3_600_000;
        assert_eq!(horizon(1_000_000, 940_000), 1_000_000 - KEPT_MS);
        assert_eq!(horizon(1_000_000 + year_ms, 1_000_000), 1_120_000 - KEPT_MS);
        assert_eq!(horizon(1_000_000, 1_000_000 + year_ms), 1_000_000 - KEPT_MS);
    }
}
