//! What a tool says of itself, and what it hands back.

use crate::{call::Client, source::Hints};
use forebay_domain::{Principal, port::Via};
use serde_json::{Map, Value, json, value::RawValue};

/// A tool as lists show it.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// Written for the model that has to choose.
    pub(crate) description: String,
    pub(crate) input: Value,
    pub(crate) output: Value,
    /// Whether the tool reaches beyond this gateway.
    pub(crate) world: World,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum World {
    Closed,
    Open,
}

impl Definition {
    /// All built-in tools only read.
    pub(crate) fn hints(&self) -> Hints {
        Hints {
            read_only: true,
            destructive: false,
            idempotent: self.world == World::Closed,
            open_world: self.world == World::Open,
        }
    }

    /// The definition as the protocol writes it.
    pub(crate) fn to_raw(&self) -> Box<RawValue> {
        let hints = self.hints();
        let tool = json!({
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": self.input,
            "outputSchema": self.output,
            "annotations": {
                "title": self.title,
                "readOnlyHint": hints.read_only,
                "destructiveHint": hints.destructive,
                "idempotentHint": hints.idempotent,
                "openWorldHint": hints.open_world,
            },
        });
        serde_json::value::to_raw_value(&tool).expect("a JSON value is JSON")
    }
}

/// One call as a tool sees it: arguments that fit its schema.
pub(crate) struct Job<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) arguments: Value,
    pub(crate) via: Via,
    pub(crate) client: Client,
}

/// What a tool hands back.
pub(crate) struct Answer {
    /// The answer in plain words, where it has any beside the structure.
    pub(crate) text: Option<String>,
    pub(crate) structured: Map<String, Value>,
}

impl Answer {
    /// The result as the protocol writes it. The structure stands in a text block too, because some clients hand only
    /// text on to their model.
    pub(crate) fn into_raw(self) -> Box<RawValue> {
        let structured = Value::Object(self.structured);
        let json_text = structured.to_string();
        let content: Vec<Value> = self
            .text
            .into_iter()
            .chain([json_text])
            .map(|text| json!({"type": "text", "text": text}))
            .collect();
        let result = json!({"content": content, "structuredContent": structured, "isError": false});
        serde_json::value::to_raw_value(&result).expect("a JSON value is JSON")
    }
}
