//! The five types of task. Each may run twice, and has its effect once: what it makes has ids made of the task's own.

mod append;
mod create;
mod delete;
mod nodes;
mod of;
mod prompt;

use super::{Inner, input};
use bytes::Bytes;
use forebay_api::ContextInfo;
use forebay_domain::{
    Code, ErrorKind, Failure,
    port::RunTask,
    task::{BODY_BYTES_MAX, TaskFault, TypeLimits},
};
use forebay_store::conversations::StoredConversation;
use of::Of;
use serde::Serialize;
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// Runs of one type in one process, unless the configuration says otherwise: prompts wait for engines and take nothing of
/// this machine meanwhile.
const PROMPTS_MAX: u32 = 64;
const CHANGES_MAX: u32 = 16;
/// A small engine on a slow machine takes its time.
const PROMPT_TIMEOUT: Duration = Duration::from_mins(15);
const CHANGE_TIMEOUT: Duration = Duration::from_mins(1);

pub(super) fn all(inner: &Arc<Inner>) -> Vec<Arc<dyn RunTask>> {
    vec![
        Arc::new(create::Create(inner.clone())),
        Arc::new(Of(inner.clone(), prompt::Prompt)),
        Arc::new(Of(inner.clone(), nodes::Add)),
        Arc::new(Of(inner.clone(), nodes::Delete)),
        Arc::new(Of(inner.clone(), delete::Delete)),
    ]
}

/// How long one run of a type may take.
pub(super) fn timeout(task_type: &str) -> Duration {
    if task_type == input::PROMPT {
        PROMPT_TIMEOUT
    } else {
        CHANGE_TIMEOUT
    }
}

fn limits(task_type: &str) -> TypeLimits {
    TypeLimits {
        concurrency: if task_type == input::PROMPT {
            PROMPTS_MAX
        } else {
            CHANGES_MAX
        },
        timeout: timeout(task_type),
        retry: input::RETRY,
    }
}

/// What may have passed in a while is tried again.
fn fault(failure: Failure) -> TaskFault {
    let may_pass = matches!(failure.kind(), ErrorKind::Unavailable | ErrorKind::RateLimited);
    // Tools have run before it failed: they are not to run again.
    let has_effects = failure
        .details
        .as_ref()
        .is_some_and(|details| details.get("ran").is_some());
    TaskFault {
        retryable: may_pass && !has_effects,
        failure,
    }
}

/// The output of a task: its whole answer, or as much of that as a task may keep. The rest stands in the context.
fn output(answer: &impl Serialize) -> Result<Bytes, Failure> {
    let mut value = serde_json::to_value(answer)
        .map_err(|fault| Failure::new(Code::InternalError, "The output cannot be written.").caused_by(fault))?;
    let mut text = value.to_string();
    for lighten in [without_context, without_contents] {
        if text.len() > BODY_BYTES_MAX {
            lighten(&mut value);
            text = value.to_string();
        }
    }
    Ok(text.into())
}

fn without_context(answer: &mut Value) {
    if let Some(members) = answer.as_object_mut() {
        members.remove("context");
        members.remove("nodes");
    }
}

fn without_contents(answer: &mut Value) {
    for name in ["prompt_node", "node"] {
        if let Some(node) = answer.get_mut(name) {
            node["content"] = Value::Null;
            node["metadata"] = serde_json::json!({});
        }
    }
}

impl Inner {
    /// The whole context for whoever asked for it beside an answer.
    async fn whole(&self, found: &StoredConversation) -> Result<ContextInfo, Failure> {
        let nodes = self.conversations.nodes(found).await?;
        Ok(super::info(found, Some(&nodes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_output_that_is_too_large_says_less() {
        let members = |answer: &Value| -> Vec<String> {
            let bytes = output(answer).unwrap();
            assert!(bytes.len() <= BODY_BYTES_MAX);
            let read: Value = serde_json::from_slice(&bytes).unwrap();
            let told = read.as_object().unwrap().iter();
            told.map(|(name, value)| {
                if value["content"].is_null() {
                    format!("-{name}")
                } else {
                    name.clone()
                }
            })
            .collect()
        };
        let node = |bytes: usize| json!({ "content": "x".repeat(bytes), "metadata": {} });
        let half = BODY_BYTES_MAX / 2 + 1;
        assert_eq!(
            members(&json!({ "node": node(1), "context": node(1) })),
            ["context", "node"]
        );
        assert_eq!(members(&json!({ "node": node(half), "context": node(half) })), ["node"]);
        assert_eq!(
            members(&json!({ "node": node(half), "prompt_node": node(half) })),
            ["-node", "-prompt_node"]
        );
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let retryable = |code| fault(Failure::new(code, "…")).retryable;
        assert!(retryable(Code::StoreUnavailable) && retryable(Code::RateLimited) && retryable(Code::Overloaded));
        assert!(!retryable(Code::UnknownContext) && !retryable(Code::SpendingLimitExceeded));
        let ran = Failure::new(Code::Overloaded, "…").details(json!({ "ran": ["web_post"] }));
        assert!(!fault(ran).retryable);
    }
}
