//! What is submitted, checked and given its identifier.

use bytes::Bytes;
use forebay_domain::{
    id::{TaskId, TaskType, TraceId, WorkerId},
    model::Priority,
    task::{BODY_BYTES_MAX, Needs, Record, Retry, State, TaskOwner, Wanted},
};
use jiff::Timestamp;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::SubmitError;
use crate::row::within;

/// Longest names and words, in bytes.
const WORD_BYTES_MAX: usize = 256;
const NEEDS_MAX: usize = 16;
/// The longest that anything is put off, tried again, run or kept.
pub(super) const TIME_MAX: Duration = Duration::from_hours(24 * 366);

/// Work that is to be done later.
#[derive(Debug, Clone)]
pub struct NewTask {
    pub task_type: TaskType,
    pub owner: TaskOwner,
    pub priority: Priority,
    /// At once where there is none.
    pub run_at: Option<Timestamp>,
    /// JSON, of at most [`BODY_BYTES_MAX`].
    pub input: Bytes,
    /// The same key of the same owner is the same task. Whose it is counts as it does in [`super::Scope::Own`].
    pub idempotency_key: Option<String>,
    /// What its key stands for, where that is not the whole input: how it is told may differ when it is sent again.
    pub stands_for: Option<Bytes>,
    /// Tasks of one lane run one after another, the oldest first. Lanes are the whole gateway's: the name has the tenant in
    /// it where others may not meet it.
    pub lane: Option<String>,
    /// What people see that it is about.
    pub context_id: Option<String>,
    /// Nobody else claims it until then.
    pub wanted_by: Option<(WorkerId, Timestamp)>,
    pub retry: Retry,
    /// How long one run may take.
    pub timeout: Duration,
    /// How long it is kept after its end.
    pub result_ttl: Duration,
    pub trace: TraceId,
    pub needs: Needs,
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    pub id: TaskId,
    pub state: State,
    /// It was submitted before, under the same key.
    pub is_repeat: bool,
}

/// A task on its way into the database.
#[derive(Debug)]
pub(super) struct NewRow {
    pub id: TaskId,
    pub task: NewTask,
    pub input: String,
    /// What the same key must come with again.
    pub hash: Option<[u8; 32]>,
    /// It is refused where its tenant has so many that have not ended.
    pub queued_max: u32,
}

impl NewRow {
    pub(super) fn new(id: TaskId, task: NewTask, queued_max: u32, now_ms: i64) -> Result<Self, SubmitError> {
        within("the input of a task", task.input.len(), BODY_BYTES_MAX)?;
        let words = [&task.idempotency_key, &task.lane, &task.context_id];
        for word in words.into_iter().flatten().chain(&task.needs.words) {
            if word.is_empty() || word.len() > WORD_BYTES_MAX || word.contains('\0') {
                return Err(SubmitError::Invalid("a name in it is empty, too long, or no text"));
            }
        }
        if task.needs.words.len() > NEEDS_MAX {
            return Err(SubmitError::Invalid("it needs too many things"));
        }
        if task.retry.attempts_max == 0 {
            return Err(SubmitError::Invalid("it may never be tried"));
        }
        let times = [task.timeout, task.result_ttl, task.retry.first, task.retry.max];
        if times.iter().any(|time| *time > TIME_MAX) {
            return Err(SubmitError::Invalid("a time in it is longer than a year"));
        }
        let ahead_ms = task
            .run_at
            .map_or(0, |run_at| run_at.as_millisecond().saturating_sub(now_ms));
        if ahead_ms > millis(TIME_MAX) {
            return Err(SubmitError::TooFarAhead);
        }
        let json: &RawValue =
            serde_json::from_slice(&task.input).map_err(|_| SubmitError::Invalid("its input is no JSON"))?;
        let input = json.get().to_owned();
        let hash = task.idempotency_key.as_ref().map(|_| hash(&task));
        Ok(Self {
            id,
            task,
            input,
            hash,
            queued_max,
        })
    }

    pub(super) fn record(&self, now_ms: i64) -> Record {
        let wanted = Wanted {
            priority: self.task.priority,
            has_lane: self.task.lane.is_some(),
            run_at_ms: self.task.run_at.map(Timestamp::as_millisecond),
            retry: self.task.retry,
            result_ttl_ms: millis(self.task.result_ttl),
        };
        Record::new(wanted, now_ms)
    }
}

/// When it is to run is no part of it: who sends it again may mean that from the time at which it does.
fn hash(task: &NewTask) -> [u8; 32] {
    let mut hash = Sha256::new();
    let project = task.owner.project.as_ref().map_or("", |project| project.as_str());
    let lane = task.lane.as_deref().unwrap_or_default();
    let parts = [
        task.task_type.as_str().as_bytes(),
        task.priority.as_str().as_bytes(),
        task.owner.subject.as_str().as_bytes(),
        project.as_bytes(),
        lane.as_bytes(),
        task.stands_for.as_ref().unwrap_or(&task.input),
    ];
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

pub(super) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Identifiers that grow in the order in which this process gives them, whatever its clock does.
#[derive(Default)]
pub(super) struct Ids(Mutex<(i64, u16)>);

impl Ids {
    pub(super) fn next(&self, now_ms: i64, random: [u8; 8]) -> TaskId {
        let (at_ms, number) = {
            let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *last = match last.1.checked_add(1) {
                _ if now_ms > last.0 => (now_ms.max(0), 0),
                Some(number) => (last.0, number),
                None => (last.0 + 1, 0),
            };
            *last
        };
        let text = format!("{at_ms:012x}{number:04x}{:016x}", u64::from_be_bytes(random));
        TaskId::try_from(text).expect("hex digits are an identifier")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_even_while_the_clock_goes_back() {
        let ids = Ids::default();
        let mut all: Vec<TaskId> = [1_800_000_000_000, 1_800_000_000_000, 1_700_000_000_000]
            .map(|now_ms| ids.next(now_ms, [0xff; 8]))
            .into();
        for _ in 0..70_000 {
            all.push(ids.next(1_800_000_000_001, [0; 8]));
        }
        assert!(all.is_sorted_by(|a, b| a.as_str() < b.as_str()));
        assert!(all.iter().all(|id| id.as_str().len() == 32));
    }
}
