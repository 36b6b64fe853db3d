//! Durable tasks: work that is done later, and outlives whoever asked for it.

use super::contexts::TaskPriority;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// Work that is to be done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskCreate {
    /// What is to be done: `mcp.add_prompt`, `tools/call`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is to be done with; what that looks like is the type's own business.
    #[serde(default)]
    pub input: Value,
    /// `low`, `medium`, `high` or `critical`, or 1 to 4; `medium` where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = super::contexts::priority)]
    pub priority: Option<TaskPriority>,
    /// It does not begin before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// The same key makes one task, however often it is sent. The header `Idempotency-Key` says the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// A task as its owner sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskInfo {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// `pending`, `scheduled`, `running`, `completed`, `failed`, `cancelled` or `dead`.
    pub status: String,
    /// `low`, `medium`, `high` or `critical`.
    #[schema(value_type = String)]
    pub priority: TaskPriority,
    /// When it may begin; after a failure, when it is tried again.
    pub run_at: Timestamp,
    /// How often it has begun.
    pub attempts: u32,
    /// How often it may begin.
    pub attempts_max: u32,
    /// What it was to be done with, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Why it failed; where it is tried again, why it failed the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
    pub created_at: Timestamp,
    /// When it first began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it came to its end, whichever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// When it is forgotten, with its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The context that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_id: Option<String>,
}

impl TaskInfo {
    /// Whether nothing more becomes of it by itself.
    pub fn is_over(&self) -> bool {
        matches!(&self.status[..], "completed" | "failed" | "cancelled" | "dead")
    }

    /// Whether it has failed, so that it may be queued again.
    pub fn may_be_requeued(&self) -> bool {
        matches!(&self.status[..], "failed" | "dead")
    }
}

/// Why a task failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskError {
    /// One of the error codes of the gateway.
    pub code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Particulars for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

/// One page of tasks, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskList {
    pub tasks: Vec<TaskInfo>,
    /// Where the next page begins, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TaskQuery {
    /// Only those in this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Only those of this type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// At most so many; 100 where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// How one task is shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TaskShow {
    /// Wait for its end, for so long at most: `30s`, `2m`, or a number of seconds; five minutes are the most. Then it is
    /// shown as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
    /// With its input.
    pub input: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_domain::model::Priority;
    use serde_json::json;

    #[test]
    fn a_priority_is_a_word_or_a_number() {
        for (priority, expected) in [
            (json!("high"), Some(Priority::High)),
            (json!(1), Some(Priority::Low)),
            (json!(null), None),
        ] {
            let body: TaskCreate = serde_json::from_value(json!({"type": "x", "priority": priority})).unwrap();
            assert_eq!(body.priority.map(|given| given.0), expected);
        }
        assert!(serde_json::from_value::<TaskCreate>(json!({"type": "x", "priority": 5})).is_err());
        assert!(serde_json::from_value::<TaskCreate>(json!({"type": "x", "user": 1})).is_err());
    }
}
