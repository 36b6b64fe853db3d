//! The events of an Anthropic upstream as chunks of a chat.

use super::{
    super::{
        ANTHROPIC, Broken,
        field::{Map, map},
        reported, usage,
    },
    finish_reason,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Debug)]
pub(in super::super) struct Incoming {
    created_s: u64,
    id: Value,
    model: Value,
    open: BTreeMap<u64, Block>,
    calls: usize,
    thoughts: usize,
    usage: Map,
    is_done: bool,
}

/// A block that has begun and not ended.
#[derive(Debug)]
enum Block {
    Text,
    Thinking {
        text: String,
        signature: String,
    },
    Redacted(Value),
    Call {
        index: usize,
        /// What stands for its arguments where none follow.
        input: Value,
        has_arguments: bool,
    },
    /// What its own tools do has no place in a chat.
    Other,
}

impl Incoming {
    pub(in super::super) fn new(created_s: u64) -> Self {
        Self {
            created_s,
            id: Value::Null,
            model: Value::Null,
            open: BTreeMap::new(),
            calls: 0,
            thoughts: 0,
            usage: Map::new(),
            is_done: false,
        }
    }

    pub(in super::super) fn is_done(&self) -> bool {
        self.is_done
    }

    pub(in super::super) fn event(&mut self, mut event: Value) -> Result<Option<Map>, Broken> {
        // Kinds that come later are to be passed over, as the API's makers say.
        let kind = event["type"].as_str().ok_or(Broken::Nonsense)?;
        match kind {
            "message_start" => {
                let Value::Object(mut message) = event["message"].take() else {
                    return Err(Broken::Nonsense);
                };
                self.id = message.remove("id").unwrap_or_default();
                self.model = message.remove("model").unwrap_or_default();
                self.use_up(message.remove("usage"));
                Ok(Some(self.chunk(&json!({ "role": "assistant", "content": "" }))))
            }
            "content_block_start" => {
                let index = index(&event)?;
                self.start(index, event["content_block"].take())
            }
            "content_block_delta" => {
                let index = index(&event)?;
                self.delta(index, &event["delta"])
            }
            "content_block_stop" => {
                let block = self.open.remove(&index(&event)?).ok_or(Broken::Nonsense)?;
                Ok(self.stop(block))
            }
            "message_delta" => {
                self.use_up(event.get_mut("usage").map(Value::take));
                Ok(self.finish(&event["delta"]))
            }
            "message_stop" => {
                self.is_done = true;
                let mut chunk = self.chunk(&Value::Null);
                chunk.insert("choices".to_owned(), json!([]));
                chunk.insert("usage".to_owned(), usage::from_anthropic(&self.usage).into());
                Ok(Some(chunk))
            }
            "error" => Err(reported(&event)),
            _ => Ok(None),
        }
    }

    /// Counts grow from event to event, and the last one holds; one that is `null` says nothing.
    fn use_up(&mut self, usage: Option<Value>) {
        if let Some(Value::Object(usage)) = usage {
            self.usage
                .extend(usage.into_iter().filter(|(_, value)| !value.is_null()));
        }
    }

    fn chunk(&self, delta: &Value) -> Map {
        map(json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created_s,
            "model": self.model,
            "choices": [{ "index": 0, "delta": delta, "finish_reason": null }],
        }))
    }

    fn start(&mut self, index: u64, mut block: Value) -> Result<Option<Map>, Broken> {
        let mut text = |key: &str| match block.get_mut(key).map(Value::take) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let (begun, delta) = match text("type").as_str() {
            "text" => {
                let text = text("text");
                (Block::Text, (!text.is_empty()).then(|| json!({ "content": text })))
            }
            "thinking" => {
                let (text, signature) = (text("thinking"), text("signature"));
                let delta = (!text.is_empty()).then(|| json!({ "reasoning_content": text }));
                (Block::Thinking { text, signature }, delta)
            }
            "redacted_thinking" => {
                let block = json!({ "type": "redacted_thinking", "data": text("data") });
                (Block::Redacted(block), None)
            }
            "tool_use" => {
                let (id, name) = (text("id"), text("name"));
                let index = self.calls;
                self.calls += 1;
                let function = json!({ "name": name, "arguments": "" });
                let call = json!({ "index": index, "id": id, "type": "function", "function": function });
                let input = block["input"].take();
                let begun = Block::Call {
                    index,
                    input: if input.is_object() { input } else { json!({}) },
                    has_arguments: false,
                };
                (begun, Some(json!({ "tool_calls": [call] })))
            }
            "" => return Err(Broken::Nonsense),
            _ => (Block::Other, None),
        };
        self.open.insert(index, begun);
        Ok(delta.map(|delta| self.chunk(&delta)))
    }

    fn delta(&mut self, index: u64, delta: &Value) -> Result<Option<Map>, Broken> {
        let block = self.open.get_mut(&index).ok_or(Broken::Nonsense)?;
        let said = |key: &str| delta[key].as_str().filter(|text| !text.is_empty());
        let delta = match block {
            Block::Text => said("text").map(|text| json!({ "content": text })),
            Block::Thinking { text, signature } => {
                signature.push_str(said("signature").unwrap_or_default());
                said("thinking").map(|more| {
                    text.push_str(more);
                    json!({ "reasoning_content": more })
                })
            }
            Block::Call {
                index, has_arguments, ..
            } => said("partial_json").map(|arguments| {
                *has_arguments |= !arguments.trim().is_empty();
                arguments_delta(*index, arguments)
            }),
            Block::Redacted(_) | Block::Other => None,
        };
        Ok(delta.map(|delta| self.chunk(&delta)))
    }

    fn stop(&mut self, block: Block) -> Option<Map> {
        let delta = match block {
            Block::Thinking { text, signature } => {
                self.thought(json!({ "type": "thinking", "thinking": text, "signature": signature }))
            }
            Block::Redacted(block) => self.thought(block),
            Block::Call {
                index,
                input,
                has_arguments: false,
            } => arguments_delta(index, &input.to_string()),
            Block::Call { .. } | Block::Text | Block::Other => return None,
        };
        Some(self.chunk(&delta))
    }

    /// Numbered like a call: clients that put deltas together want it of every list.
    fn thought(&mut self, mut block: Value) -> Value {
        block["index"] = self.thoughts.into();
        self.thoughts += 1;
        json!({ (ANTHROPIC): { "thinking": [block] } })
    }

    fn finish(&self, delta: &Value) -> Option<Map> {
        let reason = delta["stop_reason"].as_str()?;
        let mut said = json!({});
        if reason == "refusal" && delta["stop_details"]["explanation"].is_string() {
            said["refusal"] = delta["stop_details"]["explanation"].clone();
        }
        let mut chunk = self.chunk(&said);
        chunk["choices"][0]["finish_reason"] = finish_reason(reason).into();
        if delta["stop_sequence"].is_string() {
            chunk["choices"][0]["stop_reason"] = delta["stop_sequence"].clone();
        }
        Some(chunk)
    }
}

fn arguments_delta(index: usize, arguments: &str) -> Value {
    json!({ "tool_calls": [{ "index": index, "function": { "arguments": arguments } }] })
}

fn index(event: &Value) -> Result<u64, Broken> {
    event["index"].as_u64().ok_or(Broken::Nonsense)
}
