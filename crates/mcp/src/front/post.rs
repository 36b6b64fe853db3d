//! A POST to an MCP endpoint: the envelope, the era, the session, and then the method.

use super::{Front, HttpIn, begun::Begun, refuse, stream::Accepts, taken_back, told::Hears};
use crate::{
    accept::{negotiate, not_acceptable},
    call::Client,
    envelope::{self, Incoming, Message, Notification, Request, Response},
    era::{self, Era, Refusal, Version},
    front::{BATCH_MAX, param_headers},
    params::{Params, text},
    reply::Reply,
    rpc::{self, Dialect},
    session::Session,
};
use forebay_domain::{Code, Failure};
use forebay_runtime::telemetry::TRACEPARENT;
use http::{HeaderMap, StatusCode};

impl Front {
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
}
