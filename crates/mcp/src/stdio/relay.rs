//! What comes back from the gateway, handed on line by line; streams that break off are taken up where they ended.

use super::{
    glance::{EVENTS, answers, body, dialect, is_stream, one_line, refused, unreachable},
    link::{Link, Session},
};
use crate::{envelope::Id, rpc};
use forebay_domain::Failure;
use futures_util::StreamExt;
use http::{StatusCode, header};
use reqwest::Response;
use sse_stream::SseStream;
use std::time::Duration;

const RECONNECT_FIRST: Duration = Duration::from_secs(1);
const RECONNECT_MAX: Duration = Duration::from_secs(30);
/// Times that a stream is asked for again without anything new in it.
const RESUMES_MAX: u32 = 5;
const LAST_EVENT_ID: &str = "last-event-id";

/// How far a stream was read.
#[derive(Default)]
struct Place {
    /// The last event that had an id.
    last: Option<String>,
    /// How long the gateway wants to be left alone before it is asked again.
    pause: Option<Duration>,
    /// Something came since this was last looked at.
    moved: bool,
}

/// How the reading of a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Answered,
    /// It ended, in good order or not, before the answer was there.
    Over,
}

impl Link {
    pub(super) async fn relay_or_fail(&self, outcome: Result<Response, Failure>, id: Option<&Id>) {
        let relayed = match outcome {
            Ok(response) => self.relay(response, id).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = relayed {
            self.put(rpc::failed(id, &failure, dialect()).message).await;
        }
    }

    async fn relay(&self, response: Response, id: Option<&Id>) -> Result<(), Failure> {
        if is_stream(&response) {
            return self.relay_events(response, id).await;
        }
        let status = response.status();
        let body = body(response).await?;
        self.relay_body(status, &body, id).await
    }

    pub(super) async fn relay_body(&self, status: StatusCode, body: &[u8], id: Option<&Id>) -> Result<(), Failure> {
        match (answers(body, id), id) {
            (true, _) => {
                self.take_version(body);
                self.put(one_line(body)).await;
                Ok(())
            }
            (false, None) => Ok(()),
            (false, Some(_)) => Err(refused(status, body)),
        }
    }

    /// Hands on a stream until the answer has come. The gateway may let go of a connection on purpose and go on with the
    /// call; where it told places in its stream, the rest is fetched.
    async fn relay_events(&self, mut response: Response, id: Option<&Id>) -> Result<(), Failure> {
        let mut place = Place::default();
        let mut idle = 0;
        loop {
            let read = self.read(response, id, &mut place).await;
            let Some(id) = id else { return Ok(()) };
            // Whoever took the request back waits for no answer.
            if read == Read::Answered || self.is_taken_back(id) {
                return Ok(());
            }
            idle = if std::mem::take(&mut place.moved) { 0 } else { idle + 1 };
            if place.last.is_none() || idle > RESUMES_MAX {
                return Err(broken());
            }
            response = self.resume(&place).await?;
        }
    }

    /// Hands on what comes until the stream ends, or the answer to `id` is there.
    async fn read(&self, response: Response, id: Option<&Id>, place: &mut Place) -> Read {
        let mut events = SseStream::from_bytes_stream(response.bytes_stream());
        while let Some(Ok(event)) = events.next().await {
            if let Some(last) = event.id {
                place.last = Some(last);
                place.moved = true;
            }
            let pause = event.retry.map(Duration::from_millis);
            place.pause = pause.map(|pause| pause.min(RECONNECT_MAX)).or(place.pause);
            let Some(data) = event.data.filter(|data| !data.is_empty()) else {
                continue;
            };
            self.take_version(data.as_bytes());
            self.put(one_line(data.as_bytes())).await;
            if id.is_some() && answers(data.as_bytes(), id) {
                return Read::Answered;
            }
        }
        Read::Over
    }

    /// The rest of a stream.
    async fn resume(&self, place: &Place) -> Result<Response, Failure> {
        let pause = place.pause.unwrap_or(RECONNECT_FIRST);
        for attempt in 1..=RESUMES_MAX {
            tokio::time::sleep(pause.saturating_mul(attempt)).await;
            match self.fetch(place).await {
                Ok(response) if is_stream(&response) => return Ok(response),
                Ok(response) => {
                    let status = response.status();
                    return Err(refused(status, &body(response).await?));
                }
                Err(fault) => tracing::debug!(error = %fault.without_url(), "a stream was not taken up again"),
            }
        }
        Err(broken())
    }

    async fn fetch(&self, place: &Place) -> reqwest::Result<Response> {
        let get = self.to.client.get(self.to.url.clone()).header(header::ACCEPT, EVENTS);
        let get = match &place.last {
            Some(last) => get.header(LAST_EVENT_ID, last),
            None => get,
        };
        self.authorised(self.in_session(get)).send().await
    }

    /// Hands on what the gateway says by itself, for as long as there is a session.
    pub(super) async fn listen(&self) {
        let mut pause = RECONNECT_FIRST;
        let (mut place, mut of): (Place, Option<Session>) = Default::default();
        while let Some(session) = self.session() {
            if of.as_ref() != Some(&session) {
                (place, of) = (Place::default(), Some(session));
            }
            match self.fetch(&place).await {
                Ok(response) if is_stream(&response) => {
                    self.read(response, None, &mut place).await;
                    pause = place.pause.unwrap_or(RECONNECT_FIRST);
                }
                Ok(response) if response.status() == StatusCode::METHOD_NOT_ALLOWED => return,
                Ok(_) | Err(_) => pause = (pause * 2).clamp(RECONNECT_FIRST, RECONNECT_MAX),
            }
            tokio::time::sleep(pause).await;
        }
    }
}

fn broken() -> Failure {
    unreachable("Its answer broke off.")
}
