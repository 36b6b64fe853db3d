//! One question to a model within a context: what it is sent, and what is heard.

use super::node;
use bytes::Bytes;
use forebay_api::ContextPrompt;
use forebay_domain::{
    Code, Failure, Principal,
    event::Usage,
    model::{Answer, AnswerForm, Endpoint, Hints, ModelRequest, Priority},
    port::{AskModel, Tell, Via},
};
use forebay_store::conversations::{METADATA_BYTES_MAX, StoredNode};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};
use std::collections::BTreeMap;

/// Larger than any answer that a node can hold, with all that comes around it.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Calls of tools that one answer may ask its client for.
const CALLS_MAX: usize = 128;

/// What is asked of whom.
pub(super) struct Question<'a> {
    pub(super) model: &'a str,
    /// What the model reads, in order; the prompt is the last.
    pub(super) nodes: Vec<&'a StoredNode>,
    pub(super) prompt: &'a ContextPrompt,
    pub(super) priority: Priority,
}

/// What a model said.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) usage: Option<Usage>,
    finish_reason: Option<String>,
    tool_calls: Vec<Value>,
    /// What the gateway says about it: citations, tools that ran, cost.
    forebay: Option<Value>,
    /// The same pieces, put together by their places.
    begun_calls: BTreeMap<u64, Map<String, Value>>,
}

impl Question<'_> {
    fn body(&self) -> Bytes {
        let prompt = self.prompt;
        let messages: Vec<Value> = self.nodes.iter().map(|node| node::message(node)).collect();
        let mut body = json!({ "model": self.model, "messages": messages });
        if let Some(max_tokens) = prompt.max_tokens {
            body["max_tokens"] = json!(max_tokens);
        }
        if let Some(temperature) = prompt.temperature {
            body["temperature"] = json!(temperature);
        }
        if let Some(context) = &prompt.mcp_context {
            body["mcp_context"] = context.clone();
        }
        if let Some(tools) = prompt.tools.as_ref().filter(|tools| !tools.is_empty()) {
            body["tools"] = json!(tools);
        }
        if prompt.stream {
            body["stream"] = json!(true);
            body["stream_options"] = json!({ "include_usage": true });
        }
        body.to_string().into()
    }

    /// Asks, and tells the text piece by piece where it comes so.
    pub(super) async fn ask(
        &self,
        models: &dyn AskModel,
        principal: &Principal,
        via: Via,
        tell: &dyn Tell,
    ) -> Result<Said, Failure> {
        let request = ModelRequest {
            endpoint: Endpoint::Chat,
            model: self.model.to_owned(),
            body: self.body(),
            hints: Hints {
                priority: self.priority,
                ..Hints::default()
            },
        };
        let answer = models.complete(principal, request, via).await?;
        let mut said = match answer.form() {
            AnswerForm::Whole => Said::whole(answer).await?,
            AnswerForm::Events => Said::pieces(answer, tell).await?,
        };
        said.tool_calls
            .extend(std::mem::take(&mut said.begun_calls).into_values().map(Value::Object));
        Ok(said)
    }
}

impl Said {
    async fn whole(answer: Answer) -> Result<Self, Failure> {
        let mut said = Self::default();
        said.add(&answer.whole(ANSWER_BYTES_MAX).await?)?;
        Ok(said)
    }

    async fn pieces(answer: Answer, tell: &dyn Tell) -> Result<Self, Failure> {
        let mut said = Self::default();
        let mut events = answer.events(ANSWER_BYTES_MAX);
        while let Some(event) = events.next().await? {
            let new = said.add(event.as_bytes())?;
            if !new.is_empty() {
                tell.tell(json!({ "content": new }).to_string().into());
            }
        }
        Ok(said)
    }

    /// What is kept beside the text. Of what is too large the calls stay: the conversation goes on from them.
    pub(super) fn metadata(&self, model: &str, left_out: usize) -> Result<Box<RawValue>, Failure> {
        let mut metadata = Map::new();
        metadata.insert("model".to_owned(), json!(model));
        if let Some(reason) = &self.finish_reason {
            metadata.insert("finish_reason".to_owned(), json!(reason));
        }
        if left_out > 0 {
            metadata.insert("nodes_left_out".to_owned(), json!(left_out));
        }
        if !self.tool_calls.is_empty() {
            metadata.insert("tool_calls".to_owned(), json!(self.tool_calls));
        }
        let bytes = |value: &Value| value.to_string().len();
        let taken = bytes(&json!(metadata));
        if let Some(forebay) = self
            .forebay
            .as_ref()
            .filter(|forebay| taken + bytes(forebay) + 32 <= METADATA_BYTES_MAX)
        {
            metadata.insert("forebay".to_owned(), forebay.clone());
        }
        node::metadata(&metadata)
    }

    /// Takes in a completion or a piece of one, and gives the text that is new.
    fn add(&mut self, json: &[u8]) -> Result<String, Failure> {
        let completion: Completion = serde_json::from_slice(json).map_err(|fault| {
            Failure::new(Code::UpstreamFailed, "The model's answer is not a chat completion.").caused_by(fault)
        })?;
        if completion.error.is_some_and(|error| !error.is_null()) {
            let failure = Failure::new(Code::UpstreamFailed, "The engine broke its answer off with an error.");
            return Err(failure.hint("Try again; it may have passed."));
        }
        if let Some(usage) = completion.usage {
            self.usage = Some(Usage {
                input_tokens: usage.prompt_tokens,
                output_tokens: usage.completion_tokens,
                estimated: usage.estimated,
            });
        }
        if completion.forebay.is_some() {
            self.forebay = completion.forebay;
        }
        let Some(choice) = completion.choices.into_iter().next() else {
            return Ok(String::new());
        };
        if choice.finish_reason.is_some() {
            self.finish_reason = choice.finish_reason;
        }
        let message = choice.message.unwrap_or_default();
        for (place, call) in (0_u64..).zip(message.tool_calls.unwrap_or_default()) {
            self.call(place, call)?;
        }
        let text = message.content.unwrap_or_default();
        self.text.push_str(&text);
        Ok(text)
    }

    /// A call, or a piece of one: texts of one place are joined, as OpenAI's clients do it.
    fn call(&mut self, place: u64, mut piece: Map<String, Value>) -> Result<(), Failure> {
        let place = piece.remove("index").and_then(|index| index.as_u64()).unwrap_or(place);
        if self.begun_calls.len() >= CALLS_MAX && !self.begun_calls.contains_key(&place) {
            let message = format!("The model asked for more than {CALLS_MAX} calls of tools at once.");
            return Err(Failure::new(Code::UpstreamFailed, message));
        }
        merge(self.begun_calls.entry(place).or_default(), piece);
        Ok(())
    }
}

/// Joins what is said of the arguments, and takes over what was not said before.
fn merge(call: &mut Map<String, Value>, piece: Map<String, Value>) {
    for (name, value) in piece {
        match (call.get_mut(&name), value) {
            (Some(Value::Object(before)), Value::Object(more)) => merge(before, more),
            (Some(Value::String(before)), Value::String(more)) if name == "arguments" => before.push_str(&more),
            (Some(before), more) if before.is_null() => *before = more,
            (Some(_), _) => {}
            (None, value) => {
                call.insert(name, value);
            }
        }
    }
}

/// The members of a completion, or of a piece of one, that matter here.
#[derive(Deserialize)]
struct Completion {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Counted>,
    forebay: Option<Value>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Counted {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    #[serde(default)]
    estimated: bool,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(alias = "delta")]
    message: Option<Message>,
    finish_reason: Option<String>,
}

#[derive(Deserialize, Default)]
struct Message {
    content: Option<String>,
    tool_calls: Option<Vec<Map<String, Value>>>,
}
