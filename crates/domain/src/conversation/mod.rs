//! Conversations that the gateway keeps: nodes in order, of which each says who speaks.
//!
//! The API calls one a context. In here the word is taken: a context is what providers find for a prompt.

mod fit;

pub use fit::{Fitted, Misfit, Truncation, Weighed, fit, tokens_of};

/// Who speaks in a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeRole {
    /// How the model should behave. It is never left out.
    System,
    User,
    Assistant,
    /// What a tool answered that the client ran.
    Tool,
}

impl NodeRole {
    pub const ALL: [Self; 4] = [Self::System, Self::User, Self::Assistant, Self::Tool];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// What the content of a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContentKind {
    Text,
    /// One JSON document.
    Json,
}

impl ContentKind {
    pub const ALL: [Self; 2] = [Self::Text, Self::Json];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What becomes of a new conversation where its tenant has as many as it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnFull {
    #[default]
    Refuse,
    /// The one that was not used for longest makes room.
    EvictOldest,
}
