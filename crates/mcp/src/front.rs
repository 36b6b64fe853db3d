//! The MCP front of `/mcp`: raw HTTP in, raw HTTP out, both eras on one endpoint.
//!
//! It reads the envelope once, decides the era, checks the headers and hands the request to its method. Who asks was
//! settled at the door; what they may do is the catalogue's to say.

use crate::{
    accept::{accepted, negotiate, not_acceptable},
    begun::Begun,
    catalogue::Catalogue,
    envelope::{self, Id, Incoming, Message, Notification, Request},
    era::{self, Era, Refusal, Version},
    flight::Flights,
    params::{Params, text},
    reply::Reply,
    rpc::{self, Answered, Dialect},
    session::{Session, Sessions},
    stream::{self, Accepts},
};
use bytes::Bytes;
use forebay_domain::{
    Code, Failure, Principal,
    id::{KeyId, TraceId},
};
use forebay_runtime::Stop;
use http::{HeaderMap, StatusCode};
use serde_json::json;
use std::sync::Arc;

/// Messages in one batch at most.
pub(crate) const BATCH_MAX: usize = 100;

/// One request as the door lets it in.
pub struct HttpIn<'a> {
    pub headers: &'a HeaderMap,
    pub body: Bytes,
    pub principal: Principal,
    pub trace: TraceId,
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

/// What a front stands on.
pub struct FrontParts {
    pub catalogue: Catalogue,
    pub sessions: Sessions,
    pub server: ServerInfo,
    /// Streams without a call end when this drains.
    pub stop: Stop,
}

/// The MCP front. Cheap to clone; all clones are one front.
#[derive(Clone)]
pub struct Front(Arc<Inner>);

struct Inner {
    catalogue: Catalogue,
    sessions: Sessions,
    flights: Flights,
    server: ServerInfo,
    /// The `_meta` of every modern result.
    signature: String,
    stop: Stop,
}

impl Front {
    pub fn new(parts: FrontParts) -> Self {
        let signature = format!(r#"{{"io.modelcontextprotocol/serverInfo":{}}}"#, parts.server.to_json());
        Self(Arc::new(Inner {
            catalogue: parts.catalogue,
            sessions: parts.sessions,
            flights: Flights::default(),
            server: parts.server,
            signature,
            stop: parts.stop,
        }))
    }

    /// `POST /mcp`. Dropping the future, or the stream of its reply, cancels the call.
    pub async fn post(&self, input: HttpIn<'_>) -> Reply {
        let accepts = match negotiate(input.headers) {
            Ok(accepts) => accepts,
            Err(failure) => return refuse(None, &failure, None),
        };
        match envelope::read(&input.body, BATCH_MAX) {
            Err(refused) => refuse(refused.id.as_ref(), &refused.failure, None),
            Ok(Incoming::Batch(elements)) => self.post_batch(elements, &input).await,
            Ok(Incoming::One(Message::Response)) => self.accept_response(&input),
            Ok(Incoming::One(Message::Notification(notification))) => self.accept_notification(&notification, &input),
            Ok(Incoming::One(Message::Request(request))) => self.post_request(request, input, accepts).await,
        }
    }

    async fn post_request(&self, request: Request, input: HttpIn<'_>, accepts: Accepts) -> Reply {
        let begun = match self.begin(&request, input) {
            Ok(begun) => begun,
            Err(refusal) => return refuse(Some(&request.id), &refusal.failure, Some(refusal.status)),
        };
        let opened = begun.opened.clone();
        let reply = stream::answer(begun.into_running(self.clone(), request), accepts).await;
        match opened {
            Some(id) => reply.with(era::SESSION_ID, &id),
            None => reply,
        }
    }

    /// Everything that has to be settled before a request is served.
    fn begin(&self, request: &Request, input: HttpIn<'_>) -> Result<Begun, Refusal> {
        let params = Params::read(request.params.as_ref()).map_err(|failure| Refusal::new(StatusCode::OK, failure))?;
        let mut begun = Begun {
            version: Version::LEGACY_NEWEST,
            principal: input.principal,
            trace: input.trace,
            session: None,
            opened: None,
            token: params.meta().progress_token(),
        };
        match era::decide(input.headers, request, &params)? {
            Era::Modern(version) => begun.version = version,
            Era::Handshake => {
                let asked = params.protocol_version.map(|raw| text("protocolVersion", Some(raw)));
                let asked = asked.transpose().map_err(Refusal::bad)?;
                begun.version = Version::negotiate(asked.as_deref().unwrap_or_default());
                let session = self
                    .0
                    .sessions
                    .open(&begun.principal, begun.version)
                    .map_err(unavailable)?;
                begun.opened = Some(session.id.as_str().to_owned());
                begun.join(session);
            }
            Era::Legacy => {
                let session = self.session(input.headers, &begun.principal)?;
                begun.version = session.version;
                begun.join(session);
            }
        }
        Ok(begun)
    }

    /// The session that a legacy message names.
    fn session(&self, headers: &HeaderMap, principal: &Principal) -> Result<Arc<Session>, Refusal> {
        let Some(id) = headers.get(era::SESSION_ID) else {
            let failure = Failure::new(Code::InvalidRequest, "The header Mcp-Session-Id is missing.").hint(
                "Open a session with `initialize` and send its id, or send protocol version 2026-07-28 in every request.",
            );
            return Err(Refusal::bad(failure));
        };
        let id = id.to_str().unwrap_or_default();
        self.0
            .sessions
            .find(id, principal)
            .map_err(|failure| Refusal::new(StatusCode::NOT_FOUND, failure))
    }

    fn accept_notification(&self, notification: &Notification, input: &HttpIn<'_>) -> Reply {
        // The modern era has no notification that means anything over HTTP; one is taken and forgotten.
        match era::claims_modern(input.headers) {
            Ok(true) => return Reply::empty(StatusCode::ACCEPTED),
            Ok(false) => {}
            Err(refusal) => return refuse(None, &refusal.failure, Some(refusal.status)),
        }
        match self.session(input.headers, &input.principal) {
            Ok(session) => {
                self.heed(notification, &session);
                Reply::empty(StatusCode::ACCEPTED)
            }
            Err(refusal) => refuse(None, &refusal.failure, Some(refusal.status)),
        }
    }

    pub(crate) fn heed(&self, notification: &Notification, session: &Session) {
        if notification.method != "notifications/cancelled" {
            return;
        }
        let params = Params::read(notification.params.as_ref()).unwrap_or_default();
        if let Some(id) = params.request_id.and_then(|raw| Id::parse(raw.get())) {
            self.0.flights.cancel(&session.id, &id);
        }
    }

    /// We ask clients nothing, so an answer is taken in a session and refused elsewhere.
    fn accept_response(&self, input: &HttpIn<'_>) -> Reply {
        match era::claims_modern(input.headers) {
            Ok(true) => {
                let failure = Failure::new(Code::InvalidRequest, "The body must be a request or a notification.");
                refuse(None, &failure, None)
            }
            Ok(false) => match self.session(input.headers, &input.principal) {
                Ok(_) => Reply::empty(StatusCode::ACCEPTED),
                Err(refusal) => refuse(None, &refusal.failure, Some(refusal.status)),
            },
            Err(refusal) => refuse(None, &refusal.failure, Some(refusal.status)),
        }
    }

    /// Batches were part of 2025-03-26 alone.
    async fn post_batch(&self, elements: Vec<envelope::Element>, input: &HttpIn<'_>) -> Reply {
        let session = self.session(input.headers, &input.principal).ok();
        let Some(session) = session.filter(|session| session.version == Version::V2025_03_26) else {
            let failure = Failure::new(Code::BatchNotSupported, "A batch is not accepted here.")
                .hint("Send one message per request, or use /api/v1/mcp, which takes batches.");
            return refuse(None, &failure, None);
        };
        let begin = || {
            let mut begun = Begun {
                version: session.version,
                principal: input.principal.clone(),
                trace: input.trace,
                session: None,
                opened: None,
                token: None,
            };
            begun.join(session.clone());
            begun
        };
        let answers = self
            .run_batch(elements, Dialect::Streamable(session.version), begin, |notification| {
                self.heed(notification, &session);
            })
            .await;
        match answers {
            Some(body) => Reply::json(StatusCode::OK, body),
            None => Reply::empty(StatusCode::ACCEPTED),
        }
    }

    /// `GET /mcp`: the notifications of a legacy session.
    pub fn get(&self, headers: &HeaderMap, principal: &Principal) -> Reply {
        match era::claims_modern(headers) {
            Ok(false) => {}
            Ok(true) => return not_allowed("GET"),
            Err(refusal) => return refuse(None, &refusal.failure, Some(refusal.status)),
        }
        if !accepted(headers).any(|essence| matches!(essence, "text/event-stream" | "*/*" | "text/*")) {
            return refuse(None, &not_acceptable("Send `Accept: text/event-stream`."), None);
        }
        match self.session(headers, principal) {
            Err(refusal) => refuse(None, &refusal.failure, Some(refusal.status)),
            Ok(session) => {
                let (stop, closed) = (self.0.stop.clone(), session.closed.clone());
                let until = async move {
                    tokio::select! {
                        () = closed.cancelled() => {}
                        () = stop.draining() => {}
                    }
                };
                let busy = self.0.sessions.busy(&session);
                Reply::events(stream::listen(session.listen(), until, busy))
            }
        }
    }

    /// `DELETE /mcp`: ends a legacy session and all that is under way in it.
    pub fn delete(&self, headers: &HeaderMap, principal: &Principal) -> Reply {
        match era::claims_modern(headers) {
            Ok(false) => {}
            Ok(true) => return not_allowed("DELETE"),
            Err(refusal) => return refuse(None, &refusal.failure, Some(refusal.status)),
        }
        match self.session(headers, principal) {
            Ok(session) => {
                self.0.sessions.close(&session);
                Reply::empty(StatusCode::NO_CONTENT)
            }
            Err(refusal) => refuse(None, &refusal.failure, Some(refusal.status)),
        }
    }

    /// Ends everything that a key has open or under way; to be called when it is revoked.
    pub fn close_key(&self, key: &KeyId) {
        self.0.sessions.close_key(key);
        self.0.flights.cancel_key(key);
    }

    /// Tells every listening session that the lists of tools and resources have changed.
    pub fn lists_changed(&self) {
        for list in ["tools", "resources"] {
            let message = format!(r#"{{"jsonrpc":"2.0","method":"notifications/{list}/list_changed"}}"#);
            self.0.sessions.notify_all(&message.into());
        }
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

    pub(crate) fn server(&self) -> &ServerInfo {
        &self.0.server
    }

    pub(crate) fn signature(&self) -> &str {
        &self.0.signature
    }
}

fn unavailable(failure: Failure) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, failure)
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
