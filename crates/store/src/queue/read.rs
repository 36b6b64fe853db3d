//! Looks at tasks: one, a page of them, and how many wait.

use forebay_domain::{
    id::{TaskId, TaskType},
    model::Priority,
    task::{AGEING_STEP_MS, Stage, State},
};
use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use super::{
    Queue,
    moves::Scope,
    rows::{COLUMNS, Task, TaskRow, count, priority, stage},
};
use crate::{
    StoreError,
    responses::OwnerKind,
    row::{known, moment},
    sql::on_both,
};

/// Most tasks of one page.
pub const TASKS_PAGE_MAX: u32 = 200;

const INPUT: &str = "SELECT input FROM task_input WHERE task = $1";
/// In the order of the index that claims are made from, and from nothing else: nothing is sorted.
const PENDING: &str = "SELECT task_type, \
    COUNT(CASE WHEN priority = 1 THEN 1 END), MIN(CASE WHEN priority = 1 THEN rank END), \
    COUNT(CASE WHEN priority = 2 THEN 1 END), MIN(CASE WHEN priority = 2 THEN rank END), \
    COUNT(CASE WHEN priority = 3 THEN 1 END), MIN(CASE WHEN priority = 3 THEN rank END), \
    COUNT(CASE WHEN priority = 4 THEN 1 END), MIN(CASE WHEN priority = 4 THEN rank END) \
    FROM task WHERE stage = 'pending' GROUP BY task_type";
/// Of what has ended, only what is dead is looked at.
const OTHERS: &str = "SELECT task_type, priority, stage, COUNT(*), \
    MIN(CASE WHEN run_at_ms < created_at_ms THEN created_at_ms ELSE run_at_ms END) FROM \
    (SELECT task_type, priority, stage, run_at_ms, created_at_ms FROM task WHERE stage = 'waiting' UNION ALL \
     SELECT task_type, priority, stage, run_at_ms, created_at_ms FROM task \
     WHERE stage IN ('scheduled', 'running', 'retrying', 'dead') AND wake_at_ms IS NOT NULL) AS others \
    GROUP BY task_type, priority, stage";

/// Which tasks to list: the newest first.
#[derive(Debug, Clone)]
pub struct TaskQuery {
    pub scope: Scope,
    pub state: Option<State>,
    pub task_type: Option<TaskType>,
    pub context_id: Option<String>,
    /// Where the page before ended.
    pub after: Option<TaskId>,
    /// At most [`TASKS_PAGE_MAX`]; 0 means that many.
    pub limit: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPage {
    /// Without their bodies.
    pub tasks: Vec<Task>,
    /// Where to go on, if there are more.
    pub next: Option<TaskId>,
}

/// How many tasks of one sort there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depth {
    pub task_type: TaskType,
    pub priority: Priority,
    /// Pending, scheduled, running or dead.
    pub state: State,
    pub count: u32,
    /// Since when the oldest of them is ready to run; of what runs or is dead, was.
    pub oldest: Timestamp,
}

impl Queue {
    /// A task with its output, and its input where that is asked for.
    pub async fn get(&self, scope: &Scope, id: &TaskId, body: Body) -> Result<Option<Task>, StoreError> {
        let input = match body {
            Body::Output => "NULL AS input",
            Body::Both => "input",
        };
        let mut asked = Asked::default();
        asked.that("id =", Some(id.as_str()));
        asked.within(scope);
        let sql = format!("SELECT {COLUMNS}, {input}, output FROM task{}", asked.conditions);
        let row: Option<TaskRow> = self
            .db
            .read(async {
                on_both!(self.db.pools(), |pool| {
                    let mut query = sqlx::query_as(AssertSqlSafe(sql));
                    for text in asked.texts {
                        query = query.bind(text);
                    }
                    query.fetch_optional(pool).await
                })
            })
            .await?;
        let Some(row) = row else { return Ok(None) };
        let mut task = Task::try_from(row)?;
        if body == Body::Both && task.input.is_none() {
            task.input = self.input_apart(id).await?.map(Into::into);
        }
        Ok(Some(task))
    }

    /// The task that this name stands for among those that somebody may see.
    pub async fn named(&self, scope: &Scope, key: &str) -> Result<Option<TaskId>, StoreError> {
        let mut asked = Asked::default();
        asked.within(scope);
        asked.that("idempotency_key =", Some(key));
        let sql = format!("SELECT id FROM task{} LIMIT 1", asked.conditions);
        let id: Option<String> = self
            .db
            .read(async {
                on_both!(self.db.pools(), |pool| {
                    let mut query = sqlx::query_scalar(AssertSqlSafe(sql));
                    for text in asked.texts {
                        query = query.bind(text);
                    }
                    query.fetch_optional(pool).await
                })
            })
            .await?;
        known("task", id.map(TaskId::try_from).transpose())
    }

    async fn input_apart(&self, id: &TaskId) -> Result<Option<String>, StoreError> {
        self.db
            .read(async {
                on_both!(self.db.pools(), |pool| sqlx::query_scalar(INPUT)
                    .bind(id.as_str())
                    .fetch_optional(pool)
                    .await)
            })
            .await
    }

    pub async fn list(&self, query: &TaskQuery) -> Result<TaskPage, StoreError> {
        let limit = match query.limit {
            0 => TASKS_PAGE_MAX,
            limit => limit.min(TASKS_PAGE_MAX),
        };
        let (sql, texts) = listing(query, limit + 1);
        let rows: Vec<TaskRow> = self
            .db
            .read(async {
                on_both!(self.db.pools(), |pool| {
                    let mut query = sqlx::query_as(AssertSqlSafe(sql));
                    for text in texts {
                        query = query.bind(text);
                    }
                    query.fetch_all(pool).await
                })
            })
            .await?;
        let mut tasks: Vec<Task> = rows.into_iter().map(Task::try_from).collect::<Result<_, _>>()?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = tasks.len() > limit;
        tasks.truncate(limit);
        let next = tasks.last().filter(|_| more).map(|task| task.id.clone());
        Ok(TaskPage { tasks, next })
    }

    /// How many tasks wait, run or are dead, by type and priority. It looks at each of them: ask now and then.
    pub async fn counts(&self) -> Result<Vec<Depth>, StoreError> {
        let pending: Vec<PendingRow> = self
            .db
            .read(async { on_both!(self.db.pools(), |pool| sqlx::query_as(PENDING).fetch_all(pool).await) })
            .await?;
        let others: Vec<(String, i64, String, i64, i64)> = self
            .db
            .read(async { on_both!(self.db.pools(), |pool| sqlx::query_as(OTHERS).fetch_all(pool).await) })
            .await?;
        let mut depths = Vec::new();
        for (task_type, low, a, medium, b, high, c, critical, d) in pending {
            for (urgency, number, rank) in [(1, low, a), (2, medium, b), (3, high, c), (4, critical, d)] {
                let Some(rank) = rank else { continue };
                let since_ms = rank.saturating_add(urgency * AGEING_STEP_MS);
                add(
                    &mut depths,
                    depth(task_type.clone(), urgency, Stage::Pending, number, since_ms)?,
                );
            }
        }
        for (task_type, urgency, at, number, since_ms) in others {
            add(&mut depths, depth(task_type, urgency, stage(&at)?, number, since_ms)?);
        }
        depths.sort_by(|a, b| (&a.task_type, a.priority, a.state).cmp(&(&b.task_type, b.priority, b.state)));
        Ok(depths)
    }
}

/// The type; then of each priority how many, and the smallest rank.
type PendingRow = (
    String,
    i64,
    Option<i64>,
    i64,
    Option<i64>,
    i64,
    Option<i64>,
    i64,
    Option<i64>,
);

fn depth(task_type: String, urgency: i64, stage: Stage, number: i64, since_ms: i64) -> Result<Depth, StoreError> {
    Ok(Depth {
        task_type: known("the type of a task", TaskType::try_from(task_type))?,
        priority: priority(urgency)?,
        state: stage.state(),
        count: count(number)?,
        oldest: moment(since_ms)?,
    })
}

/// Two stages may be one state.
fn add(depths: &mut Vec<Depth>, one: Depth) {
    let same = |other: &&mut Depth| {
        other.task_type == one.task_type && other.priority == one.priority && other.state == one.state
    };
    match depths.iter_mut().find(same) {
        Some(other) => {
            other.count = other.count.saturating_add(one.count);
            other.oldest = other.oldest.min(one.oldest);
        }
        None => depths.push(one),
    }
}

/// How much of a task to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    Output,
    /// Its input too.
    Both,
}

/// The conditions of a statement, and the texts that they are about.
#[derive(Default)]
pub(super) struct Asked<'a> {
    pub(super) conditions: String,
    pub(super) texts: Vec<&'a str>,
}

impl<'a> Asked<'a> {
    fn joint(&self) -> &'static str {
        if self.conditions.is_empty() { " WHERE " } else { " AND " }
    }

    pub(super) fn bare(&mut self, condition: &str) {
        let joint = self.joint();
        self.conditions.push_str(joint);
        self.conditions.push_str(condition);
    }

    /// Nothing where there is no text.
    pub(super) fn that(&mut self, condition: &str, text: Option<&'a str>) {
        if let Some(text) = text {
            self.texts.push(text);
            self.bare(&format!("{condition} ${}", self.texts.len()));
        }
    }

    pub(super) fn within(&mut self, scope: &'a Scope) {
        match scope {
            Scope::All => {}
            Scope::Tenant(tenant) => self.that("tenant =", Some(tenant.as_str())),
            Scope::Own(owner) => {
                self.that("tenant =", Some(owner.tenant.as_str()));
                self.that("subject =", Some(owner.subject.as_str()));
                self.that("COALESCE(project, '') =", Some(owner.project_text()));
                self.bare(match owner.kind {
                    OwnerKind::Key => "key_id IS NOT NULL",
                    OwnerKind::Token => "key_id IS NULL",
                });
            }
        }
    }
}

/// Written so that the databases find their indexes: that of what is dead, and that of what something happens to by itself. Most
/// of what is there is completed or waits, and is read in the order of the list.
fn in_state(state: State) -> &'static str {
    match state {
        State::Pending => "stage IN ('waiting', 'pending')",
        State::Completed => "stage = 'completed'",
        State::Scheduled => "stage IN ('scheduled', 'retrying') AND wake_at_ms IS NOT NULL",
        State::Running => "stage = 'running' AND wake_at_ms IS NOT NULL",
        State::Failed => "stage = 'failed' AND wake_at_ms IS NOT NULL",
        State::Cancelled => "stage = 'cancelled' AND wake_at_ms IS NOT NULL",
        State::Dead => "stage = 'dead' AND wake_at_ms IS NOT NULL",
    }
}

/// The statement, and what it is about.
pub(super) fn listing(query: &TaskQuery, limit: u32) -> (String, Vec<&str>) {
    let mut asked = Asked::default();
    asked.within(&query.scope);
    let conditions = [
        ("task_type =", query.task_type.as_ref().map(TaskType::as_str)),
        ("context_id =", query.context_id.as_deref()),
        ("id <", query.after.as_ref().map(TaskId::as_str)),
    ];
    for (condition, text) in conditions {
        asked.that(condition, text);
    }
    if let Some(state) = query.state {
        asked.bare(in_state(state));
    }
    let Asked { conditions, texts } = asked;
    let sql =
        format!("SELECT {COLUMNS}, NULL AS input, NULL AS output FROM task{conditions} ORDER BY id DESC LIMIT {limit}");
    (sql, texts)
}
