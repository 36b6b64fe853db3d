//! A task as it travels.

use forebay_api::{TaskError, TaskInfo, TaskPriority};
use forebay_store::queue::Task;
use serde_json::Value;

pub(crate) fn task(task: &Task) -> TaskInfo {
    TaskInfo {
        id: task.id.to_string(),
        kind: task.task_type.to_string(),
        status: task.state.as_str().to_owned(),
        priority: TaskPriority(task.priority),
        run_at: task.run_at,
        attempts: task.attempts,
        attempts_max: task.attempts_max,
        input: task.input.as_deref().map(json),
        output: task.output.as_deref().map(json),
        error: task.error.as_ref().map(|error| TaskError {
            code: error.code.clone(),
            message: error.message.clone(),
            hint: error.hint.clone(),
        }),
        created_at: task.created_at,
        started_at: task.started_at,
        completed_at: task.completed_at,
        expires_at: task.expires_at,
        idempotency_key: task.idempotency_key.clone(),
        context_id: task.context_id.clone(),
    }
}

/// Inputs and outputs are JSON when they are written.
fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}
