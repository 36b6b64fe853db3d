//! The MCP front: raw HTTP in, raw HTTP out, both eras on one endpoint.
//!
//! It reads the envelope once, decides the era, checks the headers and hands the request to its method. Who asks was
//! settled at the door; what they may do is the catalogue's to say.

mod begun;
pub(crate) mod duplex;
mod follow;
mod joining;
mod later;
mod method;
pub(crate) mod news;
mod offered;
mod pair;
mod param_headers;
mod parked;
mod plain;
mod running;
mod served;
pub(crate) mod state;
pub(crate) mod stream;
mod subscribe;
mod told;
mod turn;

pub(crate) use self::{
    later::{EXTENSION, with_support},
    served::ask_all,
};

use self::{begun::Begun, news::Newsroom, parked::Parked, state::StateKeys, stream::Accepts, told::Hears};
use crate::{
    accept::{negotiate, not_acceptable},
    call::Client,
    catalogue::Catalogue,
    envelope::{self, Id, Incoming, Message, Notification, Request, Response},
    era::{self, Era, Refusal, Version},
    flight::Flights,
    index::Scope,
    params::{Params, text},
    reply::Reply,
    rpc::{self, Answered, Dialect},
    session::{Session, Sessions},
    tasks::Later,
};
use bytes::Bytes;
use forebay_domain::{
    Code, Failure, Principal,
    id::{KeyId, TraceId},
};
use forebay_runtime::{Entropy, Tasks, telemetry::TRACEPARENT};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// Messages in one batch at most.
pub(crate) const BATCH_MAX: usize = 100;

/// The header by which a client comes back to a stream.
const LAST_EVENT_ID: &str = "last-event-id";

/// One request as the door lets it in.
pub struct HttpIn<'a> {
    pub headers: &'a HeaderMap,
    pub body: Bytes,
    pub principal: Principal,
    pub trace: TraceId,
    /// The part of the catalogue that the request's path names.
    pub scope: Scope,
}

/// Who we are, for clients to show.
#[derive(Debug, Clone)]
pub struct ServerInfo {
    pub name: String,
    pub title: String,
    pub version: String,
    /// For the model that uses us.
    pub instructions: String,
}

impl ServerInfo {
    pub(crate) fn to_json(&self) -> String {
        json!({"name": self.name, "title": self.title, "version": self.version}).to_string()
    }
}

/// Counts one more request of a caller against its limit, or says that there is none left.
pub type Charge = Arc<dyn Fn(&Principal) -> Result<(), Failure> + Send + Sync>;

/// What a front stands on.
pub struct FrontParts {
    pub catalogue: Catalogue,
    pub sessions: Sessions,
    pub server: ServerInfo,
    /// Owns what outlives a connection. Streams without a call end when it drains.
    pub tasks: Tasks,
    pub entropy: Entropy,
    /// Signs what clients carry between two rounds.
    pub states: StateKeys,
    /// Whoever hands a body or a message in has counted one request for it; those of a batch are counted by this.
    pub charge: Charge,
}

/// The MCP front. Cheap to clone; all clones are one front.
#[derive(Clone)]
pub struct Front(Arc<Inner>);

struct Inner {
    catalogue: Catalogue,
    sessions: Sessions,
    flights: Flights,
    parked: Parked,
    newsroom: Newsroom,
    server: ServerInfo,
    /// The `_meta` of every modern result.
    signature: String,
    tasks: Tasks,
    entropy: Entropy,
    states: StateKeys,
    charge: Charge,
    /// Empty where there are no tasks.
    later: OnceLock<Later>,
    numbers: AtomicU64,
}

impl Front {
    /// Makes the front, and starts its two tasks: one carries news of the catalogue to whoever listens, the other writes
    /// down what sessions and streams are to keep beyond this process.
    pub fn new(parts: FrontParts) -> Self {
        let signature = format!(r#"{{"io.modelcontextprotocol/serverInfo":{}}}"#, parts.server.to_json());
        let changes = parts.catalogue.changes();
        let front = Self(Arc::new(Inner {
            catalogue: parts.catalogue,
            sessions: parts.sessions,
            flights: Flights::default(),
            parked: Parked::default(),
            newsroom: Newsroom::default(),
            server: parts.server,
            signature,
            tasks: parts.tasks,
            entropy: parts.entropy,
            states: parts.states,
            charge: parts.charge,
            later: OnceLock::new(),
            numbers: AtomicU64::new(0),
        }));
        let carrier = front.clone();
        front
            .tasks()
            .spawn("mcp news", move |stop| carrier.carry_news(changes, stop));
        let shelf = front.sessions().shelf().clone();
        front.tasks().spawn("mcp session writer", |stop| shelf.write_down(stop));
        front
    }

    /// From now on tools may run as tasks, and clients hear of that. The first one counts.
    pub fn work_later(&self, later: Later) {
        // Whoever comes second is not needed.
        let _ = self.0.later.set(later);
    }

    /// A POST to an MCP endpoint. Dropping the future cancels the call, and in the modern era so does dropping the
    /// stream of its reply.
    pub async fn post(&self, input: HttpIn<'_>) -> Reply {
        let accepts = match self.admit(&input.scope).and_then(|()| negotiate(input.headers)) {
            Ok(accepts) => accepts,
            Err(failure) => return refuse(None, &failure, None),
        };
        match envelope::read(&input.body, BATCH_MAX) {
            Err(refused) => refuse(refused.id.as_ref(), &refused.failure, None),
            Ok(Incoming::Batch(elements)) => self.post_batch(elements, &input).await,
            Ok(Incoming::One(Message::Response(response))) => self.accept_response(&response, &input).await,
            Ok(Incoming::One(Message::Notification(notification))) => {
                self.accept_notification(&notification, &input).await
            }
            Ok(Incoming::One(Message::Request(request))) => self.post_request(request, input, accepts).await,
        }
    }

    fn admit(&self, scope: &Scope) -> Result<(), Failure> {
        let index = self.catalogue().index();
        crate::catalogue::view(&index, scope).map(|_| ())
    }

    async fn post_request(&self, request: Request, input: HttpIn<'_>, accepts: Accepts) -> Reply {
        let hears = match accepts {
            Accepts::Json => Hears::AnswerOnly,
            Accepts::JsonAndEvents => Hears::Everything,
        };
        let begun = match self.begin(&request, input, hears).await {
            Ok(begun) => begun,
            Err(refusal) => return refuse(Some(&request.id), &refusal.failure, Some(refusal.status)),
        };
        let Some(session) = begun.session.clone() else {
            return self.post_modern(request, begun, accepts).await;
        };
        let opens = request.method == "initialize";
        let id = session.id.clone();
        let reply = self
            .answer_legacy(begun.run(self.clone(), request), session, accepts)
            .await;
        if opens {
            reply.with(era::SESSION_ID, id.as_str())
        } else {
            reply
        }
    }

    async fn post_modern(&self, request: Request, begun: Begun, accepts: Accepts) -> Reply {
        let dialect = begun.dialect;
        if request.method == "subscriptions/listen" {
            if accepts == Accepts::Json {
                let failure = not_acceptable("Send `Accept: application/json, text/event-stream`.");
                return refuse(Some(&request.id), &failure, None);
            }
            return self.answer_listen(&request, begun.turn(Client::nobody())).await;
        }
        let id = request.id.clone();
        match self.run(begun, request).await {
            Ok((running, ticket)) => self.answer(running, ticket, accepts).await,
            Err(failure) => rpc::failed(Some(&id), &failure, dialect).reply(),
        }
    }

    /// Everything that has to be settled before a request is served.
    async fn begin(&self, request: &Request, input: HttpIn<'_>, hears: Hears) -> Result<Begun, Refusal> {
        let ok = |failure| Refusal::new(StatusCode::OK, failure);
        let params = Params::read(request.params.as_ref()).map_err(ok)?;
        let trace = match params.meta().trace() {
            Some(trace) if !input.headers.contains_key(TRACEPARENT) => trace,
            Some(_) | None => input.trace,
        };
        let dialect = Dialect::Streamable(Version::LEGACY_NEWEST);
        let mut begun = Begun::new(dialect, input.scope, input.principal, trace);
        match era::decide(input.headers, request, &params)? {
            Era::Modern(version) => begun.dialect = Dialect::Streamable(version),
            Era::Handshake => begun.join(self.open_kept(&begun, &params).await?),
            Era::Legacy => {
                let session = self.session(input.headers, &begun.principal, &begun.scope).await?;
                begun.join(session);
            }
        }
        if begun.dialect.is_modern() && request.method == "tools/call" {
            self.check_param_headers(input.headers, &begun, &params)?;
        }
        begun.read(self, request, &params, hears).map_err(ok)?;
        Ok(begun)
    }

    /// A tool that nobody knows is refused later, by whoever looks for it.
    fn check_param_headers(&self, headers: &HeaderMap, begun: &Begun, params: &Params<'_>) -> Result<(), Refusal> {
        let Ok(name) = text("name", params.name) else {
            return Ok(());
        };
        match self.catalogue().find(&begun.principal, &begun.scope, &name) {
            Some(found) => param_headers::check(headers, &found.item, params.arguments),
            None => Ok(()),
        }
    }

    async fn accept_notification(&self, notification: &Notification, input: &HttpIn<'_>) -> Reply {
        // The modern era has no notification that means anything over HTTP; one is taken and forgotten.
        match era::claims_modern(input.headers) {
            Ok(true) => return Reply::empty(StatusCode::ACCEPTED),
            Ok(false) => {}
            Err(refusal) => return refuse(None, &refusal.failure, Some(refusal.status)),
        }
        match self.session(input.headers, &input.principal, &input.scope).await {
            Ok(session) => {
                self.heed(notification, &session);
                Reply::empty(StatusCode::ACCEPTED)
            }
            Err(refusal) => refuse(None, &refusal.failure, Some(refusal.status)),
        }
    }

    pub(crate) fn heed(&self, notification: &Notification, session: &Session) {
        if let Some(id) = taken_back(notification) {
            self.flights().cancel(&session.id, &id);
        }
    }

    /// Clients of sessions answer what they were asked; in the modern era nobody is asked this way.
    async fn accept_response(&self, response: &Response, input: &HttpIn<'_>) -> Reply {
        match era::claims_modern(input.headers) {
            Ok(true) => {
                let failure = Failure::new(Code::InvalidRequest, "The body must be a request or a notification.");
                refuse(None, &failure, None)
            }
            Ok(false) => match self.session(input.headers, &input.principal, &input.scope).await {
                Ok(session) => {
                    session.questions.answer(response);
                    Reply::empty(StatusCode::ACCEPTED)
                }
                Err(refusal) => refuse(None, &refusal.failure, Some(refusal.status)),
            },
            Err(refusal) => refuse(None, &refusal.failure, Some(refusal.status)),
        }
    }

    /// Batches were part of 2025-03-26 alone.
    async fn post_batch(&self, elements: Vec<envelope::Element>, input: &HttpIn<'_>) -> Reply {
        let session = self.session(input.headers, &input.principal, &input.scope).await.ok();
        let Some(session) = session.filter(|session| session.version == Version::V2025_03_26) else {
            let failure = Failure::new(Code::BatchNotSupported, "A batch is not accepted here.")
                .hint("Send one message per request, or use /api/v1/mcp, which takes batches.");
            return refuse(None, &failure, None);
        };
        let dialect = Dialect::Streamable(session.version);
        let begin = || {
            let (scope, principal) = (input.scope.clone(), input.principal.clone());
            let mut begun = Begun::new(dialect, scope, principal, input.trace);
            begun.join(session.clone());
            begun
        };
        let heed = |message: Message| match message {
            Message::Notification(notification) => self.heed(&notification, &session),
            Message::Response(response) => session.questions.answer(&response),
            Message::Request(_) => {}
        };
        let admit = self.charge(&input.principal);
        match self.run_batch(elements, begin, admit, heed).await {
            Some(body) => Reply::json(StatusCode::OK, body),
            None => Reply::empty(StatusCode::ACCEPTED),
        }
    }

    /// Ends everything that a key has open or under way here; to be called when it is revoked. What the store has of its
    /// sessions is for the caller to remove.
    pub fn close_key(&self, key: &KeyId) {
        self.sessions().close_key(key);
        self.flights().cancel_key(key);
    }

    /// What signs the states that clients carry between two rounds.
    pub fn state_keys(&self) -> &StateKeys {
        &self.0.states
    }

    /// Calls that wait for their clients to come back with answers.
    pub fn parked_calls(&self) -> usize {
        self.parked().count()
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.0.catalogue
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    pub(crate) fn flights(&self) -> &Flights {
        &self.0.flights
    }

    pub(crate) fn parked(&self) -> &Parked {
        &self.0.parked
    }

    pub(crate) fn later(&self) -> Option<&Later> {
        self.0.later.get()
    }

    pub(crate) fn newsroom(&self) -> &Newsroom {
        &self.0.newsroom
    }

    pub(crate) fn states(&self) -> &StateKeys {
        &self.0.states
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    pub(crate) fn entropy(&self) -> &Entropy {
        &self.0.entropy
    }

    pub(crate) fn server(&self) -> &ServerInfo {
        &self.0.server
    }

    pub(crate) fn signature(&self) -> &str {
        &self.0.signature
    }

    /// What is asked for each request of a batch. The first one has been counted with what brought it.
    pub(crate) fn charge(&self, principal: &Principal) -> impl FnMut() -> Result<(), Failure> + Send + use<> {
        let (charge, principal) = (self.0.charge.clone(), principal.clone());
        let mut is_counted = true;
        move || {
            if std::mem::take(&mut is_counted) {
                Ok(())
            } else {
                charge(&principal)
            }
        }
    }

    /// A number that nothing else in this process has.
    pub(crate) fn next_number(&self) -> u64 {
        self.0.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Completes when the gateway drains.
    pub(crate) async fn stopping(&self) {
        self.tasks().stop().draining().await;
    }
}

/// The request that a notification takes back.
pub(crate) fn taken_back(notification: &Notification) -> Option<Id> {
    if notification.method != "notifications/cancelled" {
        return None;
    }
    let params = Params::read(notification.params.as_ref()).ok()?;
    Id::parse(params.request_id?.get())
}

/// An answer to a request that never was: an error without a dialect of its own.
fn refuse(id: Option<&Id>, failure: &Failure, status: Option<StatusCode>) -> Reply {
    let answered = rpc::failed(id, failure, Dialect::Streamable(Version::LEGACY_NEWEST));
    Answered {
        status: status.unwrap_or(answered.status),
        ..answered
    }
    .reply()
}

fn not_allowed(method: &str) -> Reply {
    let message = format!("{method} is not part of protocol version 2026-07-28.");
    let failure = Failure::new(Code::MethodNotAllowed, message).hint("Send POST.");
    refuse(None, &failure, None).with("allow", "POST")
}
