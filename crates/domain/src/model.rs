//! Asking a model: the request and the answer as every surface hands them over.
//!
//! Bodies stay bytes. What the gateway does not know must reach the other side as it came, so nothing here is a typed
//! copy of somebody's API.

mod heard;

pub use heard::Events;

use crate::Failure;
use bytes::Bytes;
use futures_util::{Stream, future::ready, stream};
use std::pin::Pin;

/// One request to a configured model.
#[derive(Debug, Clone)]
pub struct ModelRequest {
    /// Whose API the body is written in, and so the answer.
    pub endpoint: Endpoint,
    /// The name under which the configuration lists the model.
    pub model: String,
    /// The whole body as the client sent it: a JSON object, already checked by `json::check_strict`.
    pub body: Bytes,
    pub hints: Hints,
}

/// What a request says beside its body.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// The header `x-forebay-mcp-context`: a JSON object like the field `mcp_context`, for clients that cannot add a
    /// field to their body. The field wins.
    pub context: Option<Bytes>,
    /// Where the client reaches the gateway, without a slash at the end.
    pub base_url: Option<String>,
    /// How urgent it is among those that wait for the same model.
    pub priority: Priority,
}

/// How urgent something is. Larger is more urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    Low = 1,
    #[default]
    Medium = 2,
    High = 3,
    Critical = 4,
}

impl Priority {
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// A word, or its number.
    pub fn parse(text: &str) -> Option<Self> {
        let named =
            |priority: &Self| text.eq_ignore_ascii_case(priority.as_str()) || text == (*priority as u8).to_string();
        Self::ALL.into_iter().find(named)
    }
}

/// The APIs in which a model can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// OpenAI's `chat/completions`.
    Chat,
    /// OpenAI's `completions`: a prompt and no messages.
    Completions,
    /// OpenAI's `embeddings`.
    Embeddings,
    /// OpenAI's `responses`.
    Responses,
    /// Anthropic's `messages`.
    Messages,
}

impl Endpoint {
    pub const ALL: [Self; 5] = [
        Self::Chat,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::Messages,
    ];

    /// Its path below `/v1`, and below a backend's base address.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "chat/completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Responses => "responses",
            Self::Messages => "messages",
        }
    }
}

/// An answer, complete or on its way. Dropping it cancels the upstream request.
pub enum Answer {
    /// One JSON document.
    Whole(Bytes),
    /// Server-sent events of the endpoint's own kind, chunk by chunk as the engine sends them.
    Events(Body),
}

impl Answer {
    pub fn form(&self) -> AnswerForm {
        match self {
            Self::Whole(_) => AnswerForm::Whole,
            Self::Events(_) => AnswerForm::Events,
        }
    }

    /// What it says, however it is framed.
    pub fn into_body(self) -> Body {
        match self {
            Self::Whole(document) => Box::pin(stream::once(ready(Ok(document)))),
            Self::Events(body) => body,
        }
    }
}

/// The bytes of an answer as they come.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, Failure>> + Send>>;

/// How the answer is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerForm {
    /// One JSON document.
    Whole,
    /// Server-sent events.
    Events,
}

/// A model as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    pub name: String,
    /// The engine behind it, where configured (`vllm`, `llamacpp`, …).
    pub engine: Option<String>,
    /// So many tokens it reads and says in all, where configured.
    pub context_tokens: Option<u64>,
}
