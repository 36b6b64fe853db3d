//! Chunks of a chat as the events of Anthropic's API.
//!
//! Its blocks come one after the other, while a chat may mix the pieces of several calls. The call that is open goes
//! out as it comes; pieces of another wait until the open one is complete, which is when its arguments are.

use super::{
    super::{
        Asked, Broken,
        delta::{self, Calls, Said},
        field::Map,
        frame, part, usage,
    },
    stop_reason,
};
use serde_json::{Value, json};

#[derive(Debug, Default)]
pub(in super::super) struct Stream {
    known: Calls,
    is_begun: bool,
    blocks: usize,
    open: Open,
    calls: Vec<Call>,
    finished: Option<(String, Option<String>)>,
    usage: Option<Map>,
    others: Map,
    events: Vec<u8>,
}

/// The block that is being said.
#[derive(Debug, Default, PartialEq, Clone, Copy)]
enum Open {
    #[default]
    None,
    Text,
    Thinking,
    Call(usize),
}

#[derive(Debug)]
struct Call {
    id: String,
    name: String,
    arguments: String,
    /// How much of the arguments went out.
    sent: usize,
    is_closed: bool,
}

impl Stream {
    pub(in super::super) fn begin(&mut self, asked: &Asked) -> Vec<u8> {
        if !std::mem::replace(&mut self.is_begun, true) {
            // The input's tokens are known only at the end, and are told there.
            let message = json!({
                "id": asked.answer_id(),
                "type": "message",
                "role": "assistant",
                "model": asked.model,
                "content": [],
                "stop_reason": null,
                "stop_sequence": null,
                "usage": usage::to_anthropic(self.usage.as_ref()),
            });
            self.emit("message_start", json!({ "message": message }));
        }
        std::mem::take(&mut self.events)
    }

    pub(in super::super) fn chunk(&mut self, chunk: Map, asked: &Asked) -> Result<Vec<u8>, Broken> {
        let mut events = self.begin(asked);
        for said in delta::read(chunk, &mut self.known)? {
            self.say(said, asked)?;
        }
        events.append(&mut self.events);
        Ok(events)
    }

    fn emit(&mut self, kind: &str, mut event: Value) {
        event["type"] = kind.into();
        frame::named(&mut self.events, kind, &event);
    }

    fn say(&mut self, said: Said, asked: &Asked) -> Result<(), Broken> {
        match said {
            Said::Reasoning(text) => {
                let start = || json!({ "type": "thinking", "thinking": "", "signature": "" });
                self.enter(Open::Thinking, start)?;
                self.delta(&json!({ "type": "thinking_delta", "thinking": text }));
            }
            Said::Thoughts(blocks) => self.seal(blocks)?,
            Said::Text { text, .. } if text.is_empty() => {}
            Said::Text { text, .. } | Said::Refusal(text) => {
                self.enter(Open::Text, || json!({ "type": "text", "text": "" }))?;
                self.delta(&json!({ "type": "text_delta", "text": text }));
            }
            Said::Call {
                call,
                id,
                name,
                arguments,
            } => {
                if call >= self.calls.len() {
                    self.calls.push(Call {
                        id: id.unwrap_or_else(|| format!("toolu_{}_{call}", asked.id)),
                        name: name.unwrap_or_default(),
                        arguments: String::new(),
                        sent: 0,
                        is_closed: false,
                    });
                }
                return self.call(call, &arguments);
            }
            Said::Finished { reason, stop } => self.finished = Some((reason, stop)),
            Said::Usage(usage) => self.usage = Some(usage),
            Said::Other(key, value) => {
                self.others.insert(key, value);
            }
            Said::Annotations(_) | Said::ServiceTier(_) => {}
        }
        Ok(())
    }

    fn enter(&mut self, kind: Open, start: impl FnOnce() -> Value) -> Result<(), Broken> {
        if self.open == kind {
            return Ok(());
        }
        self.leave()?;
        let block = start();
        self.emit(
            "content_block_start",
            json!({ "index": self.blocks, "content_block": block }),
        );
        self.open = kind;
        Ok(())
    }

    fn delta(&mut self, delta: &Value) {
        self.emit("content_block_delta", json!({ "index": self.blocks, "delta": delta }));
    }

    /// Ends the block that is open.
    fn leave(&mut self) -> Result<(), Broken> {
        match self.open {
            Open::None => return Ok(()),
            Open::Text | Open::Thinking => {}
            Open::Call(at) => self.close(at)?,
        }
        self.emit("content_block_stop", json!({ "index": self.blocks }));
        self.open = Open::None;
        self.blocks += 1;
        Ok(())
    }

    fn seal(&mut self, blocks: Vec<Value>) -> Result<(), Broken> {
        for block in blocks {
            if block["type"] == "redacted_thinking" {
                self.leave()?;
                self.emit(
                    "content_block_start",
                    json!({ "index": self.blocks, "content_block": block }),
                );
                self.emit("content_block_stop", json!({ "index": self.blocks }));
                self.blocks += 1;
            } else {
                let start = || json!({ "type": "thinking", "thinking": "", "signature": "" });
                self.enter(Open::Thinking, start)?;
                self.delta(&json!({ "type": "signature_delta", "signature": block["signature"] }));
                self.leave()?;
            }
        }
        Ok(())
    }

    fn call(&mut self, at: usize, arguments: &str) -> Result<(), Broken> {
        let call = &mut self.calls[at];
        if call.is_closed {
            // It was complete: nothing but blanks can follow.
            return if arguments.trim().is_empty() {
                Ok(())
            } else {
                Err(Broken::Nonsense)
            };
        }
        call.arguments.push_str(arguments);
        match self.open {
            Open::Call(open) if open == at => {
                self.send(at);
                Ok(())
            }
            Open::Call(open) if !self.calls[open].is_complete() => Ok(()),
            Open::Call(_) | Open::None | Open::Text | Open::Thinking => self.go_on(),
        }
    }

    /// Opens the calls that wait, one after the other, up to the first that is not complete.
    fn go_on(&mut self) -> Result<(), Broken> {
        while let Some(at) = self.waiting() {
            self.open_call(at)?;
            if !self.calls[at].is_complete() {
                break;
            }
        }
        Ok(())
    }

    /// The first call of which nothing went out yet.
    fn waiting(&self) -> Option<usize> {
        let mut calls = self.calls.iter().enumerate();
        let (at, _) = calls.find(|(at, call)| !call.is_closed && self.open != Open::Call(*at))?;
        Some(at)
    }

    fn open_call(&mut self, at: usize) -> Result<(), Broken> {
        let Call { id, name, .. } = &self.calls[at];
        let block = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
        self.enter(Open::Call(at), || block)?;
        self.send(at);
        Ok(())
    }

    fn send(&mut self, at: usize) {
        let call = &mut self.calls[at];
        if call.is_encoded_twice() {
            return;
        }
        let more = call.arguments[call.sent..].to_owned();
        call.sent = call.arguments.len();
        if !more.is_empty() {
            self.delta(&json!({ "type": "input_json_delta", "partial_json": more }));
        }
    }

    /// Ends the call that is open. It has to be whole, unless a limit has cut the answer off.
    fn close(&mut self, at: usize) -> Result<(), Broken> {
        let is_cut_off = self.finished.as_ref().is_some_and(|(reason, _)| reason == "length");
        let input = part::arguments(&self.calls[at].arguments);
        if input.is_none() && !is_cut_off {
            return Err(Broken::Arguments);
        }
        if let Some(input) = input.filter(|_| self.calls[at].is_encoded_twice()) {
            let json = Value::Object(input).to_string();
            self.delta(&json!({ "type": "input_json_delta", "partial_json": json }));
        }
        self.calls[at].is_closed = true;
        Ok(())
    }

    pub(in super::super) fn finish(&mut self, asked: &Asked) -> Result<Vec<u8>, Broken> {
        let Some((reason, stop)) = self.finished.clone() else {
            return Err(Broken::Unfinished);
        };
        let mut events = self.begin(asked);
        while let Some(at) = self.waiting() {
            self.open_call(at)?;
        }
        self.leave()?;
        let (reason, sequence) = stop_reason(&reason, stop.as_deref(), !self.calls.is_empty());
        let mut event: Value = std::mem::take(&mut self.others).into();
        event["delta"] = json!({ "stop_reason": reason, "stop_sequence": sequence });
        event["usage"] = usage::to_anthropic(self.usage.as_ref());
        self.emit("message_delta", event);
        self.emit("message_stop", json!({}));
        events.append(&mut self.events);
        Ok(events)
    }
}

impl Call {
    /// Whether its arguments are all there. None at all may yet come.
    fn is_complete(&self) -> bool {
        !self.arguments.trim().is_empty() && part::arguments(&self.arguments).is_some()
    }

    /// As some engines send them; they wait until they can be decoded.
    fn is_encoded_twice(&self) -> bool {
        self.arguments.trim_start().starts_with('"')
    }
}
