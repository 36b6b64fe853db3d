//! Writes what is submitted, each name once.

use forebay_domain::{
    id::{KeyId, ProjectId, TaskId, WorkerId},
    task::{Needs, Stage},
};
use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, LazyLock},
};

use super::{
    Submitted, lanes,
    new::{NewRow, millis},
    rows::stage,
    writer::Became,
};
use crate::{
    StoreError,
    many::Insert,
    row::known,
    sql::{Tx, on_both},
};

/// Larger inputs stand apart from the row.
const INLINE_BYTES_MAX: usize = 2 << 10;

const COLUMNS: [&str; 31] = [
    "id",
    "stage",
    "task_type",
    "priority",
    "rank",
    "run_at_ms",
    "wake_at_ms",
    "fence",
    "attempts",
    "cancel_wanted",
    "attempts_max",
    "retry_first_ms",
    "retry_max_ms",
    "timeout_ms",
    "result_ttl_ms",
    "lane",
    "wanted_by",
    "wanted_until_ms",
    "needs",
    "needs_memory",
    "tenant",
    "project",
    "subject",
    "key_id",
    "principal",
    "trace",
    "created_at_ms",
    "idempotency_key",
    "request_hash",
    "context_id",
    "input",
];
static PLAIN: LazyLock<Insert> = LazyLock::new(|| Insert::new("task", &COLUMNS, ""));
static NAMED: LazyLock<Insert> = LazyLock::new(|| {
    let tail = " ON CONFLICT (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING RETURNING id";
    Insert::new("task", &COLUMNS, tail)
});
static INPUTS: LazyLock<Insert> = LazyLock::new(|| Insert::new("task_input", &["task", "input"], ""));
const EARLIER: &str = "SELECT id, stage, request_hash FROM task WHERE tenant = $1 AND idempotency_key = $2";

/// Writes all of it and says what became of each, in order.
pub(super) async fn submit(tx: &mut Tx, now_ms: i64, rows: &[&Arc<NewRow>]) -> Result<Vec<Became>, StoreError> {
    let (named, plain): (Vec<&NewRow>, Vec<&NewRow>) =
        rows.iter().map(|row| &***row).partition(|row| row.hash.is_some());
    let mut written: HashSet<&str> = plain.iter().map(|row| row.id.as_str()).collect();
    insert(tx, &PLAIN, now_ms, &plain).await?;
    let new = insert(tx, &NAMED, now_ms, &named).await?;
    written.extend(named.iter().map(|row| row.id.as_str()).filter(|id| new.contains(*id)));

    let written: Vec<&NewRow> = rows
        .iter()
        .map(|row| &***row)
        .filter(|row| written.contains(row.id.as_str()))
        .collect();
    write_inputs(tx, &written).await?;
    let lanes: BTreeSet<String> = written.iter().filter_map(|row| row.task.lane.clone()).collect();
    lanes::promote(tx, &lanes).await?;

    let fresh: HashSet<&TaskId> = written.iter().map(|row| &row.id).collect();
    let mut became = Vec::with_capacity(rows.len());
    for row in rows {
        became.push(if fresh.contains(&row.id) {
            let state = row.record(now_ms).state();
            Became::Submitted(Submitted {
                id: row.id.clone(),
                state,
                is_repeat: false,
            })
        } else {
            repeated(tx, row).await?
        });
    }
    Ok(became)
}

/// Gives the identifiers that the statement returns.
async fn insert(
    tx: &mut Tx,
    statement: &'static Insert,
    now_ms: i64,
    rows: &[&NewRow],
) -> Result<HashSet<String>, StoreError> {
    let mut written = HashSet::new();
    for (sql, part) in statement.of(tx, rows) {
        let ids: Vec<String> = on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query_scalar(sql);
            for row in part {
                let (record, task) = (row.record(now_ms), &row.task);
                let wanted = task.wanted_by.as_ref();
                query = query
                    .bind(row.id.as_str())
                    .bind(record.stage.as_str())
                    .bind(task.task_type.as_str())
                    .bind(i64::from(record.priority as u8))
                    .bind(record.rank)
                    .bind(record.run_at_ms)
                    .bind(record.wake_at_ms)
                    .bind(record.fence)
                    .bind(i64::from(record.attempts))
                    .bind(record.cancel_wanted)
                    .bind(i64::from(task.retry.attempts_max))
                    .bind(millis(task.retry.first))
                    .bind(millis(task.retry.max))
                    .bind(millis(task.timeout))
                    .bind(record.result_ttl_ms)
                    .bind(task.lane.as_deref())
                    .bind(wanted.map(|(worker, _)| WorkerId::as_str(worker)))
                    .bind(wanted.map(|(_, until)| until.as_millisecond()))
                    .bind(words(&task.needs))
                    .bind(i64::from(task.needs.memory_mib))
                    .bind(task.owner.tenant.as_str())
                    .bind(task.owner.project.as_ref().map(ProjectId::as_str))
                    .bind(task.owner.subject.as_str())
                    .bind(task.owner.key.as_ref().map(KeyId::as_str))
                    .bind(task.owner.snapshot.as_str())
                    .bind(task.trace.to_string())
                    .bind(now_ms)
                    .bind(task.idempotency_key.as_deref())
                    .bind(row.hash.as_ref().map(<[u8; 32]>::as_slice))
                    .bind(task.context_id.as_deref())
                    .bind((row.input.len() <= INLINE_BYTES_MAX).then_some(row.input.as_str()));
            }
            query.fetch_all(&mut **tx).await
        })?;
        written.extend(ids);
    }
    Ok(written)
}

/// As JSON, so that both databases can look into it.
pub(super) fn words(needs: &Needs) -> Option<String> {
    let words = serde_json::to_string(&needs.words).expect("words are JSON");
    (!needs.words.is_empty()).then_some(words)
}

async fn write_inputs(tx: &mut Tx, rows: &[&NewRow]) -> Result<(), StoreError> {
    let large: Vec<&NewRow> = rows
        .iter()
        .copied()
        .filter(|row| row.input.len() > INLINE_BYTES_MAX)
        .collect();
    for (sql, part) in INPUTS.of(tx, &large) {
        on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query(sql);
            for row in part {
                query = query.bind(row.id.as_str()).bind(row.input.as_str());
            }
            query.execute(&mut **tx).await.map(drop)
        })?;
    }
    Ok(())
}

/// What there is under its name.
async fn repeated(tx: &mut Tx, row: &NewRow) -> Result<Became, StoreError> {
    let key = row.task.idempotency_key.as_deref();
    let earlier: Option<(String, String, Vec<u8>)> = on_both!(tx, |tx| sqlx::query_as(EARLIER)
        .bind(row.task.owner.tenant.as_str())
        .bind(key)
        .fetch_optional(&mut **tx)
        .await)?;
    let (id, at, hash) =
        earlier.ok_or_else(|| StoreError::unavailable("the task of that name has just been forgotten"))?;
    if row.hash.is_none_or(|own| own.as_slice() != hash) {
        return Ok(Became::Reused);
    }
    let stage: Stage = stage(&at)?;
    Ok(Became::Submitted(Submitted {
        id: known("task", TaskId::try_from(id))?,
        state: stage.state(),
        is_repeat: true,
    }))
}
