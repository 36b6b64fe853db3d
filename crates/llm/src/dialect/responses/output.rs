//! The output of a response as it grows, item by item, and the events that tell of it.

use super::{
    super::{
        Asked, Broken,
        delta::{self, Calls, Said},
        field::{Map, map},
        frame, usage,
    },
    ECHOED,
};
use forebay_domain::{ErrorKind, Failure};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Everything that a response will be, and how far its client has been told.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) items: Vec<Value>,
    /// The item that is being said; calls stay open beside it.
    open: Option<usize>,
    /// Where each call of the chat stands among the items.
    calls: Vec<usize>,
    /// Where the calls stand that the gateway runs.
    pub(super) running: BTreeMap<usize, usize>,
    reason: Option<String>,
    usage: Option<Map>,
    service_tier: Option<Value>,
    others: Map,
    sequence: u64,
    events: Vec<u8>,
}

/// A whole answer as a response: the same as its stream would have been.
pub(in super::super) fn whole(answer: Map, asked: &Asked) -> Result<Map, Broken> {
    let mut output = Output::default();
    for said in delta::read(answer, &mut Calls::default())? {
        output.say(said, asked);
        output.events.clear();
    }
    output.complete(asked);
    Ok(output.response(asked, output.status()))
}

/// A response that has no output, and perhaps never will.
pub(crate) fn unfinished(asked: &Asked, status: &str, failure: Option<&Failure>) -> Map {
    let mut output = Output::default();
    match failure {
        Some(failure) => output.failed(failure, asked),
        None => output.response(asked, status),
    }
}

impl Output {
    pub(super) fn take_events(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn is_finished(&self) -> bool {
        self.reason.is_some()
    }

    pub(super) fn status(&self) -> &'static str {
        match self.reason.as_deref() {
            Some("length" | "content_filter") => "incomplete",
            _ => "completed",
        }
    }

    pub(super) fn emit(&mut self, kind: &str, mut event: Value) {
        event["type"] = kind.into();
        event["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        frame::named(&mut self.events, kind, &event);
    }

    pub(super) fn say(&mut self, said: Said, asked: &Asked) {
        match said {
            Said::Reasoning(text) => {
                let at = self.enter("reasoning", asked);
                self.append(at, "reasoning_text", &text);
            }
            Said::Thoughts(blocks) => self.seal(blocks, asked),
            Said::Text { text, logprobs } => {
                let at = self.enter("message", asked);
                self.say_text(at, &text, logprobs);
            }
            Said::Annotations(annotations) => self.annotate(annotations, asked),
            Said::Refusal(text) => {
                let at = self.enter("message", asked);
                self.append(at, "refusal", &text);
            }
            Said::Call {
                call,
                id,
                name,
                arguments,
            } => self.call(call, id, name, &arguments, asked),
            Said::Finished { reason, .. } => self.reason = Some(reason),
            Said::Usage(usage) => self.usage = Some(usage),
            Said::ServiceTier(tier) => self.service_tier = Some(tier),
            Said::Other(key, value) => {
                self.others.insert(key, value);
            }
        }
    }

    /// The item of this type that is open, or a new one.
    fn enter(&mut self, kind: &str, asked: &Asked) -> usize {
        if let Some(at) = self.open {
            if self.items[at]["type"] == kind {
                return at;
            }
            self.leave("completed");
        }
        let item = match kind {
            "reasoning" => json!({ "type": kind, "status": "in_progress", "summary": [], "content": [] }),
            _ => json!({ "type": kind, "status": "in_progress", "role": "assistant", "content": [] }),
        };
        let at = self.add(item, if kind == "reasoning" { "rs" } else { "msg" }, asked);
        self.open = Some(at);
        at
    }

    /// A new item, which gets its id here.
    pub(super) fn add(&mut self, mut item: Value, prefix: &str, asked: &Asked) -> usize {
        let at = self.items.len();
        item["id"] = format!("{prefix}_{}_{at}", asked.id).into();
        self.emit(
            "response.output_item.added",
            json!({ "output_index": at, "item": item }),
        );
        self.items.push(item);
        at
    }

    /// The part of this type at the end of an item, or a new one there.
    fn part(&mut self, at: usize, kind: &str) -> usize {
        let parts = self.items[at]["content"].as_array().map_or(&[][..], Vec::as_slice);
        let count = parts.len();
        if parts.last().is_some_and(|part| part["type"] == kind) {
            return count - 1;
        }
        if count > 0 {
            self.part_done(at, count - 1);
        }
        let part = match kind {
            "output_text" => json!({ "type": kind, "text": "", "annotations": [], "logprobs": [] }),
            "refusal" => json!({ "type": kind, "refusal": "" }),
            _ => json!({ "type": kind, "text": "" }),
        };
        let event = self.about(at, count, json!({ "part": part }));
        push(&mut self.items[at]["content"], part);
        self.emit("response.content_part.added", event);
        count
    }

    fn append(&mut self, at: usize, kind: &str, text: &str) {
        let index = self.part(at, kind);
        extend(&mut self.items[at]["content"][index][text_key(kind)], text);
        let event = self.about(at, index, json!({ "delta": text }));
        self.emit(&format!("response.{kind}.delta"), event);
    }

    fn say_text(&mut self, at: usize, text: &str, logprobs: Vec<Value>) {
        let index = self.part(at, "output_text");
        let part = &mut self.items[at]["content"][index];
        extend(&mut part["text"], text);
        let event = json!({ "delta": text, "logprobs": logprobs });
        for logprob in logprobs {
            push(&mut part["logprobs"], logprob);
        }
        let event = self.about(at, index, event);
        self.emit("response.output_text.delta", event);
    }

    fn annotate(&mut self, annotations: Vec<Value>, asked: &Asked) {
        let at = self.enter("message", asked);
        let index = self.part(at, "output_text");
        for mut annotation in annotations {
            // Chat keeps them under the name of their type, responses do not.
            if let Some(Value::Object(inner)) = annotation.get_mut("url_citation").map(Value::take) {
                annotation = json!({ "type": "url_citation" });
                annotation
                    .as_object_mut()
                    .into_iter()
                    .for_each(|flat| flat.extend(inner.clone()));
            }
            let known = &mut self.items[at]["content"][index]["annotations"];
            let number = known.as_array().map_or(0, Vec::len);
            push(known, annotation.clone());
            let event = json!({ "annotation": annotation, "annotation_index": number });
            let event = self.about(at, index, event);
            self.emit("response.output_text.annotation.added", event);
        }
    }

    /// What makes a thought acceptable when it comes back: the signature of the one that is open, or a sealed one.
    fn seal(&mut self, blocks: Vec<Value>, asked: &Asked) {
        for block in blocks {
            let (key, is_sealed) = match block["type"].as_str() {
                Some("redacted_thinking") => ("data", true),
                _ => ("signature", false),
            };
            if is_sealed {
                self.leave("completed");
            }
            let at = self.enter("reasoning", asked);
            self.items[at]["encrypted_content"] = block[key].clone();
            self.leave("completed");
        }
    }

    fn call(&mut self, call: usize, id: Option<String>, name: Option<String>, arguments: &str, asked: &Asked) {
        if call >= self.calls.len() {
            self.leave("completed");
            let call_id = id.unwrap_or_else(|| format!("call_{}_{}", asked.id, self.items.len()));
            let item = json!({
                "type": "function_call",
                "status": "in_progress",
                "call_id": call_id,
                "name": name.clone().unwrap_or_default(),
                "arguments": "",
            });
            let at = self.add(item, "fc", asked);
            self.calls.push(at);
        } else if let Some(name) = name {
            self.items[self.calls[call]]["name"] = name.into();
        }
        let at = self.calls[call];
        if !arguments.is_empty() {
            self.go_on(at, arguments);
        }
    }

    fn go_on(&mut self, at: usize, arguments: &str) {
        extend(&mut self.items[at]["arguments"], arguments);
        let event = json!({ "item_id": self.items[at]["id"], "output_index": at, "delta": arguments });
        self.emit("response.function_call_arguments.delta", event);
    }

    /// Ends the item that is open. Calls stay open, since what belongs to them may come in any order.
    pub(super) fn leave(&mut self, status: &str) {
        let Some(at) = self.open.take() else { return };
        let parts = self.items[at]["content"].as_array().map_or(0, Vec::len);
        if parts > 0 {
            self.part_done(at, parts - 1);
        }
        self.items[at]["status"] = status.into();
        self.done(at);
    }

    fn part_done(&mut self, at: usize, index: usize) {
        let part = self.items[at]["content"][index].clone();
        let kind = part["type"].as_str().unwrap_or_default();
        let key = text_key(kind);
        let mut event = json!({ (key): part[key] });
        if kind == "output_text" {
            event["logprobs"] = part["logprobs"].clone();
        }
        let event = self.about(at, index, event);
        self.emit(&format!("response.{kind}.done"), event);
        let event = self.about(at, index, json!({ "part": part }));
        self.emit("response.content_part.done", event);
    }

    pub(super) fn done(&mut self, at: usize) {
        let event = json!({ "output_index": at, "item": self.items[at] });
        self.emit("response.output_item.done", event);
    }

    /// An event about one part of an item.
    fn about(&self, at: usize, index: usize, mut event: Value) -> Value {
        event["item_id"] = self.items[at]["id"].clone();
        event["output_index"] = at.into();
        event["content_index"] = index.into();
        event
    }

    /// Ends everything in good order.
    pub(super) fn complete(&mut self, asked: &Asked) {
        let status = self.status();
        if self.items.is_empty() {
            // An answer without a word is an answer all the same.
            let at = self.enter("message", asked);
            self.part(at, "output_text");
        }
        self.leave(status);
        for at in self.calls.clone() {
            if self.items[at]["arguments"] == "" {
                self.go_on(at, "{}");
            }
            self.items[at]["status"] = status.into();
            let event = json!({
                "item_id": self.items[at]["id"],
                "output_index": at,
                "name": self.items[at]["name"],
                "arguments": self.items[at]["arguments"],
            });
            self.emit("response.function_call_arguments.done", event);
            self.done(at);
        }
    }

    pub(super) fn response(&self, asked: &Asked, status: &str) -> Map {
        let mut response = self.others.clone();
        let echo = ECHOED.iter().map(|(key, default)| {
            let asked_for = asked.echo.get(*key).cloned();
            let value = asked_for.unwrap_or_else(|| serde_json::from_str(default).unwrap_or_default());
            ((*key).to_owned(), value)
        });
        response.extend(echo);
        let details = match (status, self.reason.as_deref()) {
            ("incomplete", Some("length")) => json!({ "reason": "max_output_tokens" }),
            ("incomplete", Some("content_filter")) => json!({ "reason": "content_filter" }),
            _ => Value::Null,
        };
        response.extend(map(json!({
            "id": asked.answer_id(),
            "object": "response",
            "created_at": asked.created_s,
            "status": status,
            "background": asked.background,
            "error": null,
            "incomplete_details": details,
            "model": asked.model,
            "output": self.items,
            "service_tier": self.service_tier,
            "usage": usage::to_responses(self.usage.as_ref()),
        })));
        response
    }

    /// The response as it is when its stream breaks: nothing in it is complete that was not before.
    pub(super) fn failed(&mut self, failure: &Failure, asked: &Asked) -> Map {
        for item in &mut self.items {
            if item["status"] == "in_progress" {
                item["status"] = "incomplete".into();
            }
        }
        let mut response = self.response(asked, "failed");
        let code = match failure.kind() {
            ErrorKind::RateLimited => "rate_limit_exceeded",
            ErrorKind::Invalid => "invalid_prompt",
            ErrorKind::Unauthenticated
            | ErrorKind::Forbidden
            | ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::OverBudget
            | ErrorKind::UpstreamFailed
            | ErrorKind::UpstreamTimedOut
            | ErrorKind::Unavailable
            | ErrorKind::Bug => "server_error",
        };
        let error = json!({ "code": code, "message": failure.sentence() });
        response.insert("error".to_owned(), error);
        response
    }
}

fn text_key(kind: &str) -> &'static str {
    if kind == "refusal" { "refusal" } else { "text" }
}

fn push(array: &mut Value, value: Value) {
    if let Value::Array(array) = array {
        array.push(value);
    }
}

fn extend(text: &mut Value, more: &str) {
    if let Value::String(text) = text {
        text.push_str(more);
    }
}
