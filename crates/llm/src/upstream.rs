//! Sending a request to an engine, and to another one where the first cannot answer.
//!
//! **What is sent twice.** Nothing, once somebody has seen a byte of an answer. Before that a request has no effect: asking
//! a model changes nothing. So it goes to another backend where no connection came about, where the connection broke
//! before the answer, where the engine answers with an error of its own (5xx), takes no more (429), or is not set up for
//! us (401, 403, 404) or cannot do this at all (501), where an answer in one piece
//! breaks off, says nothing that makes sense or holds an error, and where a stream begins with an error or ends before its
//! first event; one that is too large would be so again. Where it just does not begin in time it may be hard at work, and another one
//! would do the same work again: that is tried only where the configuration says so. Attempts are counted, and all of
//! them share one deadline.
//!
//! What goes upstream is written here from nothing: no header of a caller is known.

use crate::{
    fault::{Place, lacks, retry_after},
    money::Work,
    reading::{Begun, Spoiled},
    routing::{End, Lease, Refusal, Telling, Tried, Wish},
    settings::{Api, Backend, Model, Settings},
};
use bytes::Bytes;
use forebay_domain::{
    Action, Code, Failure, Principal,
    model::{Endpoint, Priority},
    route::WhenAllAreOut,
};
use forebay_runtime::http::{
    Engines,
    engines::{Answer, SendFault},
};
use http::{
    HeaderName, Method, Request, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue, USER_AGENT},
};
use http_body_util::Full;
use serde_json::json;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::Instant;

const OUR_NAME: &str = concat!("forebay/", env!("CARGO_PKG_VERSION"));
const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";
const ANTHROPIC_VERSION_NAME: HeaderName = HeaderName::from_static("anthropic-version");
const ANTHROPIC_VERSION: &str = "2023-06-01";
/// Whoever finds the queue full is told to come back no sooner than this, and no later.
const COME_BACK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What is wanted of a model, whichever backend is asked.
pub(crate) struct Ask<'a> {
    /// The model, and those that it falls back to: see [`chain`].
    pub(crate) chain: &'a [Arc<Model>],
    /// Told of each attempt, and of those that came to nothing for certain.
    pub(crate) work: &'a Work,
    /// Writes the request for one backend: it has its own name for the model, and perhaps its own API. Where it fails,
    /// this backend cannot be asked; another one may.
    pub(crate) prepare: &'a (dyn Fn(&Backend) -> Result<Call, Failure> + Sync),
    /// Whether the answer is to come as events.
    pub(crate) events: bool,
    /// The same for prompts that begin alike.
    pub(crate) affinity: Option<u64>,
    pub(crate) priority: Priority,
    pub(crate) traceparent: &'a str,
    /// When the answer has to be complete.
    pub(crate) deadline: Instant,
}

/// A request as one backend gets it.
pub(crate) struct Call {
    pub(crate) endpoint: Endpoint,
    pub(crate) body: Vec<u8>,
}

/// Why one model gave no answer.
enum Miss {
    /// Asking anybody else would not help, or is not allowed.
    Final(Failure),
    /// A fallback may do better.
    Next(Failure),
}

/// Why one backend gave no answer.
enum Missed {
    /// No connection came about: nothing was sent, and this is no attempt that counts.
    Unreachable(SendFault),
    Failed(Failure, Again),
}

impl From<Spoiled> for Missed {
    fn from(spoiled: Spoiled) -> Self {
        Self::Failed(spoiled.failure, Again::provided(spoiled.is_worth_another))
    }
}

/// Whether another backend may be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    No,
    Yes,
}

impl Again {
    fn provided(it_helps: bool) -> Self {
        if it_helps { Self::Yes } else { Self::No }
    }
}

/// Sends requests upstream.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) http: Engines,
}

impl Upstream {
    /// Asks the model's backends, then its fallbacks, until one begins to answer.
    pub(crate) async fn send(&self, ask: &Ask<'_>) -> Result<Begun, Failure> {
        let chain = ask.chain;
        let mut attempts_left = chain.first().map_or(0, |model| model.attempts);
        let mut first = None;
        for (at, model) in chain.iter().enumerate() {
            let now = model.live_side().gate.now();
            let is_last_hope = !chain[at + 1..].iter().any(|model| model.has_any_up(now));
            let asking = Asking {
                http: &self.http,
                model,
                ask,
                when_all_are_out: WhenAllAreOut::of(is_last_hope),
            };
            match asking.send(&mut attempts_left).await {
                Ok(begun) => return Ok(begun),
                Err(Miss::Final(failure)) => return Err(first.unwrap_or(failure)),
                Err(Miss::Next(failure)) => first = first.or(Some(failure)),
            }
        }
        Err(first.expect("the chain begins with the model itself"))
    }
}

/// The model and those it falls back to, as far as the caller may ask them.
pub(crate) fn chain(settings: &Settings, model: &Arc<Model>, principal: &Principal) -> Vec<Arc<Model>> {
    let fallbacks = model.fallbacks.iter().filter_map(|name| settings.models.get(name));
    let allowed = fallbacks.filter(|model| principal.decide(&Action::model(&model.name)).is_allowed());
    std::iter::once(model).chain(allowed).cloned().collect()
}

/// One request to one model.
struct Asking<'a> {
    http: &'a Engines,
    model: &'a Arc<Model>,
    ask: &'a Ask<'a>,
    when_all_are_out: WhenAllAreOut,
}

/// What went wrong at one model so far.
#[derive(Default)]
struct Past {
    tried: Tried,
    /// The last one that failed.
    failed: Option<usize>,
    /// Its words, where it had any.
    told: Option<Failure>,
    unreachable: Option<SendFault>,
}

impl Asking<'_> {
    async fn send(&self, attempts_left: &mut u32) -> Result<Begun, Miss> {
        let mut past = Past::default();
        loop {
            let lease = match self.enter(past.tried).await {
                Ok(lease) => lease,
                Err(refusal) => return Err(Miss::Next(self.without_place(refusal, past))),
            };
            if let Some(failed) = past.failed {
                self.model.live_side().lives[failed].retried();
            }
            let index = lease.index();
            past.tried.add(index);
            past.failed = Some(index);
            match self.attempt(lease).await {
                Ok(begun) => return Ok(begun),
                Err(Missed::Unreachable(error)) => past.unreachable = Some(error),
                Err(Missed::Failed(failure, Again::No)) => return Err(Miss::Final(failure)),
                Err(Missed::Failed(failure, Again::Yes)) => {
                    *attempts_left = attempts_left.saturating_sub(1);
                    if *attempts_left == 0 {
                        return Err(Miss::Final(failure));
                    }
                    past.told = Some(failure);
                }
            }
        }
    }

    async fn enter(&self, tried: Tried) -> Result<Lease, Refusal> {
        let wish = Wish {
            affinity: self.ask.affinity,
            tried,
            when_all_are_out: self.when_all_are_out,
        };
        let gate = &self.model.live_side().gate;
        gate.enter(self.model, wish, self.ask.priority, self.ask.deadline).await
    }

    /// There is no backend left to ask: what happened at the last one tells most.
    fn without_place(&self, refusal: Refusal, past: Past) -> Failure {
        let name = &self.model.name;
        if let Some(failure) = past.told {
            return failure;
        }
        if let Some(error) = past.unreachable {
            let count = past.tried.count();
            let message = format!("No backend of model `{name}` can be reached; {count} tried.");
            return Failure::new(Code::UpstreamFailed, message)
                .hint("Nothing was sent. Try again once the engine runs.")
                .details(json!({ "model": name }))
                .caused_by(error);
        }
        match refusal {
            Refusal::AllOut | Refusal::AllTried => {
                let message = format!("All backends of model `{name}` are out of use for now.");
                Failure::new(Code::UpstreamFailed, message)
                    .hint("Nothing was sent. Try again once an engine works.")
                    .details(json!({ "model": name }))
            }
            Refusal::QueueFull { longest } => self.overloaded("and as many requests wait as may wait", longest),
            Refusal::WaitedTooLong(waited) => {
                let how = format!("and none had room within {} s", waited.as_secs());
                self.overloaded(&how, waited)
            }
        }
    }

    /// As long as requests wait now, they will wait a moment later.
    fn overloaded(&self, how: &str, waits: Duration) -> Failure {
        let name = &self.model.name;
        let message = format!("The backends of model `{name}` have as many requests as they may have, {how}.");
        Failure::new(Code::Overloaded, message)
            .hint(format!(
                "Nothing was sent. Try again later, or ask an administrator to raise `models.{name}.queue` or a \
                 backend's `max_concurrency`."
            ))
            .details(json!({ "model": name }))
            .retry_after(waits.clamp(COME_BACK.0, COME_BACK.1))
    }

    /// Asks one backend.
    async fn attempt(&self, mut lease: Lease) -> Result<Begun, Missed> {
        let place = Place {
            model: self.model.clone(),
            backend: lease.index(),
        };
        let backend = &self.model.backends[place.backend];
        let (endpoint, request) = match (self.ask.prepare)(backend) {
            Ok(call) => (call.endpoint, self.request(backend, call)),
            Err(failure) => return Err(Missed::Failed(failure, Again::Yes)),
        };
        let limit = self.model.timeouts.begin;
        let until = (Instant::now() + limit).min(self.ask.deadline);
        self.ask.work.sent();
        let response = match tokio::time::timeout_at(until, self.http.send(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                lease.end(End::Failed);
                if error.is_connect() {
                    self.ask.work.refused();
                    return Err(Missed::Unreachable(error));
                }
                return Err(Missed::Failed(place.lost(error), Again::Yes));
            }
            Err(_) => {
                lease.end(End::Failed);
                let again = Again::provided(self.model.retries_timeouts);
                let failure = place.timed_out("did not begin to answer", limit, "begin_s");
                return Err(Missed::Failed(failure, again));
            }
        };
        if response.status().is_success() {
            return self.begin(response, place, lease, endpoint).await;
        }
        let (end, again) = verdict(&response, endpoint);
        lease.end(end);
        if is_refusal(response.status()) {
            self.ask.work.refused();
        }
        Err(Missed::Failed(place.refused(response, endpoint).await, again))
    }

    fn request(&self, backend: &Backend, call: Call) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::from(call.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = backend.uri(call.endpoint).clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        headers.insert(ACCEPT, HeaderValue::from_static(self.wanted()));
        headers.insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
        if let Ok(place) = HeaderValue::from_str(self.ask.traceparent) {
            headers.insert("traceparent", place);
        }
        headers.extend(backend.shows());
        request
    }

    /// Lets through a success of the form that was asked for. An answer in one piece is read here to its end, and a stream
    /// to the end of its first event: as long as nobody has seen any of it, another backend may give a better one.
    async fn begin(&self, response: Answer, place: Place, lease: Lease, endpoint: Endpoint) -> Result<Begun, Missed> {
        let mut begun = Begun {
            response,
            place,
            lease,
            deadline: self.ask.deadline,
            told: None,
            ahead: VecDeque::new(),
            is_too_large: false,
        };
        let wanted = self.wanted();
        let got = begun.media_type();
        let failure = match got.as_str() {
            got if got == wanted && self.ask.events => {
                begun.lease.began(Telling::Latency);
                return match begun.look_ahead(endpoint).await {
                    Ok(()) => Ok(begun),
                    Err(spoiled) => Err(spoiled.into()),
                };
            }
            got if got == wanted => {
                begun.lease.began(Telling::Nothing);
                return match begun.read_whole(endpoint).await {
                    Ok(()) => Ok(begun),
                    Err(spoiled) => Err(spoiled.into()),
                };
            }
            // Some engines answer with an error document in place of events, and with a status that says success.
            JSON => return Err(begun.error_document().await.into()),
            "" => begun
                .place
                .fails(Code::UpstreamFailed, "answered without a content type"),
            got => begun.place.fails(
                Code::UpstreamFailed,
                format_args!("answered with `{got}` where `{wanted}` was expected"),
            ),
        };
        begun.lease.end(End::Failed);
        Err(Missed::Failed(failure, Again::Yes))
    }

    fn wanted(&self) -> &'static str {
        if self.ask.events { EVENTS } else { JSON }
    }
}

/// Whether a status says that nothing was done. An engine that fails may have worked before (llama.cpp writes a whole answer
/// and then says 500 where it cannot read the calls in it), a proxy may have lost what an engine did, and whoever gave up
/// waiting (408) knows nothing.
fn is_refusal(status: StatusCode) -> bool {
    match status.as_u16() {
        408 => false,
        400..=499 | 501 | 503 | 529 => true,
        _ => false,
    }
}

/// What an answer without success says about the backend, and whether another one may do better.
fn verdict(response: &Answer, endpoint: Endpoint) -> (End, Again) {
    let status = response.status();
    if lacks(status, endpoint) {
        // It is well, and answers everything else: whoever may ask for this must not put it out of use for others.
        return (End::Ok, Again::Yes);
    }
    match status.as_u16() {
        401 | 403 => (End::Rejected, Again::Yes),
        429 => (End::Rests(retry_after(response.headers())), Again::Yes),
        // It lives, and has no such model or endpoint, or no time; another one may.
        404 | 408 => (End::Ok, Again::Yes),
        400..=499 => (End::Ok, Again::No),
        _ => (End::Failed, Again::Yes),
    }
}

impl Backend {
    /// What the backend's API wants to see of who asks, which is never what the caller showed.
    pub(crate) fn shows(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let version = match self.api {
            Api::OpenAi => None,
            Api::Anthropic => Some((ANTHROPIC_VERSION_NAME, HeaderValue::from_static(ANTHROPIC_VERSION))),
        };
        let credential = self.credential.as_ref();
        let credential = credential.map(|credential| (credential.name.clone(), credential.header.clone()));
        version.into_iter().chain(credential)
    }
}
