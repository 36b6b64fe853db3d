//! One question to the model, and what it takes to put it.

use crate::{
    dialect::{self, Map},
    money::{Billing, Bound, Limit, Opened, Order},
    reading::Begun,
    record::{Books, Record},
    settings::{Api, Backend, Model, Settings},
    upstream::{Ask, Call, Upstream, chain},
};
use arc_swap::ArcSwap;
use forebay_domain::{
    Action, Failure, Principal,
    model::{AnswerForm, Endpoint, Priority},
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
    pub(crate) billing: Billing,
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
        Record::open(
            &self.desk.books,
            &self.principal,
            self.via,
            Some(&self.model.name),
            &decision,
            0,
        )
    }

    /// Asks until a backend begins to answer, once what it may cost is set aside.
    pub(crate) async fn ask(&self, chat: &Map, calling: Calling, record: &mut Record) -> Result<Begun, Failure> {
        let settings = self.desk.settings.load_full();
        let order = Order {
            principal: &self.principal,
            trace: self.via.trace,
            endpoint: Endpoint::Chat,
            chain: chain(&settings, &self.model, &self.principal),
            bytes: bytes_of(chat),
            lasts: self.model.timeouts.total,
        };
        let bound = || Bound::of(Endpoint::Chat, chat);
        let Opened { bill, chain, limit } = self.desk.billing.open(order, bound).await?;
        let work = bill.work();
        record.asked(bill);
        let prepare = |backend: &Backend| prepare(chat, backend, self.events, calling, limit);
        let ask = Ask {
            chain: &chain,
            work: &work,
            prepare: &prepare,
            events: self.events,
            affinity: self.affinity,
            priority: self.priority,
            traceparent: &self.desk.traceparent(self.via),
            deadline: Instant::now() + self.model.timeouts.total,
        };
        let begun = self.desk.upstream.send(&ask).await?;
        record.answered_by(&begun.place, self.events);
        Ok(begun)
    }
}

/// How long a chat is, near enough for an estimate.
fn bytes_of(chat: &Map) -> usize {
    let written = |value: Option<&Value>| value.map_or(0, |value| value.to_string().len());
    written(chat.get("messages")) + written(chat.get("tools"))
}

/// A canonical request as one backend takes it; with a limit of the answer, where it has to have one.
pub(crate) fn prepare(
    chat: &Map,
    backend: &Backend,
    events: bool,
    calling: Calling,
    limit: Option<Limit>,
) -> Result<Call, Failure> {
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
    if let Some(limit) = limit {
        limit.put(upstream.endpoint(), backend.engine, &mut chat);
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
