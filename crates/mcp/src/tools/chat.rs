//! `chat`: one question to one of the gateway's models.
//!
//! The question goes the one way that every question goes, [`AskModel`]; nothing here knows a backend.

use super::{
    definition::{Answer, Definition, Job, World},
    typed,
};
use crate::call::{Client, Step};
use bytes::Bytes;
use forebay_domain::{
    Code, Failure, Principal,
    model::{self, AnswerForm, Endpoint, Hints, ModelRequest},
    port::AskModel,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};

/// A small engine on a slow machine takes its time.
pub(crate) const TIME_LIMIT: Duration = Duration::from_mins(10);
const ANSWER_BYTES_MAX: usize = 8 << 20;

pub(crate) struct Chat {
    models: Arc<dyn AskModel>,
}

#[derive(Deserialize)]
struct Arguments {
    prompt: String,
    model: Option<String>,
    system: Option<String>,
    max_tokens: Option<u64>,
    temperature: Option<f64>,
}

impl Chat {
    pub(crate) fn new(models: Arc<dyn AskModel>) -> Self {
        Self { models }
    }

    pub(crate) fn is_offered_to(&self, principal: &Principal) -> bool {
        !self.models.models(principal).is_empty()
    }

    pub(crate) fn definition() -> Definition {
        Definition {
            name: "chat",
            title: "Chat",
            description: "Asks one of this gateway's language models and returns its answer. Each call stands alone: \
                          put everything that the model has to know into `prompt` and `system`."
                .to_owned(),
            input: json!({
                "type": "object",
                "properties": {
                    "prompt": {"type": "string", "description": "What to ask.", "minLength": 1},
                    "model": {
                        "type": "string",
                        "description": "The model's name, as the resource forebay://models lists it (default: the first)."
                    },
                    "system": {"type": "string", "description": "How the model should behave."},
                    "max_tokens": {"type": "integer", "description": "Longest answer, in tokens.", "minimum": 1},
                    "temperature": {
                        "type": "number",
                        "description": "0 for the likeliest answer, more for variety.",
                        "minimum": 0,
                        "maximum": 2
                    }
                },
                "required": ["prompt"],
                "additionalProperties": false
            }),
            output: json!({
                "type": "object",
                "properties": {
                    "model": {"type": "string"},
                    "text": {"type": "string"},
                    "usage": {"type": "object", "description": "Tokens, as the engine counted them."}
                },
                "required": ["model", "text"],
                "additionalProperties": false
            }),
            world: World::Open,
        }
    }

    pub(crate) async fn run(&self, job: Job<'_>) -> Result<Answer, Failure> {
        let wanted: Arguments = typed(job.arguments)?;
        let model = match &wanted.model {
            Some(model) => model.clone(),
            None => self.first_model(job.principal)?,
        };
        let request = ModelRequest {
            endpoint: Endpoint::Chat,
            model: model.clone(),
            body: body(&wanted, &model, job.client.wants_progress),
            hints: Hints::default(),
        };
        let answer = self.models.complete(job.principal, request, job.via).await?;
        let said = match answer.form() {
            AnswerForm::Whole => Said::whole(answer).await?,
            AnswerForm::Events => Said::pieces(answer, &job.client).await?,
        };
        let mut structured = Map::new();
        structured.insert("model".to_owned(), Value::String(model));
        structured.insert("text".to_owned(), Value::String(said.text.clone()));
        if let Some(usage) = said.usage {
            structured.insert("usage".to_owned(), Value::Object(usage));
        }
        Ok(Answer {
            text: Some(said.text),
            structured,
        })
    }

    fn first_model(&self, principal: &Principal) -> Result<String, Failure> {
        let first = self.models.models(principal).into_iter().next();
        first
            .map(|model| model.name)
            .ok_or_else(|| Failure::new(Code::UnknownModel, "There is no model that this key may ask."))
    }
}

fn body(wanted: &Arguments, model: &str, streamed: bool) -> Bytes {
    let mut messages = Vec::with_capacity(2);
    if let Some(system) = &wanted.system {
        messages.push(json!({"role": "system", "content": system}));
    }
    messages.push(json!({"role": "user", "content": wanted.prompt}));
    let mut body = json!({"model": model, "messages": messages});
    if let Some(max_tokens) = wanted.max_tokens {
        body["max_tokens"] = json!(max_tokens);
    }
    if let Some(temperature) = wanted.temperature {
        body["temperature"] = json!(temperature);
    }
    if streamed {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
    }
    body.to_string().into()
}

/// What a model said.
#[derive(Default)]
struct Said {
    text: String,
    usage: Option<Map<String, Value>>,
}

/// The members of a completion, or of a piece of one, that matter here.
#[derive(Deserialize)]
struct Completion {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(alias = "delta")]
    message: Option<Content>,
}

#[derive(Deserialize)]
struct Content {
    content: Option<String>,
}

impl Said {
    async fn whole(answer: model::Answer) -> Result<Self, Failure> {
        let mut said = Self::default();
        said.add(&answer.whole(ANSWER_BYTES_MAX).await?)?;
        Ok(said)
    }

    /// Tells the client how far it has come.
    async fn pieces(answer: model::Answer, client: &Client) -> Result<Self, Failure> {
        let mut said = Self::default();
        let mut events = answer.events(ANSWER_BYTES_MAX);
        while let Some(event) = events.next().await? {
            let new = said.add(event.as_bytes())?;
            if !new.is_empty() {
                #[expect(clippy::cast_precision_loss, reason = "an answer has fewer than 2^52 bytes")]
                let so_far = said.text.len() as f64;
                client.report(Step {
                    progress: so_far,
                    total: None,
                    message: Some(new),
                });
            }
        }
        Ok(said)
    }

    /// Takes in a completion or a piece of one, and returns the text that is new.
    fn add(&mut self, json: &[u8]) -> Result<String, Failure> {
        let completion: Completion = serde_json::from_slice(json).map_err(|fault| {
            Failure::new(Code::UpstreamFailed, "The model's answer is not a chat completion.").caused_by(fault)
        })?;
        if completion.usage.is_some() {
            self.usage = completion.usage;
        }
        let message = completion.choices.into_iter().next().and_then(|choice| choice.message);
        let text = message.and_then(|message| message.content).unwrap_or_default();
        self.text.push_str(&text);
        Ok(text)
    }
}
