//! Hands out tasks: of each type the most urgent, as many as there is room for.
//!
//! One look into the index a type, and none at what waits behind something else: that is not pending.

use bytes::Bytes;
use forebay_domain::{
    id::{TaskId, TaskType, WorkerId},
    task::{LEASE_MAX_MS, Offer},
};
use sqlx::AssertSqlSafe;
use std::{collections::HashMap, time::Duration};

use super::{
    moves,
    new::millis,
    rows::{COLUMNS, Task, TaskRow},
};
use crate::{
    StoreError,
    many::{lists, placeholder, placeholders},
    sql::{Both, Tx, on_both},
};

/// Types of one claim.
const TYPES_MAX: usize = 64;
/// Tasks of one claim.
const CLAIM_MAX: u32 = 1_000;
/// Rounds of waking what is due before a claim.
const ROUNDS_MAX: u32 = 4;

/// What somebody could run now.
#[derive(Debug, Clone)]
pub struct Claim {
    pub worker: WorkerId,
    pub offer: Offer,
    /// Of each type so many more.
    pub room: Vec<(TaskType, u32)>,
    pub at_most: u32,
    /// How long they have until they have to be heard of.
    pub lease: Duration,
}

/// A task that is theirs until the lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    pub task: Task,
    /// What they prove with that it is still theirs.
    pub fence: i64,
    /// JSON.
    pub input: Bytes,
}

pub(super) async fn claim(tx: &mut Tx, now_ms: i64, claim: &Claim) -> Result<Vec<Claimed>, StoreError> {
    for _ in 0..ROUNDS_MAX {
        if moves::wake(tx, now_ms).await? == 0 {
            break;
        }
    }
    let room: Vec<&(TaskType, u32)> = claim
        .room
        .iter()
        .filter(|(_, room)| *room > 0)
        .take(TYPES_MAX)
        .collect();
    let at_most = claim.at_most.min(CLAIM_MAX);
    if room.is_empty() || at_most == 0 {
        return Ok(Vec::new());
    }
    let rows = take(tx, now_ms, claim, &room, at_most).await?;
    with_inputs(tx, rows).await
}

async fn take(
    tx: &mut Tx,
    now_ms: i64,
    claim: &Claim,
    room: &[&(TaskType, u32)],
    at_most: u32,
) -> Result<Vec<TaskRow>, StoreError> {
    let sql = statement(tx, room.len());
    let words = serde_json::to_string(&claim.offer.words).expect("words are JSON");
    let until_ms = now_ms.saturating_add(millis(claim.lease).clamp(1, LEASE_MAX_MS));
    Ok(on_both!(tx, |tx| {
        let mut query = sqlx::query_as(AssertSqlSafe(sql))
            .bind(claim.worker.as_str())
            .bind(until_ms)
            .bind(now_ms);
        for (task_type, room) in room {
            query = query
                .bind(task_type.as_str())
                .bind(claim.worker.as_str())
                .bind(now_ms)
                .bind(i64::from(claim.offer.memory_mib))
                .bind(words.as_str())
                .bind(i64::from(*room));
        }
        query.bind(i64::from(at_most)).fetch_all(&mut **tx).await
    })?)
}

/// With one branch a type, which reads only what it gives.
fn statement(tx: &Tx, types: usize) -> String {
    let branches: Vec<String> = (0..types).map(|number| branch(tx, 4 + 6 * number)).collect();
    let branches = branches.join(" UNION ALL ");
    let limit = placeholder(tx, 4 + 6 * types);
    let first = format!("SELECT id FROM ({branches}) AS first ORDER BY rank LIMIT {limit}");
    // Read once: a plan that reads it again would lock others, and more.
    let first = match tx {
        Both::Sqlite(_) => format!("IN ({first})"),
        Both::Postgres(_) => format!("= ANY (ARRAY({first}))"),
    };
    let [worker, until, now] = [1, 2, 3].map(|number| placeholder(tx, number));
    format!(
        "UPDATE task SET stage = 'running', worker = {worker}, wake_at_ms = {until}, fence = fence + 1, \
         attempts = attempts + 1, started_at_ms = COALESCE(started_at_ms, {now}) WHERE id {first} \
         RETURNING {COLUMNS}, input, output"
    )
}

fn branch(tx: &Tx, first: usize) -> String {
    let [of, worker, now, memory, words, room] = [0, 1, 2, 3, 4, 5].map(|number| placeholder(tx, first + number));
    let (lacks, lock) = match tx {
        Both::Sqlite(_) => (
            format!(
                "NOT EXISTS (SELECT 1 FROM json_each(needs) AS need WHERE need.value NOT IN \
                 (SELECT has.value FROM json_each({words}) AS has))"
            ),
            "",
        ),
        Both::Postgres(_) => (
            format!("needs::jsonb <@ {words}::text::jsonb"),
            "FOR UPDATE SKIP LOCKED",
        ),
    };
    format!(
        "SELECT id, rank FROM (SELECT id, rank FROM task WHERE stage = 'pending' AND task_type = {of} \
         AND (wanted_by IS NULL OR wanted_by = {worker} OR wanted_until_ms <= {now}) AND needs_memory <= {memory} \
         AND (needs IS NULL OR {lacks}) ORDER BY rank LIMIT {room} {lock}) AS of_type_{first}"
    )
}

/// In the order in which they are to begin.
async fn with_inputs(tx: &mut Tx, mut rows: Vec<TaskRow>) -> Result<Vec<Claimed>, StoreError> {
    rows.sort_by_key(TaskRow::rank);
    let mut claimed = Vec::with_capacity(rows.len());
    let mut apart = Vec::new();
    for row in rows {
        let fence = row.fence();
        let mut task = Task::try_from(row)?;
        let input = task.input.take();
        if input.is_none() {
            apart.push(task.id.clone());
        }
        claimed.push(Claimed {
            task,
            fence,
            input: input.unwrap_or_default(),
        });
    }
    let mut inputs = inputs(tx, &apart).await?;
    for one in &mut claimed {
        if let Some(input) = inputs.remove(one.task.id.as_str()) {
            one.input = input.into();
        } else if one.input.is_empty() {
            return Err(StoreError::corrupt("a task without its input"));
        }
    }
    Ok(claimed)
}

/// Inputs that stand apart from their tasks.
pub(super) async fn inputs(tx: &mut Tx, ids: &[TaskId]) -> Result<HashMap<String, String>, StoreError> {
    let mut inputs = HashMap::new();
    for list in lists(ids) {
        let all = placeholders(tx, 1, list.len());
        let sql = format!("SELECT task, input FROM task_input WHERE task IN ({all})");
        let rows: Vec<(String, String)> = on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query_as(AssertSqlSafe(sql));
            for id in &list {
                query = query.bind(id.as_str());
            }
            query.fetch_all(&mut **tx).await
        })?;
        inputs.extend(rows);
    }
    Ok(inputs)
}
