//! Lanes: of the tasks in one lane, one at a time may be claimed.
//!
//! Those behind it wait in a stage of their own, so that whoever claims never looks at them. When the one in front is
//! done, the oldest of those that wait takes its turn.
//!
//! On PostgreSQL a lane is locked while that is decided: two gateways that change it at once would not see what the other is
//! about to commit. **Lanes are locked before rows**, all of a transaction's at once and in one order: whoever has a row
//! waits for nobody's lane, so that nobody waits in a circle.

use forebay_domain::id::TaskId;
use sqlx::AssertSqlSafe;
use std::collections::BTreeSet;

use crate::{
    StoreError,
    many::{lists, placeholders},
    row::known,
    sql::{Both, Tx, on_both},
};

const LOCK: &str = "SELECT pg_advisory_xact_lock(k) FROM \
    (SELECT DISTINCT hashtextextended('task ' || l, 0) AS k FROM UNNEST($1::text[]) AS l ORDER BY k) AS locks";
const LOCK_OF: &str = "SELECT pg_advisory_xact_lock(k) FROM \
    (SELECT DISTINCT hashtextextended('task ' || lane, 0) AS k FROM task WHERE id = ANY($1::text[]) AND lane IS NOT NULL \
     ORDER BY k) AS locks";
const TRY: &str =
    "SELECT l FROM UNNEST($1::text[]) AS l WHERE pg_try_advisory_xact_lock(hashtextextended('task ' || l, 0))";

/// Locks these lanes, once nobody else has them.
pub(super) async fn lock(tx: &mut Tx, lanes: &BTreeSet<String>) -> Result<(), StoreError> {
    if let Both::Postgres(tx) = &mut *tx
        && !lanes.is_empty()
    {
        let names: Vec<String> = lanes.iter().cloned().collect();
        sqlx::query(LOCK).bind(names).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Locks the lanes in which these tasks stand. A task never changes its lane.
pub(super) async fn lock_of(tx: &mut Tx, ids: &BTreeSet<&TaskId>) -> Result<(), StoreError> {
    if let Both::Postgres(tx) = &mut *tx
        && !ids.is_empty()
    {
        let ids: Vec<String> = ids.iter().map(|id| id.as_str().to_owned()).collect();
        sqlx::query(LOCK_OF).bind(ids).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Locks those of the lanes that nobody else has, and gives them. For whoever has rows already.
pub(super) async fn try_lock(tx: &mut Tx, lanes: BTreeSet<String>) -> Result<BTreeSet<String>, StoreError> {
    if lanes.is_empty() {
        return Ok(lanes);
    }
    match tx {
        Both::Sqlite(_) => Ok(lanes),
        Both::Postgres(tx) => {
            let names: Vec<String> = lanes.into_iter().collect();
            let locked: Vec<String> = sqlx::query_scalar(TRY).bind(names).fetch_all(&mut **tx).await?;
            Ok(locked.into_iter().collect())
        }
    }
}

/// Lets the oldest of each lane take its turn, unless another has it. Gives those that did. The lanes are locked by whoever
/// asks.
pub(super) async fn promote(tx: &mut Tx, lanes: &BTreeSet<String>) -> Result<Vec<TaskId>, StoreError> {
    let names: Vec<String> = lanes.iter().cloned().collect();
    let mut promoted = Vec::new();
    for list in lists(&names) {
        let sql = promotion(tx, list.len());
        let ids: Vec<String> = on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query_scalar(AssertSqlSafe(sql));
            for lane in &list {
                query = query.bind(lane);
            }
            query.fetch_all(&mut **tx).await
        })?;
        for id in ids {
            promoted.push(known("task", TaskId::try_from(id))?);
        }
    }
    Ok(promoted)
}

fn promotion(tx: &Tx, count: usize) -> String {
    let lanes = placeholders(tx, 1, count).replace(", ", "), (");
    format!(
        "WITH lanes (lane) AS (VALUES ({lanes})) UPDATE task SET stage = 'pending' WHERE id IN \
         (SELECT (SELECT next.id FROM task AS next WHERE next.lane = lanes.lane AND next.stage = 'waiting' \
          ORDER BY next.id LIMIT 1) FROM lanes WHERE NOT EXISTS (SELECT 1 FROM task AS head WHERE head.lane = lanes.lane \
          AND head.lane IS NOT NULL AND head.stage IN ('pending', 'running', 'retrying'))) RETURNING id"
    )
}
