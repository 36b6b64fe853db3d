//! How many tasks of each tenant have not ended, counted in the transaction that changes it.
//!
//! Each writer counts in a slot of its own, so that two that commit at once do not wait for one another; the number is the
//! sum of all. It is written last in a transaction: whoever waits for a slot holds up nobody who has it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::LazyLock,
};

use super::Queue;
use crate::{
    StoreError,
    many::{Insert, lists, placeholders},
    sql::{Both, Tx, on_both},
};
use sqlx::AssertSqlSafe;

/// Writers of one sort that count apart from one another. Those who share a slot wait for one another's commits.
pub(super) const SLOTS: u64 = 16;

static ADD: LazyLock<Insert> = LazyLock::new(|| {
    let tail = " ON CONFLICT (tenant, slot) DO UPDATE SET number = task_unfinished.number + excluded.number";
    Insert::new("task_unfinished", &["tenant", "slot", "number"], tail)
});
/// Whoever has written a slot ends first, and nobody writes one until the new numbers are committed: what is uncommitted
/// then is counted neither here nor there, and adds itself later.
const LOCK: &str = "LOCK TABLE task_unfinished IN SHARE ROW EXCLUSIVE MODE";
const CLEAR: &str = "DELETE FROM task_unfinished";
/// Read from the indexes of what has not ended, however much has.
const COUNT: &str = "INSERT INTO task_unfinished (tenant, slot, number) SELECT tenant, 0, COUNT(*) FROM \
    (SELECT tenant FROM task WHERE stage = 'pending' UNION ALL SELECT tenant FROM task WHERE stage = 'waiting' \
     UNION ALL SELECT tenant FROM task WHERE stage IN ('scheduled', 'running', 'retrying') AND wake_at_ms IS NOT NULL) \
    AS unfinished GROUP BY tenant";

/// By how much the numbers change.
#[derive(Default)]
pub(super) struct Tally(BTreeMap<String, i64>);

impl Tally {
    pub(super) fn add(&mut self, tenant: &str, by: i64) {
        *self.0.entry(tenant.to_owned()).or_default() += by;
    }

    pub(super) async fn write(self, tx: &mut Tx, slot: i64) -> Result<(), StoreError> {
        let changed: Vec<(String, i64)> = self.0.into_iter().filter(|(_, by)| *by != 0).collect();
        for (sql, part) in ADD.of(tx, &changed) {
            on_both!(&mut *tx, |tx| {
                let mut query = sqlx::query(sql);
                for (tenant, by) in part {
                    query = query.bind(tenant.as_str()).bind(slot).bind(*by);
                }
                query.execute(&mut **tx).await.map(drop)
            })?;
        }
        Ok(())
    }
}

/// The numbers of these tenants, as far as they are committed.
pub(super) async fn of(tx: &mut Tx, tenants: &BTreeSet<&str>) -> Result<HashMap<String, i64>, StoreError> {
    let tenants: Vec<&str> = tenants.iter().copied().collect();
    let mut numbers = HashMap::new();
    for list in lists(&tenants) {
        let all = placeholders(tx, 1, list.len());
        let sql = format!(
            "SELECT tenant, CAST(SUM(number) AS BIGINT) FROM task_unfinished WHERE tenant IN ({all}) GROUP BY tenant"
        );
        let rows: Vec<(String, i64)> = on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query_as(AssertSqlSafe(sql));
            for tenant in &list {
                query = query.bind(*tenant);
            }
            query.fetch_all(&mut **tx).await
        })?;
        numbers.extend(rows);
    }
    Ok(numbers)
}

impl Queue {
    /// Counts anew. Whoever changes rows by hand, or runs an older gateway beside newer ones, throws the numbers off: each
    /// store sets them right when it begins.
    pub async fn recount(&self) -> Result<(), StoreError> {
        self.db.write((), |tx, ()| Box::pin(recount(tx))).await
    }
}

async fn recount(tx: &mut Tx) -> Result<(), StoreError> {
    if let Both::Postgres(tx) = &mut *tx {
        sqlx::query(LOCK).execute(&mut **tx).await?;
    }
    for sql in [CLEAR, COUNT] {
        on_both!(&mut *tx, |tx| sqlx::query(sql).execute(&mut **tx).await.map(drop))?;
    }
    Ok(())
}
