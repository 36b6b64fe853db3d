//! Contexts: lists of nodes that a conversation is made of, and what is asked within them.

use forebay_domain::model::Priority;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};
use std::fmt;
use utoipa::{
    IntoParams, ToSchema,
    openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type},
};

/// A JSON object of the caller's own: kept, and given back as it is.
pub type Metadata = Map<String, Value>;

/// How urgent a task is: `low`, `medium`, `high` or `critical`, or the numbers from 1 to 4. It is shown as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskPriority(pub Priority);

impl Serialize for TaskPriority {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for TaskPriority {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrNumber;
        impl de::Visitor<'_> for WordOrNumber {
            type Value = TaskPriority;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`low`, `medium`, `high` or `critical`, or a number from 1 to 4")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<TaskPriority, E> {
                let read = Priority::parse(word).map(TaskPriority);
                read.ok_or_else(|| E::invalid_value(de::Unexpected::Str(word), &self))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<TaskPriority, E> {
                let read = Priority::parse(&number.to_string()).map(TaskPriority);
                read.ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }
        }
        deserializer.deserialize_any(WordOrNumber)
    }
}

pub(super) fn priority() -> Schema {
    let words = Priority::ALL.iter().map(|one| one.as_str());
    let word = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words));
    let number = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(4));
    let either = OneOfBuilder::new()
        .item(word)
        .item(number)
        .item(ObjectBuilder::new().schema_type(Type::Null));
    either
        .description(Some(
            "How urgent it is: a word, or a number; `medium` where none is given",
        ))
        .build()
        .into()
}

/// What a node's content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ContentType {
    #[default]
    Text,
    /// Any JSON value. A model reads it as text.
    Json,
}

/// Who speaks in a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    System,
    User,
    Assistant,
    Tool,
}

/// A node as somebody gives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContextNodeNew {
    /// A text, or any JSON value where `content_type` is `json`.
    pub content: Value,
    #[serde(default)]
    pub content_type: ContentType,
    /// Where it is not given: `metadata.role`, and `user` where there is none either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<NodeRole>,
    /// Refused: no node of a context that is not there yet has an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub parent_id: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub metadata: Metadata,
}

/// A context to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContextCreate {
    /// The model that is asked in it.
    pub model_id: String,
    #[serde(default)]
    #[schema(max_items = 1000)]
    pub nodes: Vec<ContextNodeNew>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub metadata: Metadata,
    /// Whether the answer has the nodes; it has where this is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_context: Option<bool>,
    /// A label. Who asks is said by the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = priority)]
    pub priority: Option<TaskPriority>,
}

/// A question within a context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContextPrompt {
    pub prompt: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub metadata: Metadata,
    /// Whether the answer comes piece by piece, as events.
    #[serde(default)]
    pub stream: bool,
    /// A label. Who asks is said by the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = priority)]
    pub priority: Option<TaskPriority>,
    /// Whether the answer has the whole context too.
    #[serde(default)]
    pub return_context: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// What is looked up for the question, as in `/v1/chat/completions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_context: Option<Value>,
    /// The tools that the model may use, as in `/v1/chat/completions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<Value>>,
}

/// A node to be added to a context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContextNodeAdd {
    /// A text, or any JSON value where `content_type` is `json`.
    pub content: Value,
    #[serde(default)]
    pub content_type: ContentType,
    /// Where it is not given: `metadata.role`, and `user` where there is none either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<NodeRole>,
    /// Another node of the same context that this one belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub metadata: Metadata,
    /// Whether the answer has the whole context too.
    #[serde(default)]
    pub return_context: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = priority)]
    pub priority: Option<TaskPriority>,
}

/// What an answer was made of, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ContextUsage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub total_tokens: u64,
    /// Counted by the gateway, since the engine did not say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ContextNode {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    pub role: NodeRole,
    /// A text, or a JSON value where `content_type` is `json`.
    pub content: Value,
    pub content_type: ContentType,
    #[schema(value_type = Object)]
    pub metadata: Metadata,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ContextUsage>,
}

/// A context, with its nodes where they were asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ContextInfo {
    pub id: String,
    pub model_id: String,
    #[schema(value_type = Object)]
    pub metadata: Metadata,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// When it is removed, unless it is used before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    pub node_count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<ContextNode>>,
    /// The task that made it; only in the answer to whoever asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
}

/// Contexts without their nodes, the newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ContextList {
    pub contexts: Vec<ContextInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Which page of the contexts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ContextQuery {
    /// At most so many; 100 where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// How long an answer may be waited for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// Such as `5s` or `1m`; then the task is answered, with 202.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
}

/// How a prompt is waited for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PromptQuery {
    /// Such as `5s` or `1m`; then the task is answered, with 202.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
    /// What becomes of the prompt where its client goes away before the answer: `continue` (the default) or `cancel`.
    pub on_disconnect: OnDisconnect,
}

/// What becomes of a prompt whose client goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDisconnect {
    /// It is asked to its end, and its answer stands in the context.
    #[default]
    Continue,
    Cancel,
}

/// The answer to a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ContextPrompted {
    pub context_id: String,
    /// What the model said.
    pub node: ContextNode,
    /// What it was asked.
    pub prompt_node: ContextNode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ContextUsage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<ContextInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
}

/// A node was added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ContextNodeAdded {
    pub context_id: String,
    pub node: ContextNode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<ContextInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
}

/// A node was taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContextNodeDeleted {
    pub context_id: String,
    pub node_id: String,
    pub deleted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
}

/// A context was taken away, with all its nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContextDeleted {
    pub id: String,
    pub deleted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
}

/// A model that contexts can be made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContextModel {
    pub id: String,
}

/// The models that the caller may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContextModelList {
    pub models: Vec<ContextModel>,
}

/// Whether contexts can be worked with, and how much waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContextHealth {
    /// `ok`, or what is wrong.
    pub status: String,
    /// Tasks of all types that wait for their turn.
    pub queue_depth: u64,
    /// How long the oldest of them has waited, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_wait_s: Option<u64>,
    /// Tasks that run.
    pub running: u64,
}
