//! From a request to an answer: policy, model, engine, record.

mod foreseen;
mod later;
mod offered;

use later::Later;
pub use later::RespondLater;
use offered::Offered;

use crate::{
    answer, dialect,
    metrics::Metrics,
    money::{Billing, Bound, Opened, Order, check_model, once},
    reading::Begun,
    record::{Books, Record},
    relay::Relay,
    request::{Outgoing, Streams},
    routing::{self, BackendStatus, Probes, affinity_of_messages},
    settings::{Backend, Model, NAME_BYTES_MAX, Settings},
    turn::{
        self, Asker, Before, Calling, Desk, Ground, Means, Question, ResponsesConfig, Shelf, Turn, wants_background,
        wants_turn,
    },
    upstream::{Ask, Call, Upstream, chain},
};
use forebay_domain::{
    Action, Code, Failure, Principal,
    event::Outcome,
    model::{Answer, Endpoint, ModelInfo, ModelRequest},
    port::{AskModel, BoxFuture, CallTool, FindContext, Via},
};
use forebay_runtime::http::Engines;
use forebay_runtime::{
    Clock, Entropy, Tasks,
    looping::{Nudge, drive},
};
use forebay_store::{EventLog, Responses, ledger::Ledger};
use serde_json::json;
use std::sync::{Arc, OnceLock};
use tokio::time::Instant;
use tracing::Instrument;

/// An error names at most so many models.
const NAMED_MODELS_MAX: usize = 20;

/// What a router stands on.
pub struct RouterParts {
    pub settings: Settings,
    pub events: EventLog,
    pub responses: Responses,
    /// What asking models costs goes there.
    pub ledger: Ledger,
    pub clock: Clock,
    pub entropy: Entropy,
    pub metrics: Metrics,
}

/// The one way to ask a model.
pub struct Router {
    desk: Desk,
    offered: Offered,
    means: OnceLock<Means>,
    /// Where responses go that nobody waits for.
    later: OnceLock<Later>,
}

impl Router {
    pub fn new(parts: RouterParts) -> Self {
        let router = Self {
            desk: Desk {
                settings: Arc::default(),
                upstream: Upstream { http: Engines::new() },
                billing: Billing {
                    ledger: parts.ledger,
                    clock: parts.clock.clone(),
                },
                books: Books {
                    events: parts.events,
                    shelf: Shelf::new(parts.responses),
                    metrics: parts.metrics,
                    clock: parts.clock,
                },
                entropy: parts.entropy,
            },
            offered: Offered::default(),
            means: OnceLock::new(),
            later: OnceLock::new(),
        };
        router
            .desk
            .books
            .metrics
            .show(&router.desk.settings, &router.desk.books.clock);
        router.reconfigure(parts.settings);
        router
    }

    /// Tells the router what runs tools and finds context. Both ask models themselves, so they come after it; the first
    /// ones count. Without them requests that name any are refused.
    pub fn introduce(&self, tools: Arc<dyn CallTool>, context: Arc<dyn FindContext>) {
        // Whoever comes second is not needed.
        let _ = self.means.set(Means { tools, context });
    }

    /// Puts new settings in force. Requests under way keep the old ones to their end; what is known of backends that
    /// stay is kept.
    pub fn reconfigure(&self, settings: Settings) {
        self.offered.configure(settings, |joined| self.put_in_force(joined));
    }

    /// Offers these models too, where the configuration has none of their names. They take the place of those that were
    /// offered so before.
    pub fn list(&self, settings: Settings) {
        self.offered.list(settings, |joined| self.put_in_force(joined));
    }

    fn put_in_force(&self, settings: Settings) {
        let before = self.desk.settings.load();
        routing::attach(&settings, Some(&before), &self.desk.books.clock, &self.desk.entropy);
        self.desk.settings.store(Arc::new(settings));
    }

    /// Says which responses are kept from now on.
    pub fn keep_responses(&self, config: ResponsesConfig) {
        self.desk.books.shelf.set(config);
    }

    /// Asks backends whether they are well, until the tasks end. Without it only requests tell.
    pub fn start_probes(&self, tasks: &Tasks) {
        let probes = Probes {
            settings: self.desk.settings.clone(),
            http: self.desk.upstream.http.clone(),
            clock: self.desk.books.clock.clone(),
        };
        drive(tasks, probes, routing::PROBES_EVERY, Nudge::new());
    }

    /// How all backends are.
    pub fn backends(&self) -> Vec<BackendStatus> {
        routing::statuses(&self.desk.settings.load(), &self.desk.books.clock)
    }

    async fn ask(&self, principal: &Principal, request: ModelRequest, via: Via) -> Result<Answer, Failure> {
        match self.later.get() {
            Some(later) if wants_background(request.endpoint, &request.body) => {
                self.put_off(later, principal, request, via).await
            }
            Some(_) | None => self.ask_now(principal, request, via, None).await,
        }
    }

    async fn ask_now(
        &self,
        principal: &Principal,
        request: ModelRequest,
        via: Via,
        promised: Option<Promised>,
    ) -> Result<Answer, Failure> {
        let action = Action::model(bounded(&request.model));
        let decision = principal.decide(&action);
        let found = self.desk.settings.load().models.get(&request.model).cloned();
        let known = found.as_ref().map(|model| model.name.as_str());
        let mut record = Record::open(&self.desk.books, principal, via, known, &decision, request.body.len());
        let span = record.span().clone();
        let model = async {
            principal.require(&action)?;
            check_model(&request.body, self.desk.billing.limits(principal))?;
            found.ok_or_else(|| self.unknown(principal, &request.model))
        };
        let model = match model.await {
            Ok(model) => model,
            Err(failure) => return Err(closed(record, failure)),
        };
        let caller = Caller {
            principal,
            via,
            model,
            promised,
        };
        // What a turn has to remember is large, and boxed, so that a request that is none has nothing of it to carry.
        if wants_turn(request.endpoint, &request.body, request.hints.context.is_some()) {
            return match Box::pin(self.turn(&caller, &request)).instrument(span).await {
                Ok(turn) => Box::pin(turn.answer(record)).await,
                Err(failure) => Err(closed(record, failure)),
            };
        }
        match self.pass(&caller, &request, &mut record).instrument(span).await {
            Ok(Passed::AsItIs(begun, streams)) => Ok(answer_with(begun, streams, request.endpoint, record)),
            Ok(Passed::Translated(begun, turn)) => Box::pin(turn.answer_from(begun, record)).await,
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

    /// A turn with all that the request wants of the gateway.
    async fn turn(&self, caller: &Caller<'_>, request: &ModelRequest) -> Result<Turn, Failure> {
        let mut before = Before::default();
        if request.endpoint == Endpoint::Responses
            && let Some(id) = turn::previous(&request.body)?
        {
            let books = &self.desk.books;
            before = books.shelf.before(caller.principal, &id, books.clock.now()).await?;
        }
        let question = self.question_after(request, before, caller.promised.as_ref())?;
        let asker = self.asker(caller, request, &question);
        Turn::prepare(question, asker, self.means.get().cloned()).await
    }

    /// Sends the client's own bytes to a backend of the same API; to any other one what they mean in its API.
    async fn pass(&self, caller: &Caller<'_>, request: &ModelRequest, record: &mut Record) -> Result<Passed, Failure> {
        let endpoint = request.endpoint;
        turn::check_embeddings(request)?;
        let outgoing = Outgoing::parse(endpoint, &request.body)?;
        let events = outgoing.streams != Streams::No;
        let settings = self.desk.settings.load_full();
        let order = Order {
            principal: caller.principal,
            trace: caller.via.trace,
            endpoint,
            chain: chain(&settings, &caller.model, caller.principal),
            bytes: request.body.len(),
            lasts: caller.model.timeouts.total,
        };
        let bound = || Bound::of(endpoint, &once(&request.body)?);
        let Opened { bill, chain, limit } = self.desk.billing.open(order, bound).await?;
        let work = bill.work();
        record.asked(bill);
        let prepare = |backend: &Backend| {
            if dialect::native(endpoint, backend.api.into()) {
                let body = outgoing.body_for(backend, limit);
                return Ok(Call { endpoint, body });
            }
            let question = self.question(request)?;
            turn::prepare(&question.chat, backend, events, Calling::Allowed, limit)
        };
        let messages = outgoing.messages.filter(|_| caller.model.has_choice());
        let ask = Ask {
            chain: &chain,
            work: &work,
            prepare: &prepare,
            events,
            affinity: messages.map(|messages| affinity_of_messages(&caller.model.name, messages)),
            priority: request.hints.priority,
            traceparent: &self.desk.traceparent(caller.via),
            deadline: Instant::now() + caller.model.timeouts.total,
        };
        let begun = self.desk.upstream.send(&ask).await?;
        record.answered_by(&begun.place, events);
        if dialect::native(endpoint, begun.api()) {
            return Ok(Passed::AsItIs(begun, outgoing.streams));
        }
        let question = self.question(request)?;
        let asker = self.asker(caller, request, &question);
        Ok(Passed::Translated(begun, Box::new(Turn::plain(question, asker))))
    }

    fn question(&self, request: &ModelRequest) -> Result<Question, Failure> {
        self.question_after(request, Before::default(), None)
    }

    fn question_after(
        &self,
        request: &ModelRequest,
        before: Before,
        promised: Option<&Promised>,
    ) -> Result<Question, Failure> {
        let drawn = || format!("{:016x}", u64::from_le_bytes(self.desk.entropy.bytes()));
        let ground = Ground {
            id: promised.map_or_else(drawn, |promised| promised.name.clone()),
            before,
            is_open: self.desk.books.shelf.is_open(),
            is_later: promised.is_some(),
        };
        Question::read(
            request.endpoint,
            &request.body,
            &request.hints,
            ground,
            promised.map_or_else(|| self.desk.now_s(), |promised| promised.created_s),
        )
    }

    fn asker(&self, caller: &Caller<'_>, request: &ModelRequest, question: &Question) -> Asker {
        let model = &caller.model;
        let affinity = || affinity_of_messages(&model.name, &question.messages());
        Asker {
            desk: self.desk.clone(),
            principal: caller.principal.clone(),
            via: caller.via,
            model: model.clone(),
            priority: request.hints.priority,
            affinity: model.has_choice().then(affinity),
            events: question.events,
        }
    }
}

/// Who asks which model.
struct Caller<'a> {
    principal: &'a Principal,
    via: Via,
    model: Arc<Model>,
    promised: Option<Promised>,
}

/// What a client knows already of the answer that it will get.
#[derive(Debug)]
struct Promised {
    name: String,
    /// When it was promised, in seconds.
    created_s: u64,
}

/// What came of a request that wants nothing but an answer.
enum Passed {
    /// An answer in the API of whoever asked.
    AsItIs(Begun, Streams),
    /// One that has to be translated.
    Translated(Begun, Box<Turn>),
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
        let settings = self.desk.settings.load();
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
                context_tokens: model.context_tokens,
            })
            .collect()
    }
}

/// A streamed answer is handed on as soon as it begins; any other only once it is complete and makes sense.
fn answer_with(begun: Begun, streams: Streams, endpoint: Endpoint, mut record: Record) -> Answer {
    if streams != Streams::No {
        return Answer::Events(Box::pin(Relay::new(begun, record, streams, endpoint).into_stream()));
    }
    let (body, usage) = begun.whole();
    if let Some(usage) = usage {
        record.used(usage);
    } else {
        record.guess(answer::words(&body));
        record.said(|| answer::said(&body));
    }
    record.passed(body.len());
    record.finish(Outcome::Ok);
    Answer::Whole(body)
}

/// A name as far as a model's name can go. What is longer names no model, whatever its beginning says.
fn bounded(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX + 1)]
}

fn closed(mut record: Record, failure: Failure) -> Failure {
    record.finish(Outcome::Failed(failure.code));
    failure
}
