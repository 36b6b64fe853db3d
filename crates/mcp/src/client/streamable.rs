//! Streamable HTTP, in both eras: each message is a POST, answered by JSON or by a stream of events.
//!
//! In the older era a stream that breaks is taken up again with `Last-Event-ID`, after the pause that the server asked
//! for; the request is lost only when that fails again and again. In the modern one a broken stream is a broken
//! request, and closing it is how a request is taken back.

use super::{
    ClientFault,
    body::{Cut, Events, Form, form, whole},
    core::{Answer, Core, Gone, UnderWay, Via},
    http::{Caller, Refusal, message_headers, stream_headers, version_header},
};
use crate::{
    era::{self, Version},
    header_value::encode,
};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reqwest::Response;
use serde::Deserialize;
use sse_stream::Sse;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Where a server names no pause.
const PAUSE_DEFAULT: Duration = Duration::from_secs(1);
/// A pause of nothing would be a busy loop.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_mins(5);
/// Attempts in a row that may fail before a stream counts as lost.
const ATTEMPTS_MAX: u32 = 5;
/// Cancellations and answers on their way at once.
const POSTS_MAX: usize = 16;
/// How long a stream that has given its answer may take to end, so that its connection can be used again.
const DRAIN_WAIT: Duration = Duration::from_secs(1);
/// What a server may send along with a refusal of a session that it does not know.
const NO_SESSION: i64 = -32000;

pub(super) struct Streamable {
    pub(super) caller: Caller,
    pub(super) core: Arc<Core>,
    session: OnceLock<HeaderValue>,
    version: OnceLock<Version>,
}

/// What the headers repeat of a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Heading<'a> {
    /// `initialize`, or whatever else is sent before the version is known.
    Bare,
    Legacy,
    Modern {
        version: Version,
        method: &'a str,
        /// What it is about, for the methods whose target a header repeats.
        name: Option<&'a str>,
        extra: &'a [(HeaderName, HeaderValue)],
    },
}

/// What came of a message.
pub(super) enum Posted {
    Accepted(Response),
    Refused(Refusal),
}

impl Streamable {
    pub(super) fn new(caller: Caller, core: Arc<Core>) -> Arc<Self> {
        Arc::new(Self {
            caller,
            core,
            session: OnceLock::new(),
            version: OnceLock::new(),
        })
    }

    pub(super) fn settle_version(&self, version: Version) {
        // A connection is opened once.
        let _settled = self.version.set(version);
    }

    pub(super) async fn post(&self, message: Bytes, heading: Heading<'_>) -> Result<Posted, ClientFault> {
        let mut headers = message_headers();
        self.head(&mut headers, heading);
        let response = self
            .caller
            .send(Method::POST, &self.caller.url, headers, message)
            .await?;
        if response.status().is_success() {
            Ok(Posted::Accepted(response))
        } else {
            Ok(Posted::Refused(Refusal::read(response).await))
        }
    }

    fn head(&self, headers: &mut HeaderMap, heading: Heading<'_>) {
        match heading {
            Heading::Bare => {}
            Heading::Legacy => self.head_session(headers),
            Heading::Modern {
                version,
                method,
                name,
                extra,
            } => {
                headers.insert(era::PROTOCOL_VERSION, version_header(version));
                let mut repeat = |header: &'static str, text: &str| {
                    if let Ok(value) = HeaderValue::try_from(encode(text).as_ref()) {
                        headers.insert(header, value);
                    }
                };
                repeat(era::METHOD, method);
                if let Some(name) = name {
                    repeat(era::NAME, name);
                }
                for (name, value) in extra {
                    headers.insert(name.clone(), value.clone());
                }
            }
        }
    }

    fn head_session(&self, headers: &mut HeaderMap) {
        if let Some(session) = self.session.get() {
            headers.insert(era::SESSION_ID, session.clone());
        }
        if let Some(version) = self.version.get() {
            headers.insert(era::PROTOCOL_VERSION, version_header(*version));
        }
    }

    /// Sends a request and reads until its answer has come.
    pub(super) async fn exchange(&self, under_way: &mut UnderWay, message: Bytes, heading: Heading<'_>) -> Answer {
        let response = match self.post(message, heading).await? {
            Posted::Accepted(response) => response,
            Posted::Refused(refusal) => return Err(self.refused(under_way, refusal, heading)),
        };
        if matches!(heading, Heading::Bare)
            && let Some(session) = response.headers().get(era::SESSION_ID)
        {
            let mut session = session.clone();
            session.set_sensitive(true);
            // The first answer names the session, and a connection has but one.
            let _settled = self.session.set(session);
        }
        let via = Via::Of(under_way.id);
        match form(response.headers()) {
            Form::Json => {
                let body = whole(response, self.core.limits.message_bytes_max).await?;
                self.core.take(&body, via);
                answered(under_way).unwrap_or_else(|| {
                    Err(ClientFault::Protocol(
                        "it answered with something else than the answer".to_owned(),
                    ))
                })
            }
            Form::Events => self.follow(under_way, response, heading).await,
            Form::Other => Err(ClientFault::Protocol(
                "it answered a request with neither JSON nor events".to_owned(),
            )),
        }
    }

    /// What a refusal by HTTP means for a request.
    fn refused(&self, under_way: &mut UnderWay, refusal: Refusal, heading: Heading<'_>) -> ClientFault {
        let said = refusal.body.as_ref().and_then(|body| {
            self.core.take(body, Via::Of(under_way.id));
            answered(under_way)?.err()
        });
        let said = said.filter(|fault| matches!(fault, ClientFault::Refused(_)));
        let in_session = matches!(heading, Heading::Legacy) && self.session.get().is_some();
        if in_session && forgets_session(refusal.status, said.as_ref()) {
            self.core.end(Gone::SessionExpired);
            return ClientFault::SessionExpired;
        }
        match (refusal.status, said) {
            // What HTTP says of credentials counts, whatever else stands in the body.
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS, _) | (_, None) => {
                refusal.into_fault()
            }
            (_, Some(said)) => said,
        }
    }

    /// Reads a stream, and where it breaks the streams that continue it, until the answer has come.
    async fn follow(&self, under_way: &mut UnderWay, response: Response, heading: Heading<'_>) -> Answer {
        let mut events = Events::of(response, self.core.limits.message_bytes_max);
        let mut place = Place::default();
        loop {
            match events.next().await {
                Some(Ok(event)) => {
                    place.note(&event);
                    let Some(data) = message_in(&event) else { continue };
                    self.core.take(data, Via::Of(under_way.id));
                    if let Some(answer) = answered(under_way) {
                        self.drain(events);
                        return answer;
                    }
                }
                Some(Err(Cut::TooLarge)) => {
                    return Err(ClientFault::TooLarge {
                        bytes_max: self.core.limits.message_bytes_max,
                    });
                }
                Some(Err(Cut::Broken)) | None => match heading {
                    Heading::Legacy => events = Box::pin(self.resume(&mut place)).await?,
                    Heading::Bare | Heading::Modern { .. } => {
                        return Err(ClientFault::broken("its stream ended before the answer"));
                    }
                },
            }
        }
    }

    /// A stream that has given its answer ends in a moment; read to its end, its connection can be used again.
    fn drain(&self, mut events: Events) {
        if matches!(events.next().now_or_never(), Some(None)) {
            return;
        }
        self.core.tasks.spawn("mcp-drain", |_stop| async move {
            let end = async { while let Some(Ok(_)) = events.next().await {} };
            // What does not end is closed.
            let _late = tokio::time::timeout(DRAIN_WAIT, end).await;
        });
    }

    /// Takes up a stream where it broke.
    async fn resume(&self, place: &mut Place) -> Result<Events, ClientFault> {
        if place.last.is_none() {
            return Err(ClientFault::broken(
                "its stream ended before the answer, and cannot be taken up again",
            ));
        }
        loop {
            tokio::time::sleep(place.pause()).await;
            match self.get(place.last.as_ref()).await {
                Ok(Posted::Accepted(response)) if form(response.headers()) == Form::Events => {
                    place.failures = 0;
                    return Ok(Events::of(response, self.core.limits.message_bytes_max));
                }
                Ok(Posted::Accepted(_)) => {
                    return Err(ClientFault::Protocol("it continued a stream with no stream".to_owned()));
                }
                Ok(Posted::Refused(refusal)) if refusal.status == StatusCode::NOT_FOUND => {
                    self.core.end(Gone::SessionExpired);
                    return Err(ClientFault::SessionExpired);
                }
                Ok(Posted::Refused(refusal)) if refusal.status.is_client_error() => {
                    return Err(ClientFault::broken(
                        "its stream ended, and it does not take it up again",
                    ));
                }
                Ok(Posted::Refused(_)) | Err(_) => {
                    place.failures += 1;
                    if place.failures >= ATTEMPTS_MAX {
                        return Err(ClientFault::broken("its stream ended, and could not be taken up again"));
                    }
                }
            }
        }
    }

    async fn get(&self, last: Option<&HeaderValue>) -> Result<Posted, ClientFault> {
        let mut headers = stream_headers();
        self.head_session(&mut headers);
        if let Some(last) = last {
            headers.insert(LAST_EVENT_ID, last.clone());
        }
        let response = self
            .caller
            .send(Method::GET, &self.caller.url, headers, Bytes::new())
            .await?;
        if response.status().is_success() {
            Ok(Posted::Accepted(response))
        } else {
            Ok(Posted::Refused(Refusal::read(response).await))
        }
    }

    /// Hears what the server says outside of requests, for as long as the session lasts. Not every server does. Once
    /// it is known whether this one does, `ready` is told.
    pub(super) async fn hear(self: Arc<Self>, ready: oneshot::Sender<()>) {
        let mut place = Place::default();
        let mut ready = Some(ready);
        loop {
            let got = self.get(place.last.as_ref()).await;
            if let Some(ready) = ready.take() {
                // Whoever opens the connection may have lost patience.
                let _unheard = ready.send(());
            }
            match got {
                Ok(Posted::Accepted(response)) if form(response.headers()) == Form::Events => {
                    place.failures = 0;
                    self.hear_stream(response, &mut place).await;
                }
                Ok(Posted::Refused(refusal))
                    if refusal.status == StatusCode::NOT_FOUND && self.session.get().is_some() =>
                {
                    return self.core.end(Gone::SessionExpired);
                }
                Ok(Posted::Refused(refusal)) if refusal.status.is_client_error() => return,
                Ok(Posted::Accepted(_)) => return,
                Ok(Posted::Refused(_)) | Err(_) => place.failures = place.failures.saturating_add(1),
            }
            tokio::time::sleep(place.pause()).await;
        }
    }

    async fn hear_stream(&self, response: Response, place: &mut Place) {
        let mut events = Events::of(response, self.core.limits.message_bytes_max);
        while let Some(Ok(event)) = events.next().await {
            place.note(&event);
            if let Some(data) = message_in(&event) {
                self.core.take(data, Via::Shared);
            }
        }
    }

    /// Posts what wants no answer: cancellations, and answers to questions.
    pub(super) async fn post_all(self: Arc<Self>, mut messages: mpsc::Receiver<Bytes>) {
        let mut posts = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = posts.next() => {}
                message = messages.recv(), if posts.len() < POSTS_MAX => match message {
                    Some(message) => posts.push(self.post_quietly(message)),
                    None => return,
                },
            }
        }
    }

    async fn post_quietly(&self, message: Bytes) {
        let accepted = match self.post(message, Heading::Legacy).await {
            Ok(Posted::Accepted(_)) => true,
            Ok(Posted::Refused(_)) | Err(_) => false,
        };
        if !accepted {
            tracing::debug!("an MCP upstream did not take a message that wants no answer");
        }
    }

    /// Ends the session.
    pub(super) async fn close(&self) {
        if self.session.get().is_some() {
            let mut headers = HeaderMap::with_capacity(8);
            self.head_session(&mut headers);
            // A server that forgets idle sessions by itself needs no farewell.
            let _unheard = self
                .caller
                .send(Method::DELETE, &self.caller.url, headers, Bytes::new())
                .await;
        }
    }
}

/// How far a stream was read.
#[derive(Debug, Default)]
struct Place {
    last: Option<HeaderValue>,
    pause: Option<Duration>,
    failures: u32,
}

impl Place {
    fn note(&mut self, event: &Sse) {
        if let Some(id) = &event.id {
            self.last = HeaderValue::try_from(id).ok();
        }
        if let Some(millis) = event.retry {
            self.pause = Some(Duration::from_millis(millis));
        }
    }

    /// What the server asked for, doubled with each failure in a row.
    fn pause(&self) -> Duration {
        let pause = self.pause.unwrap_or(PAUSE_DEFAULT).clamp(PAUSE_MIN, PAUSE_MAX);
        pause.saturating_mul(1 << self.failures.min(8)).min(PAUSE_MAX)
    }
}

/// The message in an event. Events of another name, and those that only tell an id, hold none.
pub(super) fn message_in(event: &Sse) -> Option<&[u8]> {
    let named = event
        .event
        .as_deref()
        .is_none_or(|name| name == "message" || name.is_empty());
    let data = event.data.as_deref().filter(|data| !data.is_empty())?;
    named.then_some(data.as_bytes())
}

fn answered(under_way: &mut UnderWay) -> Option<Answer> {
    under_way.answer.try_recv().ok()
}

/// Whether a refusal means that the session is gone: 404, unless it says that the method is unknown; or the 400 of
/// widely used servers, which names the session in its error.
fn forgets_session(status: StatusCode, said: Option<&ClientFault>) -> bool {
    let error = match said {
        Some(ClientFault::Refused(error)) => Some(error),
        Some(_) | None => None,
    };
    match status {
        StatusCode::NOT_FOUND => error.is_none_or(|error| error.code != -32601),
        StatusCode::BAD_REQUEST => error
            .is_some_and(|error| error.code == NO_SESSION && error.message.to_ascii_lowercase().contains("session")),
        _ => false,
    }
}

/// The target that a header repeats, read out of the parameters.
pub(super) fn target(method: &str, params: Option<&serde_json::value::RawValue>) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        name: Option<String>,
        uri: Option<String>,
        #[serde(rename = "taskId")]
        task_id: Option<String>,
    }
    let relevant = matches!(method, "tools/call" | "prompts/get" | "resources/read") || method.starts_with("tasks/");
    let named: Named = relevant.then(|| serde_json::from_str(params?.get()).ok()).flatten()?;
    match method {
        "resources/read" => named.uri,
        _ if method.starts_with("tasks/") => named.task_id,
        _ => named.name,
    }
}
