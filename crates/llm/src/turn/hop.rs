//! One question to the model, and what it takes to put it.

use crate::{
    dialect::{self, Map},
    reading::Begun,
    record::{Books, Record},
    settings::{Api, Backend, Model, Settings},
    upstream::{Ask, Call, Upstream},
};
use arc_swap::ArcSwap;
use forebay_domain::{
    Action, Failure, Principal,
    model::{AnswerForm, Priority},
    port::Via,
};
use forebay_runtime::{Entropy, telemetry::TraceContext};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::Instant;

/// What models are asked with: the router's own parts, for as long as one answer takes.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) settings: Arc<ArcSwap<Settings>>,
    pub(crate) upstream: Upstream,
    pub(crate) books: Books,
    pub(crate) entropy: Entropy,
}

impl Desk {
    /// The place in the trace that the engine gets: below our span where spans are collected, else one that only
    /// carries the trace id, so that an engine's log and ours can be laid side by side.
    pub(crate) fn traceparent(&self, via: Via) -> String {
        if let Some(place) = TraceContext::of(&tracing::Span::current()) {
            return place.child(&self.entropy).to_string();
        }
        let span_id = u64::from_le_bytes(self.entropy.bytes()).max(1);
        format!("00-{}-{span_id:016x}-00", via.trace)
    }

    pub(crate) fn now_s(&self) -> u64 {
        u64::try_from(self.books.clock.now().as_second()).unwrap_or(0)
    }
}

/// Who asks which model, hop after hop.
pub(crate) struct Asker {
    pub(crate) desk: Desk,
    pub(crate) principal: Principal,
    pub(crate) via: Via,
    pub(crate) model: Arc<Model>,
    pub(crate) priority: Priority,
    pub(crate) affinity: Option<u64>,
    pub(crate) events: bool,
}

/// Whether the model may call tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calling {
    Allowed,
    /// It has called enough and is to answer.
    Over,
}

impl Asker {
    /// How engines are to answer.
    pub(crate) fn form(&self) -> AnswerForm {
        if self.events {
            AnswerForm::Events
        } else {
            AnswerForm::Whole
        }
    }

    /// The record of one more hop.
    pub(crate) fn record(&self) -> Record {
        let decision = self.principal.decide(&Action::model(&self.model.name));
        let mut record = Record::open(
            &self.desk.books,
            &self.principal,
            self.via,
            Some(&self.model.name),
            &decision,
            0,
        );
        record.asked();
        record
    }

    /// Asks until a backend begins to answer.
    pub(crate) async fn ask(&self, chat: &Map, calling: Calling) -> Result<Begun, Failure> {
        let prepare = |backend: &Backend| prepare(chat, backend, self.events, calling);
        let ask = Ask {
            principal: &self.principal,
            prepare: &prepare,
            events: self.events,
            affinity: self.affinity,
            priority: self.priority,
            traceparent: &self.desk.traceparent(self.via),
            deadline: Instant::now() + self.model.timeouts.total,
        };
        let settings = self.desk.settings.load_full();
        self.desk.upstream.send(&settings, &self.model, &ask).await
    }
}

/// A canonical request as one backend takes it.
pub(crate) fn prepare(chat: &Map, backend: &Backend, events: bool, calling: Calling) -> Result<Call, Failure> {
    let upstream = dialect::Upstream::from(backend.api);
    let mut chat = chat.clone();
    if calling == Calling::Over {
        match upstream {
            dialect::Upstream::OpenAi => {
                chat.remove("tools");
                chat.remove("tool_choice");
            }
            // It refuses a conversation with calls in which the tools are not defined.
            dialect::Upstream::Anthropic => {
                chat.insert("tool_choice".to_owned(), "none".into());
            }
        }
    }
    let mut body = dialect::chat_to_upstream(upstream, chat)?;
    let model: Value = serde_json::from_str(&backend.model_json).expect("the settings wrote it as JSON");
    body.insert("model".to_owned(), model);
    body.insert("stream".to_owned(), events.into());
    if upstream == dialect::Upstream::OpenAi {
        body.remove("stream_options");
        if events {
            body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
        }
    }
    Ok(Call {
        endpoint: upstream.endpoint(),
        body: Value::from(body).to_string().into_bytes(),
    })
}

impl From<Api> for dialect::Upstream {
    fn from(api: Api) -> Self {
        match api {
            Api::OpenAi => Self::OpenAi,
            Api::Anthropic => Self::Anthropic,
        }
    }
}

impl Begun {
    /// Whose API the answer is written in.
    pub(crate) fn api(&self) -> dialect::Upstream {
        self.place.model.backends[self.place.backend].api.into()
    }
}
