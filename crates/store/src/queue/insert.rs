//! Writes what is submitted, each name once.

use forebay_domain::{
    id::{KeyId, ProjectId, TaskId, WorkerId},
    task::Needs,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, LazyLock},
};

use super::{
    SubmitError, Submitted,
    again::{self, Earlier},
    lanes,
    new::{NewRow, millis},
    unfinished::{self, Tally},
    writer::Became,
};
use crate::{
    StoreError,
    many::Insert,
    sql::{Tx, on_both},
};

/// Larger inputs stand apart from the row.
const INLINE_BYTES_MAX: usize = 2 << 10;
/// How often a name is tried whose task is forgotten between one statement and the next.
const ROUNDS_MAX: u32 = 3;

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
    let tail = " ON CONFLICT (tenant, idempotency_key, subject, COALESCE(project, ''), (key_id IS NULL)) \
         WHERE idempotency_key IS NOT NULL DO NOTHING RETURNING id";
    Insert::new("task", &COLUMNS, tail)
});
static INPUTS: LazyLock<Insert> = LazyLock::new(|| Insert::new("task_input", &["task", "input"], ""));

/// Where a submission stands.
enum Entered {
    New,
    /// There is a task of its name.
    Earlier(Earlier),
    Full,
    /// The task of its name was forgotten again and again while it was looked at.
    Lost,
}

/// Writes all of it and says what became of each, in order.
pub(super) async fn submit(
    tx: &mut Tx,
    now_ms: i64,
    rows: &[&Arc<NewRow>],
    tally: &mut Tally,
) -> Result<Vec<Became>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<&NewRow> = rows.iter().map(|row| &***row).collect();
    let lanes: BTreeSet<String> = rows.iter().filter_map(|row| row.task.lane.clone()).collect();
    // Before any row, as `lanes` says.
    lanes::lock(tx, &lanes).await?;
    let full = without_room(tx, &rows).await?;
    let entered = enter(tx, now_ms, &rows, &full).await?;
    let written: Vec<&NewRow> = rows
        .iter()
        .copied()
        .filter(|row| matches!(entered.get(&row.id), Some(Entered::New)))
        .collect();
    write_inputs(tx, &written).await?;
    for row in &written {
        tally.add(row.task.owner.tenant.as_str(), 1);
    }
    let earlier: Vec<(&NewRow, &Earlier)> = rows
        .iter()
        .filter_map(|row| match entered.get(&row.id) {
            Some(Entered::Earlier(earlier)) => Some((*row, earlier)),
            _ => None,
        })
        .collect();
    let mut repeated = again::repeat(tx, now_ms, &earlier, tally).await?;
    lanes::promote(tx, &lanes).await?;
    Ok(rows
        .into_iter()
        .map(|row| Became::Submitted(became(row, entered.get(&row.id), &mut repeated, now_ms)))
        .collect())
}

fn became(
    row: &NewRow,
    entered: Option<&Entered>,
    repeated: &mut HashMap<TaskId, Result<Submitted, SubmitError>>,
    now_ms: i64,
) -> Result<Submitted, SubmitError> {
    match entered {
        Some(Entered::New) => Ok(Submitted {
            id: row.id.clone(),
            state: row.record(now_ms).state(),
            is_repeat: false,
        }),
        Some(Entered::Earlier(_)) => repeated.remove(&row.id).unwrap_or_else(|| Err(lost())),
        Some(Entered::Full) => Err(SubmitError::Full {
            queued_max: row.queued_max,
        }),
        Some(Entered::Lost) | None => Err(lost()),
    }
}

fn lost() -> SubmitError {
    StoreError::unavailable("the task of that name has just been forgotten").into()
}

/// Those whose tenants have as many tasks already as they may have.
async fn without_room(tx: &mut Tx, rows: &[&NewRow]) -> Result<HashSet<TaskId>, StoreError> {
    let tenants = rows.iter().map(|row| row.task.owner.tenant.as_str()).collect();
    let mut numbers = unfinished::of(tx, &tenants).await?;
    let mut full = HashSet::new();
    for row in rows {
        let number = numbers.entry(row.task.owner.tenant.as_str().to_owned()).or_default();
        if *number >= i64::from(row.queued_max) {
            full.insert(row.id.clone());
        } else {
            *number += 1;
        }
    }
    Ok(full)
}

/// Writes what is new, each name once, and finds what there is under the other names.
async fn enter(
    tx: &mut Tx,
    now_ms: i64,
    rows: &[&NewRow],
    full: &HashSet<TaskId>,
) -> Result<HashMap<TaskId, Entered>, StoreError> {
    let mut entered = HashMap::new();
    let (mut named, plain): (Vec<&NewRow>, Vec<&NewRow>) = rows.iter().copied().partition(|row| row.hash.is_some());
    let (refused, plain): (Vec<&NewRow>, Vec<&NewRow>) = plain.into_iter().partition(|row| full.contains(&row.id));
    insert(tx, &PLAIN, now_ms, &plain).await?;
    entered.extend(plain.iter().map(|row| (row.id.clone(), Entered::New)));
    entered.extend(refused.iter().map(|row| (row.id.clone(), Entered::Full)));
    // In one order, so that two that write the same names do not wait for one another.
    named.sort_by_key(|row| (row.task.owner.tenant.clone(), row.task.idempotency_key.clone()));
    for _ in 0..ROUNDS_MAX {
        let fitting: Vec<&NewRow> = named.iter().copied().filter(|row| !full.contains(&row.id)).collect();
        let new = insert(tx, &NAMED, now_ms, &fitting).await?;
        let mut lost = Vec::new();
        for row in named {
            let found = if new.contains(row.id.as_str()) {
                Entered::New
            } else if let Some(earlier) = again::find(tx, row).await? {
                Entered::Earlier(earlier)
            } else if full.contains(&row.id) {
                Entered::Full
            } else {
                lost.push(row);
                continue;
            };
            entered.insert(row.id.clone(), found);
        }
        named = lost;
        if named.is_empty() {
            break;
        }
    }
    entered.extend(named.iter().map(|row| (row.id.clone(), Entered::Lost)));
    Ok(entered)
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
                    .bind(inline(row));
            }
            query.fetch_all(&mut **tx).await
        })?;
        written.extend(ids);
    }
    Ok(written)
}

/// The input, where it stands in the row.
pub(super) fn inline(row: &NewRow) -> Option<&str> {
    Some(row.input.as_str()).filter(|input| input.len() <= INLINE_BYTES_MAX)
}

/// As JSON, so that both databases can look into it.
pub(super) fn words(needs: &Needs) -> Option<String> {
    let words = serde_json::to_string(&needs.words).expect("words are JSON");
    (!needs.words.is_empty()).then_some(words)
}

async fn write_inputs(tx: &mut Tx, rows: &[&NewRow]) -> Result<(), StoreError> {
    let large: Vec<&NewRow> = rows.iter().copied().filter(|row| inline(row).is_none()).collect();
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
