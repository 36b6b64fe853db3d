//! A task as it travels.

use forebay_api::{TaskError, TaskInfo, TaskPriority};
use forebay_domain::{
    Principal,
    task::{State, TaskError as Kept, TaskId},
};
use forebay_store::queue::{NewTask, Submitted, Task};
use jiff::Timestamp;
use serde_json::Value;

/// What somebody sees of a task. What it was given and what came of it is shown to nobody but whoever submitted it.
pub(crate) fn task(task: &Task, principal: &Principal) -> TaskInfo {
    let body = |body: &Option<bytes::Bytes>| {
        let shown = body.as_deref().filter(|_| forebay_work::is_own(principal, &task.owner));
        shown.map(json)
    };
    TaskInfo {
        id: task.id.to_string(),
        kind: task.task_type.to_string(),
        status: task.state.as_str().to_owned(),
        priority: TaskPriority(task.priority),
        run_at: task.run_at,
        attempts: task.attempts,
        attempts_max: task.attempts_max,
        input: body(&task.input),
        output: body(&task.output),
        error: task.error.as_ref().map(|error| TaskError {
            code: error.code.clone(),
            message: error.message.clone(),
            hint: error.hint.clone(),
            details: details(error),
        }),
        created_at: task.created_at,
        started_at: task.started_at,
        completed_at: task.completed_at,
        expires_at: task.expires_at,
        idempotency_key: task.idempotency_key.clone(),
        context_id: task.context_id.clone(),
    }
}

/// A task as it was taken in, for when the store cannot show it: that it is kept is certain.
pub(crate) fn taken(new: &NewTask, submitted: &Submitted) -> TaskInfo {
    let created_at = made_at(&submitted.id);
    let has_begun = !matches!(submitted.state, State::Pending | State::Scheduled);
    TaskInfo {
        id: submitted.id.to_string(),
        kind: new.task_type.to_string(),
        status: submitted.state.as_str().to_owned(),
        priority: TaskPriority(new.priority),
        run_at: new.run_at.unwrap_or(created_at),
        attempts: has_begun.into(),
        attempts_max: new.retry.attempts_max,
        input: None,
        output: None,
        error: None,
        created_at,
        started_at: None,
        completed_at: None,
        expires_at: None,
        idempotency_key: new.idempotency_key.clone(),
        context_id: new.context_id.clone(),
    }
}

/// The particulars of why a task failed.
pub(crate) fn details(error: &Kept) -> Option<Value> {
    serde_json::from_str(error.details.as_deref()?).ok()
}

/// The time in the name of a task: it begins with the milliseconds at which it was given, as twelve hex digits.
fn made_at(id: &TaskId) -> Timestamp {
    let ms = id.as_str().get(..12).map(|digits| i64::from_str_radix(digits, 16));
    let at = ms.and_then(Result::ok).map(Timestamp::from_millisecond);
    at.and_then(Result::ok).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Inputs and outputs are JSON when they are written.
fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_says_when_it_was_made() {
        let at = |id: &str| made_at(&TaskId::try_from(id).unwrap()).as_millisecond();
        assert_eq!(at("019aa5c5a8000000deadbeef00c0ffee"), 1_763_717_785_600);
        assert_eq!(at("short"), 0);
    }
}
