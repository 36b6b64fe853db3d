//! Hands out tasks: of each type the most urgent, as many as there is room for.
//!
//! One look into the index a type, and none at what waits behind something else: that is not pending.

use bytes::Bytes;
use forebay_domain::{
    id::{TaskId, TaskType, WorkerId},
    task::{LEASE_MAX_MS, Offer},
};
use sqlx::{AssertSqlSafe, Row};
use std::{collections::HashMap, time::Duration};

use super::{
    moves,
    new::millis,
    rows::{COLUMNS, Task, TaskRow},
};
use crate::{
    StoreError,
    many::{lists, placeholders},
    sql::{Both, Tx, on_both, row_on_both},
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
    let at_most = claim.at_most.min(CLAIM_MAX) as usize;
    let mut rows: Vec<TaskRow> = Vec::new();
    for plan in plans(tx) {
        let room = room_left(claim, &rows);
        let left = at_most - rows.len();
        if room.is_empty() || left == 0 {
            break;
        }
        let given = take(tx, now_ms, claim, &room, left, *plan).await?;
        let chosen = given.first().map_or(0, |first| first.chosen);
        let before = rows.len();
        rows.extend(given.into_iter().filter_map(|given| given.row));
        if rows.len() - before == chosen {
            break;
        }
    }
    with_inputs(tx, rows).await
}

fn room_left<'c>(claim: &'c Claim, rows: &[TaskRow]) -> Vec<(&'c TaskType, u32)> {
    claim
        .room
        .iter()
        .map(|(task_type, room)| {
            let taken = rows.iter().filter(|row| row.is_of(task_type)).count();
            let taken = u32::try_from(taken).unwrap_or(u32::MAX);
            (task_type, room.saturating_sub(taken))
        })
        .filter(|(_, room)| *room > 0)
        .take(TYPES_MAX)
        .collect()
}

/// How a claim chooses, and how far it goes for what another gateway may be taking at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// SQLite has one writer: nobody is ever in between.
    OneWriter,
    /// PostgreSQL: chooses first and locks what it has chosen and nobody else has. It may get fewer than there are.
    Nearest,
    /// PostgreSQL: goes past what others have. Every branch locks all that it has room for, and a lock is a write.
    Past,
}

/// One after the other, for as long as the one before gave fewer than it chose.
fn plans(tx: &Tx) -> &'static [Plan] {
    match tx {
        Both::Sqlite(_) => &[Plan::OneWriter],
        Both::Postgres(_) => &[Plan::Nearest, Plan::Past],
    }
}

struct Given {
    /// None where the nearest are all somebody else's, or there are none.
    row: Option<TaskRow>,
    /// How many there were to choose from, up to as many as were asked for; of the nearest only.
    chosen: usize,
}

row_on_both!(Given, |row| Ok(Self {
    row: match row.try_get::<Option<&str>, _>("id")? {
        Some(_) => Some(TaskRow::from_row(row)?),
        None => None,
    },
    chosen: usize::try_from(row.try_get::<i64, _>("chosen")?).unwrap_or_default(),
}));

async fn take(
    tx: &mut Tx,
    now_ms: i64,
    claim: &Claim,
    room: &[(&TaskType, u32)],
    at_most: usize,
    plan: Plan,
) -> Result<Vec<Given>, StoreError> {
    let sql = statement(plan, room);
    let words = serde_json::to_string(&claim.offer.words).expect("words are JSON");
    let until_ms = now_ms.saturating_add(millis(claim.lease).clamp(1, LEASE_MAX_MS));
    Ok(on_both!(tx, |tx| {
        let mut query = sqlx::query_as(AssertSqlSafe(sql))
            .bind(claim.worker.as_str())
            .bind(until_ms)
            .bind(now_ms)
            .bind(i64::from(claim.offer.memory_mib))
            .bind(words.as_str())
            .bind(i64::try_from(at_most).unwrap_or(i64::MAX));
        for (task_type, room) in room {
            query = query.bind(task_type.as_str()).bind(i64::from(*room));
        }
        query.fetch_all(&mut **tx).await
    })?)
}

/// With one branch a type, which reads only what it gives.
fn statement(plan: Plan, room: &[(&TaskType, u32)]) -> String {
    let most = room.iter().map(|(_, room)| *room).max().unwrap_or_default();
    let branches: Vec<String> = (0..room.len())
        .map(|number| branch(plan, most, 7 + 2 * number))
        .collect();
    let branches = branches.join(" UNION ALL ");
    let first = format!("SELECT id FROM ({branches}) AS first ORDER BY rank LIMIT $6");
    let give = |ids: String| {
        format!(
            "UPDATE task SET stage = 'running', worker = $1, wake_at_ms = $2, fence = fence + 1, \
             attempts = attempts + 1, started_at_ms = COALESCE(started_at_ms, $3) WHERE id {ids} \
             RETURNING {COLUMNS}, input, output"
        )
    };
    // Read once: a plan that reads it again would lock others, and more.
    match plan {
        Plan::OneWriter => format!("{}, 0 AS chosen", give(format!("IN ({first})"))),
        Plan::Past => {
            format!("{}, 0::bigint AS chosen", give(format!("= ANY (ARRAY({first}))")))
        }
        Plan::Nearest => {
            let free = "= ANY (ARRAY(SELECT id FROM task WHERE id = ANY (ARRAY(SELECT id FROM nearest)) \
                 AND stage = 'pending' FOR UPDATE SKIP LOCKED))";
            let given = give(free.to_owned());
            format!(
                "WITH nearest AS MATERIALIZED ({first}), given AS ({given}) SELECT (SELECT count(*) FROM nearest) \
                 AS chosen, given.* FROM (SELECT 1) AS one LEFT JOIN given ON TRUE"
            )
        }
    }
}

/// The type and its room are the parameters `first` and the one after it.
fn branch(plan: Plan, most: u32, first: usize) -> String {
    let (name, room) = (first, first + 1);
    let fits = match plan {
        Plan::OneWriter => {
            "NOT EXISTS (SELECT 1 FROM json_each(needs) AS need WHERE need.value NOT IN \
             (SELECT has.value FROM json_each($5) AS has))"
        }
        Plan::Nearest | Plan::Past => "needs::jsonb <@ $5::text::jsonb",
    };
    let ready = format!(
        "FROM task WHERE stage = 'pending' AND task_type = ${name} AND (wanted_by IS NULL OR wanted_by = $1 \
         OR wanted_until_ms <= $3) AND needs_memory <= $4 AND (needs IS NULL OR {fits}) ORDER BY rank LIMIT"
    );
    let of_type = format!("of_type_{first}");
    match plan {
        Plan::OneWriter => format!("SELECT id, rank FROM (SELECT id, rank {ready} ${room})"),
        Plan::Past => {
            format!("SELECT id, rank FROM (SELECT id, rank {ready} ${room} FOR UPDATE SKIP LOCKED) AS {of_type}")
        }
        // PostgreSQL plans anew each time where the limit of a branch is a parameter, and to plan takes longer than to do it.
        Plan::Nearest => format!(
            "SELECT id, rank FROM (SELECT id, rank, row_number() OVER (ORDER BY rank) AS place {ready} {}) AS {of_type} \
             WHERE place <= ${room}",
            step(most)
        ),
    }
}

/// A limit that is large enough, of few: each is a statement of its own.
fn step(most: u32) -> u32 {
    [1, 8, 32, 128, 512]
        .into_iter()
        .find(|step| *step >= most)
        .unwrap_or(CLAIM_MAX)
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
