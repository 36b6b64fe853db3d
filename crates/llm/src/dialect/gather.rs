//! Puts the chunks of a chat together again into the whole answer: for whoever has to read what was streamed.

use super::{
    ANTHROPIC, Broken,
    delta::{self, Calls, Said},
    field::{Map, map},
};
use serde_json::{Value, json};

#[derive(Debug, Default)]
pub(crate) struct Gathered {
    known: Calls,
    /// `id`, `created`, `model` and the like, as the first chunk says them.
    head: Map,
    content: Option<String>,
    logprobs: Vec<Value>,
    reasoning: String,
    refusal: Option<String>,
    thoughts: Vec<Value>,
    annotations: Vec<Value>,
    calls: Vec<Value>,
    finished: Option<(String, Option<String>)>,
    others: Map,
}

impl Gathered {
    pub(crate) fn chunk(&mut self, chunk: &Map) -> Result<(), Broken> {
        for key in ["id", "created", "model", "system_fingerprint"] {
            if let Some(value) = chunk.get(key).filter(|value| !value.is_null()) {
                self.head.entry(key).or_insert_with(|| value.clone());
            }
        }
        for said in delta::read(chunk.clone(), &mut self.known)? {
            self.say(said);
        }
        Ok(())
    }

    fn say(&mut self, said: Said) {
        match said {
            Said::Reasoning(text) => self.reasoning.push_str(&text),
            Said::Thoughts(blocks) => self.thoughts.extend(blocks),
            Said::Text { text, logprobs } => {
                self.content.get_or_insert_default().push_str(&text);
                self.logprobs.extend(logprobs);
            }
            Said::Annotations(annotations) => self.annotations.extend(annotations),
            Said::Refusal(text) => self.refusal.get_or_insert_default().push_str(&text),
            Said::Call {
                call,
                id,
                name,
                arguments,
            } => {
                if call >= self.calls.len() {
                    let function = json!({ "name": name, "arguments": "" });
                    let call = json!({ "id": id, "type": "function", "function": function });
                    self.calls.push(call);
                }
                if let Value::String(so_far) = &mut self.calls[call]["function"]["arguments"] {
                    so_far.push_str(&arguments);
                }
            }
            Said::Finished { reason, stop } => self.finished = Some((reason, stop)),
            Said::Usage(usage) => {
                self.others.insert("usage".to_owned(), usage.into());
            }
            Said::ServiceTier(tier) => {
                self.others.insert("service_tier".to_owned(), tier);
            }
            Said::Other(key, value) => {
                self.others.insert(key, value);
            }
        }
    }

    /// Why the model stopped, as far as it did.
    pub(crate) fn finish_reason(&self) -> Option<&str> {
        self.finished.as_ref().map(|(reason, _)| reason.as_str())
    }

    /// The assistant's message, as it belongs into the conversation and into an answer.
    pub(crate) fn message(&self) -> Map {
        let mut message = map(json!({ "role": "assistant", "content": self.content, "refusal": self.refusal }));
        if !self.reasoning.is_empty() {
            message.insert("reasoning_content".to_owned(), self.reasoning.clone().into());
        }
        for (key, list) in [("tool_calls", &self.calls), ("annotations", &self.annotations)] {
            if !list.is_empty() {
                message.insert(key.to_owned(), list.clone().into());
            }
        }
        if !self.thoughts.is_empty() {
            message.insert(ANTHROPIC.to_owned(), json!({ "thinking": self.thoughts }));
        }
        message
    }

    /// The whole answer; what did not finish is none.
    #[cfg(test)]
    pub(crate) fn answer(&self) -> Result<Map, Broken> {
        let (reason, stop) = self.finished.as_ref().ok_or(Broken::Unfinished)?;
        let logprobs = match self.logprobs.as_slice() {
            [] => Value::Null,
            some => json!({ "content": some }),
        };
        let mut choice = json!({
            "index": 0,
            "message": self.message(),
            "finish_reason": reason,
            "logprobs": logprobs,
        });
        if let Some(stop) = stop {
            choice["stop_reason"] = stop.as_str().into();
        }
        let mut answer = self.head.clone();
        answer.extend(self.others.clone());
        answer.insert("object".to_owned(), "chat.completion".into());
        answer.insert("choices".to_owned(), json!([choice]));
        Ok(answer)
    }
}
