//! From a request to an answer: policy, model, engine, record.

use crate::{
    answer,
    metrics::Metrics,
    reading::Begun,
    record::{Books, Record},
    relay::Relay,
    request::{Outgoing, Streams},
    routing::{self, BackendStatus, Probes, RouteExplanation, affinity_of_messages},
    settings::{Api, Backend, Model, NAME_BYTES_MAX, Settings},
    upstream::{Ask, Call, Upstream},
};
use arc_swap::ArcSwap;
use forebay_domain::{
    Action, Code, Failure, Principal,
    event::Outcome,
    model::{Answer, AnswerForm, Endpoint, ModelInfo, ModelRequest, Priority},
    port::{AskModel, BoxFuture, Via},
};
use forebay_runtime::{
    Clock, Entropy, Tasks,
    looping::{Nudge, drive},
    telemetry::TraceContext,
};
use forebay_store::EventLog;
use futures_util::{future::ready, stream};
use reqwest::Client;
use serde_json::json;
use std::sync::Arc;
use tokio::time::Instant;
use tracing::Instrument;

/// An error names at most so many models.
const NAMED_MODELS_MAX: usize = 20;

/// What a router stands on.
pub struct RouterParts {
    pub settings: Settings,
    /// The client for what the operator configured. It must not follow redirects.
    pub http: Client,
    pub events: EventLog,
    pub clock: Clock,
    pub entropy: Entropy,
    pub metrics: Metrics,
}

/// The one way to ask a model.
pub struct Router {
    settings: Arc<ArcSwap<Settings>>,
    upstream: Upstream,
    books: Books,
    entropy: Entropy,
}

impl Router {
    pub fn new(parts: RouterParts) -> Self {
        let router = Self {
            settings: Arc::default(),
            upstream: Upstream { http: parts.http },
            books: Books {
                events: parts.events,
                metrics: parts.metrics,
                clock: parts.clock,
            },
            entropy: parts.entropy,
        };
        router.books.metrics.show(&router.settings, &router.books.clock);
        router.reconfigure(parts.settings);
        router
    }

    /// Puts new settings in force. Requests under way keep the old ones to their end; what is known of backends that
    /// stay is kept.
    pub fn reconfigure(&self, settings: Settings) {
        let before = self.settings.load();
        routing::attach(&settings, Some(&before), &self.books.clock, &self.entropy);
        self.settings.store(Arc::new(settings));
    }

    /// Asks backends whether they are well, until the tasks end. Without it only requests tell.
    pub fn start_probes(&self, tasks: &Tasks) {
        let probes = Probes {
            settings: self.settings.clone(),
            http: self.upstream.http.clone(),
            clock: self.books.clock.clone(),
        };
        drive(tasks, probes, routing::PROBES_EVERY, Nudge::new());
    }

    /// How all backends are.
    pub fn backends(&self) -> Vec<BackendStatus> {
        routing::statuses(&self.settings.load(), &self.books.clock)
    }

    /// Why a request of this principal to this model would go where it would. `affinity` stands for how its prompt
    /// begins.
    pub fn explain_route(
        &self,
        principal: &Principal,
        model: &str,
        affinity: Option<u64>,
    ) -> Result<RouteExplanation, Failure> {
        principal.require(&Action::model(bounded(model)))?;
        let settings = self.settings.load();
        let found = settings
            .models
            .get(model)
            .ok_or_else(|| self.unknown(principal, model))?;
        Ok(routing::explain(&settings, principal, found, affinity))
    }

    async fn ask(&self, principal: &Principal, request: ModelRequest, via: Via) -> Result<Answer, Failure> {
        let action = Action::model(bounded(&request.model));
        let decision = principal.decide(&action);
        let found = self.settings.load().models.get(&request.model).cloned();
        let known = found.as_ref().map(|model| model.name.as_str());
        let mut record = Record::open(&self.books, principal, via, known, &decision, request.body.len());
        let span = record.span().clone();
        let answer = async {
            principal.require(&action)?;
            let model = found.ok_or_else(|| self.unknown(principal, &request.model))?;
            let outgoing = Outgoing::parse(&request.body)?;
            record.asked();
            let begun = self
                .send_chat(principal, &model, &outgoing, request.hints.priority, via)
                .await?;
            Ok((begun, outgoing.streams))
        };
        match answer.instrument(span).await {
            Ok((begun, streams)) => answer_with(begun, streams, record).await,
            Err(failure) => Err(closed(record, failure)),
        }
    }

    /// Says that there is no model of this name, to somebody who might use it if there were.
    fn unknown(&self, principal: &Principal, name: &str) -> Failure {
        let models: Vec<String> = self.models(principal).into_iter().map(|model| model.name).collect();
        let named = &models[..models.len().min(NAMED_MODELS_MAX)];
        let hint = if models.is_empty() {
            "No model is configured that you may use; an administrator adds them under `models:`.".to_owned()
        } else {
            let more = if named.len() < models.len() { ", …" } else { "" };
            format!("You may use: {}{more}.", named.join(", "))
        };
        let message = format!("There is no model `{}`.", bounded(name).escape_debug());
        Failure::new(Code::UnknownModel, message)
            .hint(hint)
            .details(json!({ "param": "model", "models": named }))
    }

    async fn send_chat(
        &self,
        principal: &Principal,
        model: &Arc<Model>,
        outgoing: &Outgoing<'_>,
        priority: Priority,
        via: Via,
    ) -> Result<Begun, Failure> {
        let prepare = |backend: &Backend| match backend.api {
            Api::OpenAi => Ok(Call {
                endpoint: Endpoint::Chat,
                body: outgoing.body_for(backend),
            }),
            Api::Anthropic => Err(speaks_no_chat(model)),
        };
        let ask = Ask {
            principal,
            prepare: &prepare,
            events: outgoing.streams != Streams::No,
            affinity: model
                .has_choice()
                .then(|| affinity_of_messages(&model.name, outgoing.messages)),
            priority,
            traceparent: &self.traceparent(via),
            deadline: Instant::now() + model.timeouts.total,
        };
        self.send(model, &ask).await
    }

    /// Asks the model's backends, or those of its fallbacks, until one begins to answer.
    pub(crate) async fn send(&self, model: &Arc<Model>, ask: &Ask<'_>) -> Result<Begun, Failure> {
        let settings = self.settings.load_full();
        self.upstream.send(&settings, model, ask).await
    }

    /// The place in the trace that the engine gets: below our span where spans are collected, else one that only
    /// carries the trace id, so that an engine's log and ours can be laid side by side.
    fn traceparent(&self, via: Via) -> String {
        if let Some(place) = TraceContext::of(&tracing::Span::current()) {
            return place.child(&self.entropy).to_string();
        }
        let span_id = u64::from_le_bytes(self.entropy.bytes()).max(1);
        format!("00-{}-{span_id:016x}-00", via.trace)
    }
}

impl AskModel for Router {
    fn complete<'a>(
        &'a self,
        principal: &'a Principal,
        request: ModelRequest,
        via: Via,
    ) -> BoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(self.ask(principal, request, via))
    }

    fn models(&self, principal: &Principal) -> Vec<ModelInfo> {
        let settings = self.settings.load();
        let allowed = settings
            .models
            .values()
            .filter(|model| principal.decide(&Action::model(&model.name)).is_allowed());
        allowed
            .map(|model| ModelInfo {
                name: model.name.clone(),
                engine: model
                    .backends
                    .iter()
                    .find_map(|backend| backend.engine)
                    .map(|engine| engine.as_str().to_owned()),
            })
            .collect()
    }
}

/// A streamed answer is handed on as soon as it begins; any other only once it is complete and makes sense.
async fn answer_with(begun: Begun, streams: Streams, mut record: Record) -> Result<Answer, Failure> {
    if streams != Streams::No {
        return Ok(Answer {
            form: AnswerForm::Events,
            body: Box::pin(Relay::new(begun, record, streams).into_stream()),
        });
    }
    match begun.whole().await {
        Ok((body, usage)) => {
            match usage {
                Some(usage) => record.used(usage),
                None => record.guess(answer::words(&body)),
            }
            record.passed(body.len());
            record.finish(Outcome::Ok);
            Ok(Answer {
                form: AnswerForm::Whole,
                body: Box::pin(stream::once(ready(Ok(body)))),
            })
        }
        Err(failure) => Err(closed(record, failure)),
    }
}

fn speaks_no_chat(model: &Model) -> Failure {
    let message = format!("A backend of model `{}` does not speak this API.", model.name);
    Failure::new(Code::UpstreamFailed, message).hint("Ask it in its own API.")
}

/// A name as far as a model's name can go. What is longer names no model, whatever its beginning says.
fn bounded(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX + 1)]
}

fn closed(mut record: Record, failure: Failure) -> Failure {
    record.finish(Outcome::Failed(failure.code));
    failure
}
