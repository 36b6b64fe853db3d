//! Nodes as somebody gives them, as the store keeps them, as they are shown, and as a model reads them.

use forebay_api::{ContentType, ContextNode, ContextUsage, Metadata, NodeRole as WireRole};
use forebay_domain::{
    Code, Failure,
    conversation::{ContentKind, NodeRole, tokens_of},
};
use forebay_store::conversations::{METADATA_BYTES_MAX, StoredNode};
use jiff::Timestamp;
use serde_json::{Value, json, value::RawValue};

/// A node that somebody wants, checked.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    role: NodeRole,
    kind: ContentKind,
    content: String,
    metadata: Box<RawValue>,
}

/// What a node is made of.
pub(super) struct Given<'a> {
    pub(super) content: &'a Value,
    pub(super) content_type: ContentType,
    pub(super) role: Option<WireRole>,
    pub(super) metadata: &'a Metadata,
}

impl Given<'_> {
    pub(super) fn draft(&self, bytes_max: usize) -> Result<Draft, Failure> {
        let (kind, content) = match (self.content_type, self.content) {
            // What no database takes stands for nothing in a text.
            (ContentType::Text, Value::String(text)) => (ContentKind::Text, text.replace('\0', "\u{fffd}")),
            (ContentType::Text, _) => {
                let message = "`content` is not a text.";
                return Err(invalid(message).hint("Send a JSON string, or say `\"content_type\": \"json\"`."));
            }
            (ContentType::Json, value) => (ContentKind::Json, value.to_string()),
        };
        if content.len() > bytes_max {
            let message = format!("`content` has {} bytes; a node has at most {bytes_max}.", content.len());
            return Err(Failure::new(Code::BodyTooLarge, message).hint("Send it in several nodes, or less of it."));
        }
        let role = self.role()?;
        if role == NodeRole::Tool && !self.metadata.get("tool_call_id").is_some_and(Value::is_string) {
            let message = "A node of the role `tool` says in `metadata.tool_call_id` which call it answers.";
            return Err(invalid(message).hint("Take the id from `metadata.tool_calls` of the assistant's node."));
        }
        Ok(Draft {
            role,
            kind,
            content,
            metadata: metadata(self.metadata)?,
        })
    }

    /// The field, or what the metadata say, or whoever talks to a model.
    fn role(&self) -> Result<NodeRole, Failure> {
        if let Some(role) = self.role {
            return Ok(role_of(role));
        }
        match self.metadata.get("role") {
            None => Ok(NodeRole::User),
            Some(said) => said.as_str().and_then(NodeRole::parse).ok_or_else(|| {
                let words = NodeRole::ALL.map(NodeRole::as_str).join("`, `");
                invalid("`metadata.role` is no role of a node.").hint(format!("There are `{words}`."))
            }),
        }
    }
}

/// Metadata as they are kept.
pub(super) fn metadata(metadata: &Metadata) -> Result<Box<RawValue>, Failure> {
    let raw = serde_json::value::to_raw_value(metadata)
        .map_err(|fault| Failure::new(Code::InternalError, "The metadata cannot be written.").caused_by(fault))?;
    let bytes = raw.get().len();
    if bytes > METADATA_BYTES_MAX {
        let message = format!("`metadata` has {bytes} bytes; there are at most {METADATA_BYTES_MAX}.");
        return Err(Failure::new(Code::BodyTooLarge, message).hint("Keep it elsewhere, and only its name here."));
    }
    Ok(raw)
}

/// A time as it is kept: what is answered now reads the same later.
pub(super) fn kept(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).expect("it is coarser than a time that there is")
}

impl Draft {
    /// What a model said.
    pub(super) fn answer(content: &str, metadata: Box<RawValue>) -> Self {
        Self {
            role: NodeRole::Assistant,
            kind: ContentKind::Text,
            content: content.replace('\0', "\u{fffd}"),
            metadata,
        }
    }

    /// The node of a place among those that its task makes.
    pub(super) fn node(self, task: &str, place: usize, at: Timestamp) -> StoredNode {
        StoredNode {
            id: format!("node_{}_{place}", tail(task)),
            parent: None,
            role: self.role,
            kind: self.kind,
            content: self.content,
            metadata: self.metadata,
            usage: None,
            task: task.to_owned(),
            created_at: kept(at),
        }
    }
}

/// The id of the context that a task makes.
pub(super) fn context_id(task: &str) -> String {
    format!("ctx_{}", tail(task))
}

/// What tells tasks apart.
fn tail(task: &str) -> &str {
    task.strip_prefix("task_").unwrap_or(task)
}

fn role_of(role: WireRole) -> NodeRole {
    match role {
        WireRole::System => NodeRole::System,
        WireRole::User => NodeRole::User,
        WireRole::Assistant => NodeRole::Assistant,
        WireRole::Tool => NodeRole::Tool,
    }
}

/// A node as its owner gets it.
pub(super) fn shown(node: &StoredNode) -> ContextNode {
    let content = match node.kind {
        ContentKind::Text => Value::String(node.content.clone()),
        ContentKind::Json => serde_json::from_str(&node.content).unwrap_or_default(),
    };
    ContextNode {
        id: node.id.clone(),
        parent_id: node.parent.clone(),
        role: match node.role {
            NodeRole::System => WireRole::System,
            NodeRole::User => WireRole::User,
            NodeRole::Assistant => WireRole::Assistant,
            NodeRole::Tool => WireRole::Tool,
        },
        content,
        content_type: match node.kind {
            ContentKind::Text => ContentType::Text,
            ContentKind::Json => ContentType::Json,
        },
        metadata: object(&node.metadata),
        created_at: node.created_at,
        usage: node.usage.map(|usage| ContextUsage {
            prompt_tokens: usage.input_tokens,
            completion_tokens: usage.output_tokens,
            total_tokens: usage.input_tokens.saturating_add(usage.output_tokens),
            estimated: usage.estimated,
        }),
    }
}

/// Metadata as somebody gave them.
pub(super) fn object(raw: &RawValue) -> Metadata {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// A node as a message of a chat.
pub(super) fn message(node: &StoredNode) -> Value {
    let metadata = object(&node.metadata);
    let mut message = json!({ "role": node.role.as_str(), "content": text(node) });
    match node.role {
        NodeRole::Assistant => {
            if let Some(calls) = metadata.get("tool_calls").filter(|calls| calls.is_array()) {
                message["tool_calls"] = calls.clone();
            }
        }
        NodeRole::Tool => message["tool_call_id"] = metadata.get("tool_call_id").cloned().unwrap_or_default(),
        NodeRole::System | NodeRole::User => {}
    }
    message
}

/// What a node takes of a budget, estimated.
pub(super) fn tokens(node: &StoredNode) -> usize {
    tokens_of(&node.content)
}

/// JSON is text to a model; a text in JSON is that text.
fn text(node: &StoredNode) -> String {
    match node.kind {
        ContentKind::Text => node.content.clone(),
        ContentKind::Json => match serde_json::from_str(&node.content) {
            Ok(Value::String(text)) => text,
            _ => node.content.clone(),
        },
    }
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(Code::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(body: &Value) -> Result<StoredNode, Failure> {
        let read: forebay_api::ContextNodeAdd = serde_json::from_value(body.clone()).unwrap();
        let given = Given {
            content: &read.content,
            content_type: read.content_type,
            role: read.role,
            metadata: &read.metadata,
        };
        Ok(given.draft(100)?.node("task_7", 3, Timestamp::UNIX_EPOCH))
    }

    #[test]
    fn a_role_is_said_in_the_field_or_in_the_metadata() {
        let role = |body: Value| {
            draft(&body)
                .map(|node| node.role.as_str())
                .map_err(|failure| failure.code)
        };
        assert_eq!(role(json!({ "content": "x" })), Ok("user"));
        assert_eq!(
            role(json!({ "content": "x", "metadata": { "role": "system" } })),
            Ok("system")
        );
        let both = json!({ "content": "x", "role": "assistant", "metadata": { "role": "system" } });
        assert_eq!(role(both), Ok("assistant"));
        for odd in [json!("emperor"), json!(7)] {
            let body = json!({ "content": "x", "metadata": { "role": odd } });
            assert_eq!(role(body), Err(Code::InvalidRequest));
        }
        assert_eq!(
            role(json!({ "content": "x", "role": "tool" })),
            Err(Code::InvalidRequest)
        );
        let answers = json!({ "content": "x", "role": "tool", "metadata": { "tool_call_id": "call_1" } });
        assert_eq!(role(answers), Ok("tool"));
    }

    #[test]
    fn what_goes_in_comes_out_and_a_model_reads_it_as_text() {
        let check = |body: Value, read: Value| {
            let node = draft(&body).unwrap();
            assert_eq!((node.id.as_str(), node.task.as_str()), ("node_7_3", "task_7"));
            let wire = shown(&node);
            assert_eq!(wire.content, body["content"]);
            assert_eq!(message(&node), read);
        };
        check(json!({ "content": "Hi" }), json!({ "role": "user", "content": "Hi" }));
        let of_json = |content: Value| json!({ "content": content, "content_type": "json" });
        check(
            of_json(json!({ "a": [1, "\0"] })),
            json!({ "role": "user", "content": r#"{"a":[1,"\u0000"]}"# }),
        );
        check(of_json(json!("Hi")), json!({ "role": "user", "content": "Hi" }));
        let calls = json!([{ "id": "call_1", "type": "function", "function": { "name": "f", "arguments": "{}" } }]);
        check(
            json!({ "content": "", "role": "assistant", "metadata": { "tool_calls": calls } }),
            json!({ "role": "assistant", "content": "", "tool_calls": calls }),
        );
        check(
            json!({ "content": "42", "role": "tool", "metadata": { "tool_call_id": "call_1" } }),
            json!({ "role": "tool", "content": "42", "tool_call_id": "call_1" }),
        );
    }

    #[test]
    fn a_content_is_of_its_type_and_within_its_bounds() {
        let code = |body: Value| draft(&body).map(drop).map_err(|failure| failure.code);
        assert_eq!(code(json!({ "content": 7 })), Err(Code::InvalidRequest));
        assert_eq!(code(json!({ "content": "x".repeat(100) })), Ok(()));
        assert_eq!(code(json!({ "content": "x".repeat(101) })), Err(Code::BodyTooLarge));
        let metadata = json!({ "long": "x".repeat(METADATA_BYTES_MAX) });
        assert_eq!(
            code(json!({ "content": "", "metadata": metadata })),
            Err(Code::BodyTooLarge)
        );
        assert_eq!(draft(&json!({ "content": "a\0b" })).unwrap().content, "a\u{fffd}b");
    }
}
