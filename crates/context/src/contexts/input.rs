//! What the five types of task are submitted with: read and checked before anything is queued, and again when it runs,
//! since a task may be submitted without us.

use super::{
    config::ContextsSettings,
    node::{self, Draft, Given},
};
use bytes::Bytes;
use forebay_api::{ContentType, ContextCreate, ContextNodeAdd, ContextPrompt, TaskPriority};
use forebay_domain::{
    Code, Failure, Principal,
    model::Priority,
    port::AskModel,
    task::{Queued, Retry},
};
use forebay_store::conversations::WORD_BYTES_MAX;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::time::Duration;

pub(super) const CREATE: &str = "mcp.create_context";
pub(super) const PROMPT: &str = "mcp.add_prompt";
pub(super) const ADD_NODE: &str = "mcp.add_node";
pub(super) const DELETE_NODE: &str = "mcp.delete_node";
pub(super) const DELETE: &str = "mcp.delete_context";

/// What fails while another process or an engine is away is tried again soon, since somebody may be waiting for it, for
/// half a minute on average and a minute at most: a small engine that is started again takes as long.
pub(super) const RETRY: Retry = Retry {
    attempts_max: 8,
    first: Duration::from_millis(500),
    max: Duration::from_secs(30),
};

/// Tools that one prompt may name.
const TOOLS_MAX: usize = 128;

/// Something that is about one context.
pub(super) struct About<T> {
    pub(super) context: String,
    pub(super) body: T,
}

/// Which node of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeRef {
    pub(super) node_id: String,
}

/// The context alone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whole {}

pub(super) fn read<T: DeserializeOwned>(input: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(input).map_err(|fault| unreadable(&fault))
}

/// A body, and beside its members `context_id`.
pub(super) fn read_about<T: DeserializeOwned>(input: &[u8]) -> Result<About<T>, Failure> {
    let mut members: Map<String, Value> = read(input)?;
    let Some(Value::String(context)) = members.remove("context_id") else {
        return Err(invalid(
            "`context_id` says which context it is about, and is not there.",
        ));
    };
    let body = T::deserialize(Value::Object(members)).map_err(|fault| unreadable(&fault))?;
    Ok(About { context, body })
}

pub(super) fn write_about(context: &str, body: &impl Serialize) -> Result<Value, Failure> {
    let mut value = write(body)?;
    value["context_id"] = json!(context);
    Ok(value)
}

pub(super) fn write(body: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(body)
        .map_err(|fault| Failure::new(Code::InternalError, "A request cannot be written.").caused_by(fault))
}

fn unreadable(fault: &serde_json::Error) -> Failure {
    invalid(format!("The input of the task is not as it should be: {fault}."))
        .hint("docs/contexts.md shows what each type of task takes.")
}

pub(super) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(Code::InvalidRequest, message)
}

/// A context to be made, checked.
pub(super) fn check_create(new: &ContextCreate, settings: &ContextsSettings) -> Result<Vec<Draft>, Failure> {
    word("model_id", &new.model_id)?;
    label(new.user_id.as_deref())?;
    node::metadata(&new.metadata)?;
    let nodes_max = settings.nodes_max();
    if u64::try_from(new.nodes.len()).unwrap_or(u64::MAX) > nodes_max {
        let message = format!(
            "`nodes` has {} nodes; a context has at most {nodes_max}.",
            new.nodes.len()
        );
        return Err(Failure::new(Code::ContextFull, message).hint("Begin with what matters of it."));
    }
    let drafts = new.nodes.iter().enumerate().map(|(index, node)| {
        if node.parent_id.is_some() {
            let message = format!("`nodes[{index}].parent_id` names a node of a context that has none yet.");
            return Err(invalid(message).hint("Leave it out: each node belongs to the one before it."));
        }
        let given = Given {
            content: &node.content,
            content_type: node.content_type,
            role: node.role,
            metadata: &node.metadata,
        };
        given.draft(settings.node_bytes_max()).map_err(|mut failure| {
            failure.message = format!("`nodes[{index}]`: {}", failure.message);
            failure
        })
    });
    drafts.collect()
}

/// A prompt, checked: the node that it becomes.
pub(super) fn check_prompt(prompt: &ContextPrompt, settings: &ContextsSettings) -> Result<Draft, Failure> {
    if prompt.prompt.is_empty() {
        return Err(invalid("`prompt` is empty.").hint("Say what the model is to be asked."));
    }
    label(prompt.user_id.as_deref())?;
    if prompt.max_tokens == Some(0) {
        return Err(invalid("`max_tokens` is 0.").hint("Leave it out, or send a number above."));
    }
    if let Some(temperature) = prompt.temperature
        && !(0.0..=2.0).contains(&temperature)
    {
        return Err(invalid("`temperature` is not within 0 and 2."));
    }
    if prompt.tools.as_ref().is_some_and(|tools| tools.len() > TOOLS_MAX) {
        return Err(invalid(format!("`tools` has more than {TOOLS_MAX} tools.")));
    }
    let content = Value::String(prompt.prompt.clone());
    let given = Given {
        content: &content,
        content_type: ContentType::Text,
        role: Some(forebay_api::NodeRole::User),
        metadata: &prompt.metadata,
    };
    given.draft(settings.node_bytes_max())
}

/// A node to be added, checked.
pub(super) fn check_node(node: &ContextNodeAdd, settings: &ContextsSettings) -> Result<Draft, Failure> {
    if let Some(parent) = &node.parent_id {
        word("parent_id", parent)?;
    }
    let given = Given {
        content: &node.content,
        content_type: node.content_type,
        role: node.role,
        metadata: &node.metadata,
    };
    given.draft(settings.node_bytes_max())
}

/// Refuses a model that this principal may not ask, or that is not there.
pub(super) fn check_model(models: &dyn AskModel, principal: &Principal, name: &str) -> Result<(), Failure> {
    principal.require(&forebay_domain::Action::model(name))?;
    let all = models.models(principal);
    if all.iter().any(|model| model.name == name) {
        return Ok(());
    }
    let names: Vec<&str> = all.iter().map(|model| model.name.as_str()).take(20).collect();
    let hint = if names.is_empty() {
        "No model is configured that you may use; an administrator adds them under `models:`.".to_owned()
    } else {
        format!("You may use: {}.", names.join(", "))
    };
    let message = format!("There is no model `{}`.", name.escape_debug());
    Err(Failure::new(Code::UnknownModel, message).hint(hint))
}

/// How urgent it is: as the body says, unless somebody says so beside it.
pub(super) fn priority(said: Option<TaskPriority>, asked: Option<Priority>) -> Priority {
    asked.or(said.map(|said| said.0)).unwrap_or_default()
}

/// What a prompt may do more than once: it asks a model, which has no effects unless it is given tools.
pub(super) fn prompt_retry(prompt: &ContextPrompt) -> Retry {
    match &prompt.tools {
        Some(tools) if !tools.is_empty() => Retry::NEVER,
        _ => RETRY,
    }
}

/// How a task is queued that somebody submits by itself.
pub(super) fn queued(kind: &str, input: &[u8], retry: Retry) -> Queued {
    let members: Value = serde_json::from_slice(input).unwrap_or_default();
    let priority = members.get("priority").cloned();
    let priority = priority.and_then(|said| serde_json::from_value::<TaskPriority>(said).ok());
    Queued {
        retry,
        context_id: members.get("context_id").and_then(Value::as_str).map(str::to_owned),
        priority: priority.map(|said| said.0),
        stands_for: Some(stands_for(kind, members)),
    }
}

/// What its idempotency key stands for: what is to be done, and not how that is told. How urgent it is counts by itself.
pub(super) fn stands_for(kind: &str, mut body: Value) -> Bytes {
    if let Some(members) = body.as_object_mut() {
        for telling in ["stream", "return_context", "priority"] {
            members.remove(telling);
        }
        if kind == PROMPT {
            // A label that is kept nowhere.
            members.remove("user_id");
        }
    }
    body.to_string().into()
}

fn word(what: &str, text: &str) -> Result<(), Failure> {
    if text.is_empty() || text.len() > WORD_BYTES_MAX || text.contains('\0') {
        return Err(invalid(format!(
            "`{what}` is empty, or longer than {WORD_BYTES_MAX} bytes, or no text."
        )));
    }
    Ok(())
}

fn label(label: Option<&str>) -> Result<(), Failure> {
    match label {
        Some(label) if label.len() > WORD_BYTES_MAX || label.contains('\0') => Err(invalid(format!(
            "`user_id` is longer than {WORD_BYTES_MAX} bytes, or no text."
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_named_beside_a_body_that_has_nothing_else() {
        let read = |body: &str| read_about::<NodeRef>(body.as_bytes()).map(|about| (about.context, about.body.node_id));
        assert_eq!(
            read(r#"{"context_id":"ctx_1","node_id":"node_1"}"#).unwrap(),
            ("ctx_1".to_owned(), "node_1".to_owned())
        );
        for odd in [
            r#"{"node_id":"node_1"}"#,
            r#"{"context_id":1,"node_id":"node_1"}"#,
            r#"{"context_id":"ctx_1","node_id":"node_1","more":1}"#,
            r#"{"context_id":"ctx_1"}"#,
            "[]",
            "",
        ] {
            assert_eq!(read(odd).unwrap_err().code, Code::InvalidRequest, "{odd}");
        }
        let written = write_about(
            "ctx_1",
            &NodeRef {
                node_id: "node_1".to_owned(),
            },
        )
        .unwrap();
        assert_eq!(written, json!({ "context_id": "ctx_1", "node_id": "node_1" }));
        let whole = write_about("ctx_1", &Whole {}).unwrap();
        assert_eq!(
            read_about::<Whole>(whole.to_string().as_bytes()).unwrap().context,
            "ctx_1"
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let settings = ContextsSettings::default();
        let prompt = |body: Value| {
            let read: ContextPrompt = serde_json::from_value(body).unwrap();
            check_prompt(&read, &settings).map(drop).map_err(|failure| failure.code)
        };
        assert_eq!(prompt(json!({ "prompt": "Hi" })), Ok(()));
        for odd in [
            json!({ "prompt": "" }),
            json!({ "prompt": "Hi", "max_tokens": 0 }),
            json!({ "prompt": "Hi", "temperature": 2.1 }),
            json!({ "prompt": "Hi", "user_id": "x".repeat(257) }),
            json!({ "prompt": "Hi", "tools": vec![json!({}); 129] }),
        ] {
            assert_eq!(prompt(odd.clone()), Err(Code::InvalidRequest), "{odd}");
        }
        let create = |body: Value| {
            let read: ContextCreate = serde_json::from_value(body).unwrap();
            check_create(&read, &settings)
                .map(|drafts| drafts.len())
                .map_err(|failure| (failure.code, failure.message))
        };
        assert_eq!(create(json!({ "model_id": "m", "nodes": [{ "content": "a" }] })), Ok(1));
        let (code, message) =
            create(json!({ "model_id": "m", "nodes": [{ "content": "a" }, { "content": 1 }] })).unwrap_err();
        assert_eq!(
            (code, message.as_str()),
            (Code::InvalidRequest, "`nodes[1]`: `content` is not a text.")
        );
        let parent = json!({ "model_id": "m", "nodes": [{ "content": "a", "parent_id": "node_1" }] });
        assert_eq!(create(parent).unwrap_err().0, Code::InvalidRequest);
        let many = json!({ "model_id": "m", "nodes": vec![json!({ "content": "a" }); 1_001] });
        assert_eq!(create(many).unwrap_err().0, Code::ContextFull);
        assert_eq!(create(json!({ "model_id": "" })).unwrap_err().0, Code::InvalidRequest);
    }

    #[test]
    fn a_key_stands_for_what_is_done_and_not_for_how_it_is_told() {
        let of = |kind: &str, body: Value| queued(kind, body.to_string().as_bytes(), RETRY).stands_for;
        let plain = of(PROMPT, json!({ "context_id": "ctx_1", "prompt": "Hi" }));
        let told = json!({ "prompt": "Hi", "context_id": "ctx_1", "stream": true, "return_context": true,
            "user_id": "somebody", "priority": "high" });
        assert_eq!(of(PROMPT, told), plain);
        for other in [
            json!({ "context_id": "ctx_2", "prompt": "Hi" }),
            json!({ "context_id": "ctx_1", "prompt": "Hi!" }),
            json!({ "context_id": "ctx_1", "prompt": "Hi", "max_tokens": 1 }),
        ] {
            assert_ne!(of(PROMPT, other), plain);
        }
        let made = |body| of(CREATE, body);
        let (bare, labelled) = (
            json!({ "model_id": "m" }),
            json!({ "model_id": "m", "user_id": "somebody" }),
        );
        assert_eq!(
            made(json!({ "model_id": "m", "return_context": false })),
            made(bare.clone())
        );
        assert_ne!(made(labelled), made(bare), "it is kept");
    }

    #[test]
    fn what_is_submitted_by_itself_says_how_urgent_it_is() {
        let of = |priority: Value| {
            let input = json!({ "context_id": "ctx_1", "prompt": "Hi", "priority": priority });
            queued(PROMPT, input.to_string().as_bytes(), RETRY).priority
        };
        assert_eq!(
            [of(json!("high")), of(json!(1)), of(json!(null))],
            [Some(Priority::High), Some(Priority::Low), None]
        );
    }

    #[test]
    fn what_may_have_effects_is_done_once() {
        let retry = |body: Value| prompt_retry(&serde_json::from_value(body).unwrap());
        assert_eq!(retry(json!({ "prompt": "Hi" })), RETRY);
        assert_eq!(retry(json!({ "prompt": "Hi", "tools": [] })), RETRY);
        assert_eq!(retry(json!({ "prompt": "Hi", "tools": [{}] })), Retry::NEVER);
    }
}
