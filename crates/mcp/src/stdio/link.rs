//! The bridge's side towards the gateway: one POST a message, one GET for notifications.

use super::{
    BridgeTo,
    glance::{EVENTS, answers, body, dialect, is_stream, modern_headers, one_line, refused, unreachable, version_of},
};
use crate::{
    envelope::{self, Id, Incoming, Message, Notification, Request},
    era,
    front::BATCH_MAX,
    params::Params,
    rpc,
};
use bytes::Bytes;
use forebay_domain::Failure;
use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use http::{StatusCode, header};
use reqwest::{RequestBuilder, Response};
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
    /// `None` until the answer to the handshake has told it.
    version: Option<String>,
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
            Ok(Incoming::One(Message::Response(_)) | Incoming::Batch(_)) => (false, self.pass(line).boxed()),
        }
    }

    /// Answers what is no message at all.
    pub(super) async fn refuse(&self, failure: Failure) -> Sent {
        self.put(rpc::failed(None, &failure, dialect()).message).await;
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
                version: None,
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
            let state = self.state();
            if state.session != forgotten {
                return Ok(());
            }
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
        self.state().session = id.map(|id| Session {
            id,
            version: Some(version),
        });
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
        let session = self.state().session.clone();
        let Some(session) = session else { return request };
        let request = request.header(era::SESSION_ID, session.id);
        match session.version {
            Some(version) => request.header(era::PROTOCOL_VERSION, version),
            None => request,
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

    /// The version that the handshake settled, from the first answer after it.
    fn take_version(&self, body: &[u8]) {
        let mut state = self.state();
        if let Some(session) = state.session.as_mut().filter(|session| session.version.is_none()) {
            session.version = version_of(body);
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
