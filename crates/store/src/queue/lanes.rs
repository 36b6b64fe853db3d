//! Lanes: of the tasks in one lane, one at a time may be claimed.
//!
//! Those behind it wait in a stage of their own, so that whoever claims never looks at them. When the one in front is
//! done, the oldest of those that wait takes its turn.

use forebay_domain::id::TaskId;
use sqlx::AssertSqlSafe;
use std::collections::BTreeSet;

use crate::{
    StoreError,
    many::{lists, placeholders},
    row::known,
    sql::{Both, Tx, on_both},
};

/// Two gateways that change a lane at once would not see what the other is about to commit.
const LOCK: &str = "SELECT pg_advisory_xact_lock(k) FROM \
    (SELECT DISTINCT hashtextextended('task ' || l, 0) AS k FROM UNNEST($1::text[]) AS l ORDER BY k) AS locks";

/// Lets the oldest of each lane take its turn, unless another has it. Gives those that did.
pub(super) async fn promote(tx: &mut Tx, lanes: &BTreeSet<String>) -> Result<Vec<TaskId>, StoreError> {
    if lanes.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = lanes.iter().cloned().collect();
    if let Both::Postgres(tx) = &mut *tx {
        sqlx::query(LOCK).bind(&names).execute(&mut **tx).await?;
    }
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
