//! The bridge's side towards the gateway: one POST a message, and the session that they belong to.

use super::{
    BridgeTo,
    glance::{body, dialect, lacks_headers, modern_headers, unreachable, version_of},
    marks::Marks,
    standing::Standing,
};
use crate::{
    envelope::{self, Id, Incoming, Message, Notification, Request},
    era,
    front::{BATCH_MAX, taken_back},
    rpc,
};
use bytes::Bytes;
use forebay_domain::Failure;
use futures_util::{FutureExt, future::BoxFuture};
use http::{StatusCode, header};
use reqwest::{RequestBuilder, Response};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const BOTH: &str = "application/json, text/event-stream";

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// The `initialize` that opens a session.
    Opening,
    Request,
    /// What wants no answer.
    Other,
}

/// A line on its way. It is sent once this is polled.
pub(super) struct Sending<'a> {
    pub(super) what: Sent,
    pub(super) done: BoxFuture<'a, Sent>,
}

/// A request of the client that is not answered yet.
struct UnderWay {
    /// Ends it here.
    cancel: CancellationToken,
    era: EraOf,
    listens: bool,
    /// The client has said that it wants no answer any more.
    taken_back: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EraOf {
    Legacy,
    Modern,
}

pub(super) struct Link {
    pub(super) to: BridgeTo,
    out: mpsc::Sender<Bytes>,
    pub(super) marks: Marks,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    session: Option<Session>,
    /// The handshake, kept to open another session where the gateway has forgotten this one.
    handshake: Option<Bytes>,
    /// What another session would have to be asked again.
    standing: Standing,
    under_way: HashMap<Id, UnderWay>,
}

#[derive(Clone, PartialEq)]
pub(super) struct Session {
    id: String,
    /// `None` until the answer to the handshake has told it.
    version: Option<String>,
}

impl Link {
    pub(super) fn new(to: BridgeTo, out: mpsc::Sender<Bytes>) -> Self {
        Self {
            to,
            out,
            marks: Marks::default(),
            state: Mutex::default(),
        }
    }

    /// Makes ready to send one line.
    pub(super) fn send(&self, line: Bytes) -> Sending<'_> {
        let (what, done) = match envelope::read(&line, BATCH_MAX) {
            Err(refused) => {
                let failed = rpc::failed(refused.id.as_ref(), &refused.failure, dialect());
                (Sent::Other, self.put(failed.message).map(|()| Sent::Other).boxed())
            }
            Ok(Incoming::One(Message::Request(request))) if request.method == "initialize" => {
                self.state().handshake = Some(line.clone());
                (Sent::Opening, self.open(request, line).boxed())
            }
            Ok(Incoming::One(Message::Request(request))) => (Sent::Request, self.request(request, line).boxed()),
            Ok(Incoming::One(Message::Notification(notification))) => {
                (Sent::Other, self.notify(notification, line).boxed())
            }
            Ok(Incoming::One(Message::Response(_)) | Incoming::Batch(_)) => (Sent::Other, self.pass(line).boxed()),
        };
        Sending { what, done }
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
        let era = match modern_headers(&request) {
            Some(_) => EraOf::Modern,
            None => EraOf::Legacy,
        };
        let under_way = UnderWay {
            cancel: cancel.clone(),
            era,
            listens: request.method == "subscriptions/listen",
            taken_back: false,
        };
        {
            let mut state = self.state();
            state.under_way.insert(request.id.clone(), under_way);
            if era == EraOf::Legacy {
                state.standing.note(&request, &line);
            }
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = self.exchange(&request, &line) => {}
        }
        self.state().under_way.remove(&request.id);
        Sent::Request
    }

    /// Posts a request; in a session that the gateway has forgotten, once more in a new one.
    async fn exchange(&self, request: &Request, line: &Bytes) {
        let before = self.session();
        let mut outcome = self.post(line, Some(request)).await;
        let forgotten = matches!(&outcome, Ok(response) if response.status() == StatusCode::NOT_FOUND);
        if forgotten && before.is_some() && self.reopen(before).await.is_ok() {
            outcome = self.post(line, Some(request)).await;
        }
        match outcome {
            Ok(response) if response.status() == StatusCode::BAD_REQUEST => {
                self.mend(response, request, line).await;
            }
            outcome => self.relay_or_fail(outcome, Some(&request.id)).await,
        }
    }

    /// A call may lack headers that its tool asks for, of which the client knows nothing: then they are looked up, and it
    /// is sent once more.
    async fn mend(&self, refused: Response, request: &Request, line: &Bytes) {
        let status = refused.status();
        let outcome = match body(refused).await {
            Ok(body) if lacks_headers(&body) && self.look_up(request).await => {
                let again = self.post(line, Some(request)).await;
                return self.relay_or_fail(again, Some(&request.id)).await;
            }
            Ok(body) => self.relay_body(status, &body, Some(&request.id)).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = outcome {
            self.put(rpc::failed(Some(&request.id), &failure, dialect()).message)
                .await;
        }
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
        self.post(&initialized, None).await?;
        let standing = self.state().standing.lines();
        for line in standing {
            // The client has had its answer, from the session before.
            self.post(&line, None).await?;
        }
        Ok(())
    }

    async fn notify(&self, notification: Notification, line: Bytes) -> Sent {
        // Over HTTP, the modern era cancels by closing the answer's stream.
        let is_told = match taken_back(&notification) {
            Some(id) => self.take_back(&id) != Some(EraOf::Modern),
            None => true,
        };
        if is_told && self.session().is_some() {
            return self.pass(line).await;
        }
        Sent::Other
    }

    /// Notes that a request is wanted no more, and says of which era it was where it is still under way.
    fn take_back(&self, id: &Id) -> Option<EraOf> {
        let mut state = self.state();
        let under_way = state.under_way.get_mut(id)?;
        under_way.taken_back = true;
        if under_way.era == EraOf::Modern {
            under_way.cancel.cancel();
        }
        Some(under_way.era)
    }

    pub(super) fn is_taken_back(&self, id: &Id) -> bool {
        self.state()
            .under_way
            .get(id)
            .is_some_and(|under_way| under_way.taken_back)
    }

    /// Nothing more comes from the client: what it alone could end, ends.
    pub(super) fn hang_up(&self) {
        for under_way in self.state().under_way.values().filter(|one| one.listens) {
            under_way.cancel.cancel();
        }
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

    pub(super) async fn post(&self, line: &Bytes, request: Option<&Request>) -> Result<Response, Failure> {
        let post = self.to.client.post(self.to.url.clone()).body(line.clone());
        let post = post
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, BOTH);
        let post = match request.and_then(|request| Some((request, modern_headers(request)?))) {
            Some((request, headers)) => {
                let post = headers
                    .into_iter()
                    .fold(post, |post, (name, value)| post.header(name, value));
                self.marks
                    .headers(request)
                    .into_iter()
                    .fold(post, |post, (name, value)| post.header(name, value))
            }
            None if request.is_some_and(|request| request.method == "initialize") => post,
            None => self.in_session(post),
        };
        self.authorised(post)
            .send()
            .await
            .map_err(|fault| unreachable("It did not answer.").caused_by(fault.without_url()))
    }

    pub(super) fn in_session(&self, request: RequestBuilder) -> RequestBuilder {
        let session = self.state().session.clone();
        let Some(session) = session else { return request };
        let request = request.header(era::SESSION_ID, session.id);
        match session.version {
            Some(version) => request.header(era::PROTOCOL_VERSION, version),
            None => request,
        }
    }

    pub(super) fn authorised(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(self.to.key.expose())
    }

    /// Ends the session.
    pub(super) async fn close(&self) {
        let has_session = self.state().session.is_some();
        if has_session {
            let delete = self.in_session(self.to.client.delete(self.to.url.clone()));
            let _gone = self.authorised(delete).send().await;
        }
    }

    pub(super) async fn put(&self, line: Bytes) {
        // The receiver lives as long as the bridge does.
        let _closed = self.out.send(line).await;
    }

    pub(super) fn session(&self) -> Option<Session> {
        self.state().session.clone()
    }

    /// The version that the handshake settled, from the first answer after it.
    pub(super) fn take_version(&self, body: &[u8]) {
        let mut state = self.state();
        if let Some(session) = state.session.as_mut().filter(|session| session.version.is_none()) {
            session.version = version_of(body);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nobody panics while holding the state of the bridge")
    }
}
