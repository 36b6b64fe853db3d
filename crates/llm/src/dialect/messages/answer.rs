//! Whole answers of Anthropic's API: from an upstream that speaks it, and for a client that does.

use super::{
    super::{
        ANTHROPIC, Asked, Broken,
        delta::{self, Calls, Said},
        field::{Map, map, take, take_array, text_at},
        is_error, part, reported, usage,
    },
    finish_reason, stop_reason,
};
use serde_json::{Value, json};

/// A message of an upstream as a chat answer.
pub(in super::super) fn from_upstream(mut answer: Map, created_s: u64) -> Result<Map, Broken> {
    if is_error(&answer) {
        return Err(reported(&answer.into()));
    }
    let Ok(Some(blocks)) = take_array(&mut answer, "content", "") else {
        return Err(Broken::Nonsense);
    };
    let reason = text_at(&answer, "stop_reason").unwrap_or_default();
    let mut choice = json!({ "index": 0, "message": null, "finish_reason": finish_reason(reason), "logprobs": null });
    if let Some(stop) = text_at(&answer, "stop_sequence") {
        choice["stop_reason"] = stop.into();
    }
    let mut message = message(blocks)?;
    if reason == "refusal" {
        let why = answer.get("stop_details").map(|details| &details["explanation"]);
        message.extend(
            why.filter(|why| why.is_string())
                .map(|why| ("refusal".to_owned(), why.clone())),
        );
    }
    choice["message"] = message.into();
    let mut out = map(json!({
        "id": take(&mut answer, "id"),
        "object": "chat.completion",
        "created": created_s,
        "model": take(&mut answer, "model"),
        "choices": [choice],
    }));
    if let Some(Value::Object(used)) = take(&mut answer, "usage") {
        out.insert("usage".to_owned(), usage::from_anthropic(&used).into());
    }
    Ok(out)
}

fn message(blocks: Vec<Value>) -> Result<Map, Broken> {
    let (mut text, mut reasoning, mut calls, mut thoughts) = (None::<String>, String::new(), Vec::new(), Vec::new());
    for block in blocks {
        match block["type"].as_str().ok_or(Broken::Nonsense)? {
            "text" => text
                .get_or_insert_default()
                .push_str(block["text"].as_str().unwrap_or_default()),
            "thinking" => {
                if !reasoning.is_empty() {
                    reasoning.push_str("\n\n");
                }
                reasoning.push_str(block["thinking"].as_str().unwrap_or_default());
                thoughts.push(block);
            }
            "redacted_thinking" => thoughts.push(block),
            "tool_use" => {
                let (Some(id), Some(name)) = (block["id"].as_str(), block["name"].as_str()) else {
                    return Err(Broken::Nonsense);
                };
                calls.push(part::call(id, name, &block["input"].to_string()));
            }
            // What its own tools did has no place in a chat.
            _ => {}
        }
    }
    let mut message = map(json!({ "role": "assistant", "content": text, "refusal": null }));
    if !reasoning.is_empty() {
        message.insert("reasoning_content".to_owned(), reasoning.into());
    }
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), calls.into());
    }
    if !thoughts.is_empty() {
        message.insert(ANTHROPIC.to_owned(), json!({ "thinking": thoughts }));
    }
    Ok(message)
}

/// A chat answer as a message for a client.
pub(in super::super) fn whole(answer: Map, asked: &Asked) -> Result<Map, Broken> {
    let mut building = Building::default();
    for said in delta::read(answer, &mut Calls::default())? {
        building.say(said, asked);
    }
    building.message(asked)
}

#[derive(Default)]
struct Building {
    blocks: Vec<Value>,
    calls: Vec<(String, String, String)>,
    finished: Option<(String, Option<String>)>,
    usage: Option<Map>,
    others: Map,
}

impl Building {
    fn say(&mut self, said: Said, asked: &Asked) {
        match said {
            Said::Reasoning(text) => {
                let block = json!({ "type": "thinking", "thinking": text, "signature": "" });
                self.blocks.push(block);
            }
            Said::Thoughts(blocks) => {
                for block in blocks {
                    if block["type"] == "redacted_thinking" {
                        self.blocks.push(block);
                    } else if let Some(last) = self.blocks.last_mut().filter(|last| last["type"] == "thinking") {
                        last["signature"] = block["signature"].clone();
                    } else {
                        self.blocks.push(block);
                    }
                }
            }
            Said::Text { text, .. } if text.is_empty() => {}
            Said::Text { text, .. } | Said::Refusal(text) => match self.blocks.last_mut() {
                Some(last) if last["type"] == "text" => {
                    let so_far = last["text"].as_str().unwrap_or_default();
                    last["text"] = format!("{so_far}{text}").into();
                }
                _ => self.blocks.push(part::text(text).into()),
            },
            Said::Call {
                id, name, arguments, ..
            } => {
                let id = id.unwrap_or_else(|| format!("toolu_{}_{}", asked.id, self.calls.len()));
                self.calls.push((id, name.unwrap_or_default(), arguments));
            }
            Said::Finished { reason, stop } => self.finished = Some((reason, stop)),
            Said::Usage(usage) => self.usage = Some(usage),
            Said::Other(key, value) => {
                self.others.insert(key, value);
            }
            Said::Annotations(_) | Said::ServiceTier(_) => {}
        }
    }

    fn message(mut self, asked: &Asked) -> Result<Map, Broken> {
        let (reason, stop) = self.finished.unwrap_or_default();
        let has_calls = !self.calls.is_empty();
        for (id, name, arguments) in self.calls {
            let input = match part::arguments(&arguments) {
                Some(input) => input,
                // The limit cut it off, and the answer says so.
                None if reason == "length" => Map::new(),
                None => return Err(Broken::Arguments),
            };
            let block = json!({ "type": "tool_use", "id": id, "name": name, "input": input });
            self.blocks.push(block);
        }
        let (reason, sequence) = stop_reason(&reason, stop.as_deref(), has_calls);
        let mut message = self.others;
        message.extend(map(json!({
            "id": asked.answer_id(),
            "type": "message",
            "role": "assistant",
            "model": asked.model,
            "content": self.blocks,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": usage::to_anthropic(self.usage.as_ref()),
        })));
        Ok(message)
    }
}
