//! The bridge's side towards the gateway: one POST a message, one GET for notifications.

use super::{BridgeTo, LINE_BYTES_MAX};
use crate::{
    envelope::{self, Id, Incoming, Message, Notification, Request},
    era::{self, Version},
    front::BATCH_MAX,
    params::Params,
    rpc::{self, Dialect},
};
use bytes::Bytes;
use forebay_domain::{Code, Failure};
use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use http::{StatusCode, header};
use reqwest::{RequestBuilder, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use sse_stream::SseStream;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const RECONNECT_FIRST: Duration = Duration::from_secs(1);
const RECONNECT_MAX: Duration = Duration::from_secs(30);
const BOTH: &str = "application/json, text/event-stream";
const EVENTS: &str = "text/event-stream";

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// The `initialize` that opens a session.
    Opening,
    Other,
}

pub(super) struct Link {
    to: BridgeTo,
    out: mpsc::Sender<Bytes>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    session: Option<Session>,
    /// The handshake, kept to open another session where the gateway has forgotten this one.
    handshake: Option<Bytes>,
    under_way: HashMap<Id, CancellationToken>,
}

#[derive(Clone, PartialEq)]
struct Session {
    id: String,
    version: String,
}

/// The members of a message that the bridge itself looks at.
#[derive(Deserialize)]
struct Glance<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    jsonrpc: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Handshake {
    protocol_version: String,
}

impl Link {
    pub(super) fn new(to: BridgeTo, out: mpsc::Sender<Bytes>) -> Self {
        Self {
            to,
            out,
            state: Mutex::default(),
        }
    }

    /// Sends one line on its way, and says whether it opens a session.
    pub(super) fn send(&self, line: Bytes) -> (bool, BoxFuture<'_, Sent>) {
        match envelope::read(&line, BATCH_MAX) {
            Err(refused) => {
                let failed = rpc::failed(refused.id.as_ref(), &refused.failure, dialect());
                (false, self.put(failed.message).map(|()| Sent::Other).boxed())
            }
            Ok(Incoming::One(Message::Request(request))) if request.method == "initialize" => {
                self.state().handshake = Some(line.clone());
                (true, self.open(request, line).boxed())
            }
            Ok(Incoming::One(Message::Request(request))) => (false, self.request(request, line).boxed()),
            Ok(Incoming::One(Message::Notification(notification))) => (false, self.notify(notification, line).boxed()),
            Ok(Incoming::One(Message::Response) | Incoming::Batch(_)) => (false, self.pass(line).boxed()),
        }
    }

    pub(super) async fn refuse_length(&self, bytes_max: usize) -> Sent {
        let message = format!("A line has at most {bytes_max} bytes.");
        let failed = rpc::failed(None, &Failure::new(Code::BodyTooLarge, message), dialect());
        self.put(failed.message).await;
        Sent::Other
    }

    async fn open(&self, request: Request, line: Bytes) -> Sent {
        let outcome = self.post(&line, Some(&request)).await;
        if let Ok(response) = &outcome {
            let id = response
                .headers()
                .get(era::SESSION_ID)
                .and_then(|value| value.to_str().ok());
            self.state().session = id.map(|id| Session {
                id: id.to_owned(),
                version: Version::LEGACY_NEWEST.as_str().to_owned(),
            });
        }
        self.relay_or_fail(outcome, Some(&request.id)).await;
        Sent::Opening
    }

    async fn request(&self, request: Request, line: Bytes) -> Sent {
        let cancel = CancellationToken::new();
        self.state().under_way.insert(request.id.clone(), cancel.clone());
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = self.exchange(&request, &line) => {}
        }
        self.state().under_way.remove(&request.id);
        Sent::Other
    }

    /// Posts a request; in a session that the gateway has forgotten, once more in a new one.
    async fn exchange(&self, request: &Request, line: &Bytes) {
        let before = self.state().session.clone();
        let mut outcome = self.post(line, Some(request)).await;
        let forgotten = matches!(&outcome, Ok(response) if response.status() == StatusCode::NOT_FOUND);
        if forgotten && before.is_some() && self.reopen(before).await.is_ok() {
            outcome = self.post(line, Some(request)).await;
        }
        self.relay_or_fail(outcome, Some(&request.id)).await;
    }

    /// Opens another session in place of a forgotten one, unless somebody else has done so already.
    async fn reopen(&self, forgotten: Option<Session>) -> Result<(), Failure> {
        let handshake = {
            let mut state = self.state();
            if state.session != forgotten {
                return Ok(());
            }
            state.session = None;
            state.handshake.clone()
        };
        let line = handshake.ok_or_else(|| unreachable("It has forgotten this session."))?;
        let response = self.post(&line, None).await?;
        let id = response
            .headers()
            .get(era::SESSION_ID)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let body = body(response).await?;
        let version = version_of(&body).ok_or_else(|| unreachable("It did not open another session."))?;
        self.state().session = id.map(|id| Session { id, version });
        let initialized = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        self.post(&initialized, None).await.map(drop)
    }

    async fn notify(&self, notification: Notification, line: Bytes) -> Sent {
        let modern = self.state().session.is_none();
        if modern && notification.method == "notifications/cancelled" {
            // Over HTTP, the modern era cancels by closing the answer's stream.
            let params = Params::read(notification.params.as_ref()).unwrap_or_default();
            let id = params.request_id.and_then(|raw| Id::parse(raw.get()));
            let cancel = id.and_then(|id| self.state().under_way.remove(&id));
            if let Some(cancel) = cancel {
                cancel.cancel();
            }
            return Sent::Other;
        }
        self.pass(line).await
    }

    /// Passes on what wants no answer of its own.
    async fn pass(&self, line: Bytes) -> Sent {
        match self.post(&line, None).await {
            Ok(response) if response.status().is_success() => self.relay_or_fail(Ok(response), None).await,
            Ok(response) => tracing::warn!(
                http.status = response.status().as_u16(),
                "the gateway refused a message"
            ),
            Err(failure) => tracing::warn!(error.chain = %failure.chain(), "a message did not reach the gateway"),
        }
        Sent::Other
    }

    async fn post(&self, line: &Bytes, request: Option<&Request>) -> Result<Response, Failure> {
        let post = self.to.client.post(self.to.url.clone()).body(line.clone());
        let post = post
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, BOTH);
        let post = match request.and_then(modern_headers) {
            Some(headers) => headers
                .into_iter()
                .fold(post, |post, (name, value)| post.header(name, value)),
            None if request.is_some_and(|request| request.method == "initialize") => post,
            None => self.in_session(post),
        };
        self.authorised(post)
            .send()
            .await
            .map_err(|fault| unreachable("It did not answer.").caused_by(fault.without_url()))
    }

    fn in_session(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.state().session {
            None => request,
            Some(session) => request
                .header(era::SESSION_ID, &session.id)
                .header(era::PROTOCOL_VERSION, &session.version),
        }
    }

    fn authorised(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(self.to.key.expose())
    }

    async fn relay_or_fail(&self, outcome: Result<Response, Failure>, id: Option<&Id>) {
        let relayed = match outcome {
            Ok(response) => self.relay(response, id).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = relayed {
            self.put(rpc::failed(id, &failure, dialect()).message).await;
        }
    }

    /// Hands on what the gateway answers, line by line.
    async fn relay(&self, response: Response, id: Option<&Id>) -> Result<(), Failure> {
        if is_stream(&response) {
            return self.relay_events(response, id).await;
        }
        let status = response.status();
        let body = body(response).await?;
        match (answers(&body, id), id) {
            (true, _) => {
                self.take_version(&body);
                self.put(one_line(&body)).await;
                Ok(())
            }
            (false, None) => Ok(()),
            (false, Some(_)) => Err(refused(status, &body)),
        }
    }

    async fn relay_events(&self, response: Response, id: Option<&Id>) -> Result<(), Failure> {
        let mut events = SseStream::from_bytes_stream(response.bytes_stream());
        let mut answered = id.is_none();
        while let Some(event) = events.next().await {
            let event = event.map_err(|fault| unreachable("Its answer broke off.").caused_by(fault.to_string()))?;
            let Some(data) = event.data.filter(|data| !data.is_empty()) else {
                continue;
            };
            answered |= answers(data.as_bytes(), id);
            self.take_version(data.as_bytes());
            self.put(one_line(data.as_bytes())).await;
        }
        if answered {
            Ok(())
        } else {
            Err(unreachable("Its answer broke off."))
        }
    }

    /// The version that a handshake settled.
    fn take_version(&self, body: &[u8]) {
        if let (Some(version), Some(session)) = (version_of(body), self.state().session.as_mut()) {
            session.version = version;
        }
    }

    /// Hands on the notifications of the session, for as long as there is one.
    pub(super) async fn listen(&self) {
        let mut pause = RECONNECT_FIRST;
        while self.state().session.is_some() {
            let get = self.to.client.get(self.to.url.clone()).header(header::ACCEPT, EVENTS);
            match self.authorised(self.in_session(get)).send().await {
                Ok(response) if is_stream(&response) => {
                    pause = RECONNECT_FIRST;
                    let _ended = self.relay_events(response, None).await;
                }
                Ok(response) if response.status() == StatusCode::METHOD_NOT_ALLOWED => return,
                Ok(_) | Err(_) => pause = (pause * 2).min(RECONNECT_MAX),
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Ends the session.
    pub(super) async fn close(&self) {
        let has_session = self.state().session.is_some();
        if has_session {
            let delete = self.in_session(self.to.client.delete(self.to.url.clone()));
            let _gone = self.authorised(delete).send().await;
        }
    }

    async fn put(&self, line: Bytes) {
        // The receiver lives as long as the bridge does.
        let _closed = self.out.send(line).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nobody panics while holding the state of the bridge")
    }
}

/// The bridge's own errors speak as the gateway's do.
fn dialect() -> Dialect {
    Dialect::Streamable(Version::LEGACY_NEWEST)
}

fn unreachable(what: &str) -> Failure {
    Failure::new(
        Code::GatewayUnreachable,
        format!("The gateway cannot be reached. {what}"),
    )
    .hint("Start it with `forebay serve`, or check --url.")
}

fn refused(status: StatusCode, body: &[u8]) -> Failure {
    #[derive(Deserialize)]
    struct Problem {
        detail: Option<String>,
        title: Option<String>,
    }
    let problem: Option<Problem> = serde_json::from_slice(body).ok();
    let said = problem
        .and_then(|problem| problem.detail.or(problem.title))
        .unwrap_or_default();
    let code = match status.as_u16() {
        401 => Code::InvalidKey,
        403 => Code::Forbidden,
        429 => Code::RateLimited,
        503 => Code::Overloaded,
        _ => Code::GatewayUnreachable,
    };
    Failure::new(
        code,
        format!("The gateway answered {}. {said}", status.as_u16())
            .trim_end()
            .to_owned(),
    )
}

fn is_stream(response: &Response) -> bool {
    let kind = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with(EVENTS))
}

/// The whole of a body, up to the bound on lines.
async fn body(response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|fault| unreachable("Its answer broke off.").caused_by(fault.without_url()))?;
        if body.len() + piece.len() > LINE_BYTES_MAX {
            let message = format!("The gateway's answer has more than {LINE_BYTES_MAX} bytes.");
            return Err(Failure::new(Code::UpstreamTruncated, message));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// Whether this is the message that was waited for: a JSON-RPC answer with that id, or any message where none was.
fn answers(body: &[u8], id: Option<&Id>) -> bool {
    let Ok(glance) = serde_json::from_slice::<Glance<'_>>(body) else {
        return id.is_none() && body.starts_with(b"[");
    };
    match id {
        None => glance.jsonrpc.is_some(),
        Some(id) => glance.method.is_none() && glance.id.and_then(|raw| Id::parse(raw.get())).as_ref() == Some(id),
    }
}

fn version_of(body: &[u8]) -> Option<String> {
    let glance: Glance<'_> = serde_json::from_slice(body).ok()?;
    let handshake: Handshake = serde_json::from_str(glance.result?.get()).ok()?;
    Some(handshake.protocol_version)
}

/// A line break between two tokens means nothing in JSON, and everything here.
fn one_line(message: &[u8]) -> Bytes {
    let spaced = message
        .iter()
        .map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b });
    spaced.collect::<Vec<u8>>().into()
}

/// The headers by which a modern request repeats its body; `None` for a legacy one.
fn modern_headers(request: &Request) -> Option<Vec<(&'static str, String)>> {
    let params = Params::read(request.params.as_ref()).ok()?;
    let version = params.meta().version()?;
    let mut headers = vec![(era::PROTOCOL_VERSION, version), (era::METHOD, request.method.clone())];
    if let Some(target) = era::named_target(&request.method, &params) {
        headers.push((era::NAME, era::encode(&target).into_owned()));
    }
    Some(headers)
}
