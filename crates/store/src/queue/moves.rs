//! What happens to tasks that are there: their records are read, decided about in order, and written.

use bytes::Bytes;
use forebay_domain::{
    Principal,
    id::{ProjectId, TaskId, TenantId, WorkerId},
    task::{Ended, Event, Record, Refusal, Stage, State},
};
use sqlx::AssertSqlSafe;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use super::{
    lanes,
    rows::{RECORD_COLUMNS, RecordRow},
    unfinished::Tally,
};
use crate::{
    StoreError,
    many::{Insert, lists, placeholders},
    responses::{OwnerKind, ResponseOwner},
    row::known,
    sql::{Both, Tx, on_both},
};

/// Tasks whose time comes at once, at most; the rest of them a moment later.
const DUE_MAX: i64 = 256;

static WRITE: LazyLock<Insert> = LazyLock::new(|| {
    let columns = [
        ("id", "text"),
        ("stage", "text"),
        ("rank", "bigint"),
        ("run_at_ms", "bigint"),
        ("wake_at_ms", "bigint"),
        ("fence", "bigint"),
        ("attempts", "bigint"),
        ("worker", "text"),
        ("cancel_wanted", "boolean"),
        ("started_at_ms", "bigint"),
        ("completed_at_ms", "bigint"),
        ("error_code", "text"),
        ("error_message", "text"),
        ("error_hint", "text"),
        ("error_details", "text"),
        ("error_passing", "boolean"),
    ];
    let set: Vec<String> = (2..)
        .zip(&columns[1..])
        .map(|(number, (column, _))| format!("{column} = v.column{number}"))
        .collect();
    let head = format!(
        "UPDATE task SET {}, output = COALESCE(v.column17, output), is_error = COALESCE(v.column18, is_error) FROM (VALUES ",
        set.join(", ")
    );
    let types: Vec<&str> = columns
        .iter()
        .map(|(_, named)| *named)
        .chain(["text", "boolean"])
        .collect();
    Insert::around(&head, &types, ") AS v WHERE task.id = v.column1")
});

/// Whose tasks somebody may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    All,
    Tenant(TenantId),
    /// What somebody submitted. A name means somebody within a project, and only among its keys or among the tokens.
    Own(ResponseOwner),
}

impl Scope {
    /// What this caller has submitted.
    pub fn own(principal: &Principal) -> Self {
        Self::Own(principal.into())
    }

    fn has(&self, loaded: &Loaded) -> bool {
        match self {
            Self::All => true,
            Self::Tenant(tenant) => tenant.as_str() == loaded.tenant,
            Self::Own(owner) => {
                owner.tenant.as_str() == loaded.tenant
                    && owner.subject.as_str() == loaded.subject
                    && owner.project.as_ref().map(ProjectId::as_str) == loaded.project.as_deref()
                    && owner.kind == loaded.kind
            }
        }
    }
}

/// Something that is to happen to a task.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub id: TaskId,
    pub scope: Scope,
    pub event: Event,
    /// The output with which it is settled says that it is an error.
    pub is_error: bool,
}

impl Step {
    /// It says only that somebody is still there, which is no news.
    pub(super) fn is_beat(&self) -> bool {
        matches!(self.event, Event::Beat { .. })
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stepped {
    Done { state: State, cancel_wanted: bool },
    Refused(Refusal),
    Unknown,
}

pub(super) struct Loaded {
    record: Record,
    tenant: String,
    subject: String,
    project: Option<String>,
    kind: OwnerKind,
    lane: Option<String>,
    output: Option<Output>,
    is_changed: bool,
    /// It had ended when it was read.
    was_over: bool,
}

struct Output {
    text: Bytes,
    is_error: bool,
}

pub(super) type Records = BTreeMap<TaskId, Loaded>;

/// Lets all of it happen, one after another, and says what became of each, and whether somebody may find more to claim.
pub(super) async fn apply(
    tx: &mut Tx,
    now_ms: i64,
    steps: &[&Step],
    tally: &mut Tally,
) -> Result<(Vec<Stepped>, bool), StoreError> {
    if steps.is_empty() {
        return Ok((Vec::new(), false));
    }
    // Before any row, as `lanes` says. Who only says that they are there moves nothing in a lane.
    let moving = steps.iter().filter(|step| !step.is_beat());
    lanes::lock_of(tx, &moving.map(|step| &step.id).collect()).await?;
    let ids: BTreeSet<&TaskId> = steps.iter().map(|step| &step.id).collect();
    let mut records = load(tx, &ids).await?;
    let stepped = steps
        .iter()
        .map(|step| match records.get_mut(&step.id) {
            Some(loaded) if step.scope.has(loaded) => loaded.step(step, now_ms),
            _ => Stepped::Unknown,
        })
        .collect();
    let moved = write(tx, &records, tally).await?;
    let promoted = lanes::promote(tx, &moved).await?;
    let is_ready = records
        .values()
        .any(|loaded| loaded.is_changed && loaded.record.stage == Stage::Pending);
    Ok((stepped, !promoted.is_empty() || is_ready))
}

/// What is due becomes pending. Gives how many those were. What comes to a lane that somebody else is just changing comes a
/// moment later: whoever has rows waits for nobody's lane.
pub(super) async fn wake(tx: &mut Tx, now_ms: i64) -> Result<usize, StoreError> {
    // Whoever else wakes some of it has it. In no order, so that no more is looked at than is taken.
    let lock = match tx {
        Both::Sqlite(_) => "",
        Both::Postgres(_) => "FOR UPDATE SKIP LOCKED",
    };
    let sql = format!(
        "SELECT {RECORD_COLUMNS} FROM task WHERE stage IN ('scheduled', 'retrying') AND wake_at_ms <= $1 \
         LIMIT {DUE_MAX} {lock}"
    );
    let rows: Vec<RecordRow> = on_both!(&mut *tx, |tx| sqlx::query_as(AssertSqlSafe(sql))
        .bind(now_ms)
        .fetch_all(&mut **tx)
        .await)?;
    if rows.is_empty() {
        return Ok(0);
    }
    let mut records = loaded(rows)?;
    let coming = records.values().filter(|loaded| loaded.comes_to_lane());
    let lanes = coming.filter_map(|loaded| loaded.lane.clone()).collect();
    let open = lanes::try_lock(tx, lanes).await?;
    for loaded in records.values_mut() {
        let is_shut = loaded.lane.as_ref().is_some_and(|lane| !open.contains(lane));
        if !(loaded.comes_to_lane() && is_shut) {
            loaded.happen(&Event::Due, now_ms).ok();
        }
    }
    // What wakes has not ended before, nor after.
    let moved = write(tx, &records, &mut Tally::default()).await?;
    lanes::promote(tx, &moved).await?;
    Ok(records.values().filter(|loaded| loaded.is_changed).count())
}

pub(super) async fn load(tx: &mut Tx, ids: &BTreeSet<&TaskId>) -> Result<Records, StoreError> {
    let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    let mut records = Records::new();
    for list in lists(&ids) {
        // In one order, so that two that change the same tasks do not wait for one another.
        let lock = match tx {
            Both::Sqlite(_) => "",
            Both::Postgres(_) => "ORDER BY id FOR UPDATE",
        };
        let all = placeholders(tx, 1, list.len());
        let sql = format!("SELECT {RECORD_COLUMNS} FROM task WHERE id IN ({all}) {lock}");
        let rows: Vec<RecordRow> = on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query_as(AssertSqlSafe(sql));
            for id in &list {
                query = query.bind(*id);
            }
            query.fetch_all(&mut **tx).await
        })?;
        records.extend(loaded(rows)?);
    }
    Ok(records)
}

fn loaded(rows: Vec<RecordRow>) -> Result<Records, StoreError> {
    let mut records = Records::new();
    for mut row in rows {
        let id = known("task", TaskId::try_from(std::mem::take(&mut row.id)))?;
        let loaded = Loaded {
            tenant: std::mem::take(&mut row.tenant),
            subject: std::mem::take(&mut row.subject),
            project: row.project.take(),
            kind: row.kind(),
            lane: row.lane.clone(),
            record: row.try_into()?,
            output: None,
            is_changed: false,
            was_over: false,
        };
        let was_over = loaded.record.state().is_final();
        records.insert(id, Loaded { was_over, ..loaded });
    }
    Ok(records)
}

impl Loaded {
    fn comes_to_lane(&self) -> bool {
        self.record.stage == Stage::Scheduled && self.lane.is_some()
    }

    fn step(&mut self, step: &Step, now_ms: i64) -> Stepped {
        if let Err(refusal) = self.happen(&step.event, now_ms) {
            return Stepped::Refused(refusal);
        }
        if let Event::Settle {
            ended: Ended::Done(text),
            ..
        } = &step.event
        {
            self.output = Some(Output {
                text: text.clone(),
                is_error: step.is_error,
            });
        }
        Stepped::Done {
            state: self.record.state(),
            cancel_wanted: self.record.cancel_wanted,
        }
    }

    pub(super) fn happen(&mut self, event: &Event, now_ms: i64) -> Result<State, Refusal> {
        let after = self.record.after(event, now_ms)?;
        self.is_changed |= after != self.record;
        self.record = after;
        Ok(self.record.state())
    }

    pub(super) fn state(&self) -> State {
        self.record.state()
    }
}

/// Writes what has changed, and gives the lanes in which somebody else may take their turn now.
pub(super) async fn write(tx: &mut Tx, records: &Records, tally: &mut Tally) -> Result<BTreeSet<String>, StoreError> {
    let changed: Vec<(&TaskId, &Loaded)> = records.iter().filter(|(_, loaded)| loaded.is_changed).collect();
    for (sql, part) in WRITE.of(tx, &changed) {
        on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query(sql);
            for (id, loaded) in part {
                let (record, error) = (&loaded.record, loaded.record.error.as_ref());
                let output = loaded.output.as_ref();
                query = query
                    .bind(id.as_str())
                    .bind(record.stage.as_str())
                    .bind(record.rank)
                    .bind(record.run_at_ms)
                    .bind(record.wake_at_ms)
                    .bind(record.fence)
                    .bind(i64::from(record.attempts))
                    .bind(record.worker.as_ref().map(WorkerId::as_str))
                    .bind(record.cancel_wanted)
                    .bind(record.started_at_ms)
                    .bind(record.completed_at_ms)
                    .bind(error.map(|error| error.code.as_str()))
                    .bind(error.map(|error| error.message.as_str()))
                    .bind(error.and_then(|error| error.hint.as_deref()))
                    .bind(error.and_then(|error| error.details.as_deref()))
                    .bind(error.map(|error| error.is_passing))
                    .bind(output.map(|output| str::from_utf8(&output.text).unwrap_or("null")))
                    .bind(output.map(|output| output.is_error));
            }
            query.execute(&mut **tx).await.map(drop)
        })?;
    }
    for (_, loaded) in &changed {
        let is_over = loaded.record.state().is_final();
        tally.add(&loaded.tenant, i64::from(loaded.was_over) - i64::from(is_over));
    }
    let moved = changed
        .iter()
        .filter(|(_, loaded)| loaded.record.stage == Stage::Waiting || !loaded.record.stage.holds_lane());
    Ok(moved.filter_map(|(_, loaded)| loaded.lane.clone()).collect())
}
