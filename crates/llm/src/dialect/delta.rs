//! What one chunk of a chat says, in the order in which it counts.
//!
//! Only the first choice is looked at: no other API but OpenAI's older two has several.

use super::{
    ANTHROPIC, Broken,
    field::{Map, take, text_at},
    part,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// The fields of a chat answer that other APIs say in their own way. What stands beside them survives.
const KNOWN: [&str; 9] = [
    "id",
    "object",
    "created",
    "model",
    "choices",
    "usage",
    "system_fingerprint",
    "service_tier",
    "obfuscation",
];

#[derive(Debug, PartialEq)]
pub(super) enum Said {
    Reasoning(String),
    /// Blocks of thought as Anthropic signed them: the one that is being said, or sealed ones.
    Thoughts(Vec<Value>),
    Text {
        text: String,
        logprobs: Vec<Value>,
    },
    Annotations(Vec<Value>),
    Refusal(String),
    Call {
        /// Which call of the answer this belongs to, counted from its first.
        call: usize,
        id: Option<String>,
        name: Option<String>,
        arguments: String,
    },
    Finished {
        reason: String,
        /// The text at which the model was stopped, where the engine tells it.
        stop: Option<String>,
    },
    Usage(Map),
    ServiceTier(Value),
    Other(String, Value),
}

/// Tells the calls of an answer apart. Engines number them; some number all of them 0 and only change the id.
#[derive(Debug, Default)]
pub(super) struct Calls {
    latest: BTreeMap<u64, (usize, Option<String>)>,
    count: usize,
}

impl Calls {
    pub(super) fn place(&mut self, index: u64, id: Option<&str>) -> usize {
        if let Some((place, known)) = self.latest.get_mut(&index) {
            match (id, known.as_deref()) {
                (Some(id), Some(known)) if id != known => {}
                (Some(id), None) => {
                    *known = Some(id.to_owned());
                    return *place;
                }
                _ => return *place,
            }
        }
        let place = self.count;
        self.count += 1;
        self.latest.insert(index, (place, id.map(str::to_owned)));
        place
    }
}

/// Takes a chunk apart.
pub(super) fn read(mut chunk: Map, calls: &mut Calls) -> Result<Vec<Said>, Broken> {
    let mut said = Vec::new();
    if let Some(Value::Array(choices)) = take(&mut chunk, "choices") {
        for choice in choices {
            let Value::Object(choice) = choice else {
                return Err(Broken::Nonsense);
            };
            if choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0 {
                read_choice(choice, calls, &mut said)?;
            }
        }
    }
    if let Some(Value::Object(usage)) = take(&mut chunk, "usage") {
        said.push(Said::Usage(usage));
    }
    if let Some(tier) = take(&mut chunk, "service_tier") {
        said.push(Said::ServiceTier(tier));
    }
    chunk.retain(|key, value| is_extension(key, value));
    said.extend(chunk.into_iter().map(|(key, value)| Said::Other(key, value)));
    Ok(said)
}

/// Whether this field of an answer says something that the API does not know.
pub(super) fn is_extension(key: &str, value: &Value) -> bool {
    !value.is_null() && !KNOWN.contains(&key)
}

fn read_choice(mut choice: Map, calls: &mut Calls, said: &mut Vec<Said>) -> Result<(), Broken> {
    let logprobs = choice
        .get_mut("logprobs")
        .and_then(|logprobs| logprobs.get_mut("content"));
    let logprobs = match logprobs.map(Value::take) {
        Some(Value::Array(logprobs)) => logprobs,
        _ => Vec::new(),
    };
    match (take(&mut choice, "delta"), take(&mut choice, "message")) {
        (Some(Value::Object(delta)), _) => read_delta(delta, logprobs, calls, said)?,
        (_, Some(Value::Object(mut message))) => {
            read_thoughts(&mut message, said);
            read_delta(message, logprobs, calls, said)?;
        }
        _ => {}
    }
    if let Some(reason) = text_at(&choice, "finish_reason") {
        said.push(Said::Finished {
            reason: reason.to_owned(),
            stop: text_at(&choice, "stop_reason").map(str::to_owned),
        });
    }
    Ok(())
}

/// The thoughts of a whole message: each with its own text, where somebody signed them.
fn read_thoughts(message: &mut Map, said: &mut Vec<Said>) {
    let Some(blocks) = thoughts(message) else { return };
    message.remove("reasoning_content");
    for block in blocks {
        let text = block["thinking"].as_str().unwrap_or_default();
        if !text.is_empty() {
            said.push(Said::Reasoning(text.to_owned()));
        }
        said.push(Said::Thoughts(vec![block]));
    }
}

fn read_delta(mut delta: Map, logprobs: Vec<Value>, calls: &mut Calls, said: &mut Vec<Said>) -> Result<(), Broken> {
    let mut text = |key: &str| match delta.remove(key) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        // Some engines answer in parts.
        Some(parts @ Value::Array(_)) => Some(part::text_of(&parts)).filter(|text| !text.is_empty()),
        _ => None,
    };
    // vLLM has called it by either name, and for a time by both.
    let (new, old) = (text("reasoning"), text("reasoning_content"));
    said.extend(old.or(new).map(Said::Reasoning));
    let (content, refusal) = (text("content"), text("refusal"));
    said.extend(thoughts(&mut delta).map(Said::Thoughts));
    if content.is_some() || !logprobs.is_empty() {
        said.push(Said::Text {
            text: content.unwrap_or_default(),
            logprobs,
        });
    }
    if let Some(Value::Array(annotations)) = take(&mut delta, "annotations")
        && !annotations.is_empty()
    {
        said.push(Said::Annotations(annotations));
    }
    said.extend(refusal.map(Said::Refusal));
    if let Some(Value::Array(given)) = take(&mut delta, "tool_calls") {
        for (position, call) in given.into_iter().enumerate() {
            said.push(read_call(call, position, calls)?);
        }
    }
    Ok(())
}

fn thoughts(message: &mut Map) -> Option<Vec<Value>> {
    match message.remove(ANTHROPIC)?.get_mut("thinking")?.take() {
        Value::Array(mut blocks) => {
            part::unnumber(&mut blocks);
            Some(blocks)
        }
        _ => None,
    }
}

fn read_call(mut call: Value, position: usize, calls: &mut Calls) -> Result<Said, Broken> {
    if !call.is_object() {
        return Err(Broken::Nonsense);
    }
    let mut text = |pointer: &str| match call.pointer_mut(pointer).map(Value::take) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        // Some engines send the arguments as the object that they are.
        Some(value @ Value::Object(_)) => Some(value.to_string()),
        _ => None,
    };
    let id = text("/id");
    let name = text("/function/name").or_else(|| text("/custom/name"));
    let arguments = text("/function/arguments").or_else(|| text("/custom/input"));
    let index = call["index"].as_u64().unwrap_or(position as u64);
    Ok(Said::Call {
        call: calls.place(index, id.as_deref()),
        id,
        name,
        arguments: arguments.unwrap_or_default(),
    })
}
