//! Calling a tool, as whoever is no MCP client asks for it: the tool loop of a chat, a provider of context.

use crate::money::Usd;
use serde_json::value::RawValue;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// A tool as a caller may see it.
#[derive(Debug, Clone)]
pub struct ToolInfo {
    /// The name under which it is called.
    pub name: String,
    /// The server that offers it: a built-in one or an upstream.
    pub server: String,
    pub description: Option<String>,
    /// The JSON schema of its arguments.
    pub input_schema: Box<RawValue>,
    /// Whether its results were written by the gateway and its operator. Those of others are data, whatever they say.
    pub is_trusted: bool,
    /// What may be believed of its effects: what its definition says where that is the word of the gateway or its
    /// operator, and the worst otherwise.
    pub hints: ToolHints,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolHints {
    pub read_only: bool,
    pub destructive: bool,
    pub open_world: bool,
}

/// One call. Dropping its future cancels it.
#[derive(Debug, Clone, Copy)]
pub struct ToolCall<'a> {
    pub tool: &'a str,
    /// A JSON object.
    pub arguments: &'a RawValue,
    /// How long it may take at most; the tool's own limit where there is none.
    pub patience: Option<Duration>,
    /// Where what it costs is told, by whoever wants to know.
    pub cost: Option<&'a Arc<CallCost>>,
}

/// What a call came to. It is told even where the call failed, or was given up.
#[derive(Debug, Default)]
pub struct CallCost(AtomicI64);

impl CallCost {
    pub fn add(&self, amount: Usd) {
        self.0.fetch_add(amount.micros(), Ordering::SeqCst);
    }

    pub fn usd(&self) -> Usd {
        Usd::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// What a tool answered.
#[derive(Debug, Clone)]
pub struct ToolAnswer {
    /// MCP's `CallToolResult` as it came.
    pub raw: Box<RawValue>,
    /// Its text blocks, joined by line ends; its structured content as JSON where it has no text.
    pub text: String,
    pub is_error: bool,
}
