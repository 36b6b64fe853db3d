//! The queue's nouns as its columns have them, and back.

use bytes::Bytes;
use forebay_domain::{
    id::{KeyId, ProjectId, SubjectId, TaskId, TaskType, TenantId, TraceId, WorkerId},
    model::Priority,
    task::{Record, Retry, Stage, State, TaskError, TaskOwner},
};
use jiff::Timestamp;
use sqlx::Row;
use std::time::Duration;

use crate::{
    StoreError,
    responses::OwnerKind,
    row::{known, moment},
    sql::row_on_both,
};

/// A task as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub id: TaskId,
    pub task_type: TaskType,
    pub owner: TaskOwner,
    pub state: State,
    pub priority: Priority,
    /// When it is or was due; of one that is tried again, when that is.
    pub run_at: Timestamp,
    /// Runs that were begun.
    pub attempts: u32,
    pub attempts_max: u32,
    pub timeout: Duration,
    pub cancel_wanted: bool,
    pub worker: Option<WorkerId>,
    pub trace: TraceId,
    pub lane: Option<String>,
    pub context_id: Option<String>,
    pub idempotency_key: Option<String>,
    /// Of one that is tried again, why the last run failed.
    pub error: Option<TaskError>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    /// Of one that has ended, when it is forgotten.
    pub expires_at: Option<Timestamp>,
    /// What its output says of itself, as the result of a tool does.
    pub is_error: bool,
    /// JSON.
    pub output: Option<Bytes>,
    /// JSON; only where somebody asked for it.
    pub input: Option<Bytes>,
}

/// The columns of a [`TaskRow`], without the bodies.
pub(super) const COLUMNS: &str = "id, stage, task_type, priority, rank, run_at_ms, wake_at_ms, attempts, worker, \
    cancel_wanted, started_at_ms, completed_at_ms, error_code, error_message, error_hint, error_details, error_passing, \
    attempts_max, timeout_ms, lane, tenant, project, subject, key_id, principal, trace, created_at_ms, idempotency_key, \
    context_id, fence, is_error";

/// A row of `task`, not yet believed.
pub(super) struct TaskRow {
    id: String,
    stage: String,
    task_type: String,
    priority: i64,
    rank: i64,
    run_at_ms: i64,
    wake_at_ms: Option<i64>,
    attempts: i64,
    worker: Option<String>,
    cancel_wanted: bool,
    started_at_ms: Option<i64>,
    completed_at_ms: Option<i64>,
    error: ErrorRow,
    attempts_max: i64,
    timeout_ms: i64,
    lane: Option<String>,
    tenant: String,
    project: Option<String>,
    subject: String,
    key_id: Option<String>,
    principal: String,
    trace: String,
    created_at_ms: i64,
    idempotency_key: Option<String>,
    context_id: Option<String>,
    fence: i64,
    is_error: bool,
    input: Option<String>,
    output: Option<String>,
}

row_on_both!(TaskRow, |row| Ok(Self {
    id: row.try_get("id")?,
    stage: row.try_get("stage")?,
    task_type: row.try_get("task_type")?,
    priority: row.try_get("priority")?,
    rank: row.try_get("rank")?,
    run_at_ms: row.try_get("run_at_ms")?,
    wake_at_ms: row.try_get("wake_at_ms")?,
    attempts: row.try_get("attempts")?,
    worker: row.try_get("worker")?,
    cancel_wanted: row.try_get("cancel_wanted")?,
    started_at_ms: row.try_get("started_at_ms")?,
    completed_at_ms: row.try_get("completed_at_ms")?,
    error: ErrorRow::from_row(row)?,
    attempts_max: row.try_get("attempts_max")?,
    timeout_ms: row.try_get("timeout_ms")?,
    lane: row.try_get("lane")?,
    tenant: row.try_get("tenant")?,
    project: row.try_get("project")?,
    subject: row.try_get("subject")?,
    key_id: row.try_get("key_id")?,
    principal: row.try_get("principal")?,
    trace: row.try_get("trace")?,
    created_at_ms: row.try_get("created_at_ms")?,
    idempotency_key: row.try_get("idempotency_key")?,
    context_id: row.try_get("context_id")?,
    fence: row.try_get("fence")?,
    is_error: row.try_get("is_error")?,
    input: row.try_get("input")?,
    output: row.try_get("output")?,
}));

impl TaskRow {
    pub(super) fn fence(&self) -> i64 {
        self.fence
    }

    pub(super) fn rank(&self) -> i64 {
        self.rank
    }

    pub(super) fn is_of(&self, task_type: &TaskType) -> bool {
        self.task_type == task_type.as_str()
    }
}

impl TryFrom<TaskRow> for Task {
    type Error = StoreError;

    fn try_from(row: TaskRow) -> Result<Self, StoreError> {
        let stage = stage(&row.stage)?;
        let is_final = stage.state().is_final();
        let time = |ms: Option<i64>| ms.map(moment).transpose();
        Ok(Self {
            id: known("task", TaskId::try_from(row.id))?,
            task_type: known("the type of a task", TaskType::try_from(row.task_type))?,
            owner: TaskOwner {
                tenant: known("tenant", TenantId::try_from(row.tenant))?,
                project: known("project", row.project.map(ProjectId::try_from).transpose())?,
                subject: known("subject", SubjectId::try_from(row.subject))?,
                key: known("key id", row.key_id.map(KeyId::try_from).transpose())?,
                snapshot: row.principal,
            },
            state: stage.state(),
            priority: priority(row.priority)?,
            run_at: moment(row.run_at_ms)?,
            attempts: count(row.attempts)?,
            attempts_max: count(row.attempts_max)?,
            timeout: duration(row.timeout_ms),
            cancel_wanted: row.cancel_wanted,
            worker: worker(row.worker)?,
            trace: TraceId::parse(&row.trace).ok_or_else(|| StoreError::corrupt("a trace id"))?,
            lane: row.lane,
            context_id: row.context_id,
            idempotency_key: row.idempotency_key,
            error: row.error.error(),
            created_at: moment(row.created_at_ms)?,
            started_at: time(row.started_at_ms)?,
            completed_at: time(row.completed_at_ms)?,
            expires_at: time(row.wake_at_ms.filter(|_| is_final))?,
            is_error: row.is_error,
            output: row.output.map(Bytes::from),
            input: row.input.map(Bytes::from),
        })
    }
}

struct ErrorRow {
    code: Option<String>,
    message: Option<String>,
    hint: Option<String>,
    details: Option<String>,
    is_passing: Option<bool>,
}

row_on_both!(ErrorRow, |row| Ok(Self {
    code: row.try_get("error_code")?,
    message: row.try_get("error_message")?,
    hint: row.try_get("error_hint")?,
    details: row.try_get("error_details")?,
    is_passing: row.try_get("error_passing")?,
}));

impl ErrorRow {
    fn error(self) -> Option<TaskError> {
        Some(TaskError {
            code: self.code?,
            message: self.message?,
            hint: self.hint,
            details: self.details,
            is_passing: self.is_passing.unwrap_or(false),
        })
    }
}

/// The columns of a [`RecordRow`].
pub(super) const RECORD_COLUMNS: &str = "id, stage, priority, rank, run_at_ms, wake_at_ms, fence, attempts, worker, \
    cancel_wanted, started_at_ms, completed_at_ms, error_code, error_message, error_hint, error_details, error_passing, \
    attempts_max, retry_first_ms, retry_max_ms, result_ttl_ms, lane, tenant, subject, project, key_id";

/// What decides what may happen to a task next, not yet believed.
pub(super) struct RecordRow {
    pub id: String,
    pub tenant: String,
    pub subject: String,
    pub project: Option<String>,
    key_id: Option<String>,
    pub lane: Option<String>,
    stage: String,
    priority: i64,
    rank: i64,
    run_at_ms: i64,
    wake_at_ms: Option<i64>,
    fence: i64,
    attempts: i64,
    worker: Option<String>,
    cancel_wanted: bool,
    started_at_ms: Option<i64>,
    completed_at_ms: Option<i64>,
    error: ErrorRow,
    attempts_max: i64,
    retry_first_ms: i64,
    retry_max_ms: i64,
    result_ttl_ms: i64,
}

impl RecordRow {
    /// How whoever submitted it proved who they are.
    pub(super) fn kind(&self) -> OwnerKind {
        match self.key_id {
            Some(_) => OwnerKind::Key,
            None => OwnerKind::Token,
        }
    }
}

row_on_both!(RecordRow, |row| Ok(Self {
    id: row.try_get("id")?,
    tenant: row.try_get("tenant")?,
    subject: row.try_get("subject")?,
    project: row.try_get("project")?,
    key_id: row.try_get("key_id")?,
    lane: row.try_get("lane")?,
    stage: row.try_get("stage")?,
    priority: row.try_get("priority")?,
    rank: row.try_get("rank")?,
    run_at_ms: row.try_get("run_at_ms")?,
    wake_at_ms: row.try_get("wake_at_ms")?,
    fence: row.try_get("fence")?,
    attempts: row.try_get("attempts")?,
    worker: row.try_get("worker")?,
    cancel_wanted: row.try_get("cancel_wanted")?,
    started_at_ms: row.try_get("started_at_ms")?,
    completed_at_ms: row.try_get("completed_at_ms")?,
    error: ErrorRow::from_row(row)?,
    attempts_max: row.try_get("attempts_max")?,
    retry_first_ms: row.try_get("retry_first_ms")?,
    retry_max_ms: row.try_get("retry_max_ms")?,
    result_ttl_ms: row.try_get("result_ttl_ms")?,
}));

impl TryFrom<RecordRow> for Record {
    type Error = StoreError;

    fn try_from(row: RecordRow) -> Result<Self, StoreError> {
        Ok(Self {
            stage: stage(&row.stage)?,
            priority: priority(row.priority)?,
            has_lane: row.lane.is_some(),
            run_at_ms: row.run_at_ms,
            wake_at_ms: row.wake_at_ms,
            rank: row.rank,
            attempts: count(row.attempts)?,
            retry: Retry {
                attempts_max: count(row.attempts_max)?,
                first: duration(row.retry_first_ms),
                max: duration(row.retry_max_ms),
            },
            fence: row.fence,
            worker: worker(row.worker)?,
            cancel_wanted: row.cancel_wanted,
            result_ttl_ms: row.result_ttl_ms,
            started_at_ms: row.started_at_ms,
            completed_at_ms: row.completed_at_ms,
            error: row.error.error(),
        })
    }
}

pub(super) fn stage(text: &str) -> Result<Stage, StoreError> {
    Stage::parse(text).ok_or_else(|| StoreError::corrupt("the stage of a task"))
}

pub(super) fn priority(number: i64) -> Result<Priority, StoreError> {
    let found = Priority::ALL
        .into_iter()
        .find(|priority| i64::from(*priority as u8) == number);
    found.ok_or_else(|| StoreError::corrupt("the priority of a task"))
}

pub(super) fn count(number: i64) -> Result<u32, StoreError> {
    known("a count", u32::try_from(number))
}

fn duration(ms: i64) -> Duration {
    Duration::from_millis(ms.max(0).unsigned_abs())
}

fn worker(text: Option<String>) -> Result<Option<WorkerId>, StoreError> {
    known("worker", text.map(WorkerId::try_from).transpose())
}
