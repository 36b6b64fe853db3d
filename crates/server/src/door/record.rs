//! The record of a request: one event and one count, however it ends, also when its client hangs up first.

use super::Caller;
use crate::{app::App, errors::Dialect, errors::FailedWith};
use axum::{
    extract::{MatchedPath, Request},
    response::Response,
};
use forebay_domain::{
    Event,
    event::{Class, Outcome, Surface},
    id::TraceId,
};
use futures_util::FutureExt;
use http::{HeaderMap, Method, StatusCode, header};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

/// nginx's word for a client that closed the connection before it had its answer.
const CLIENT_GONE: u16 = 499;

/// What a request carries from the edge on.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub trace: TraceId,
    passage: Arc<OnceLock<Passage>>,
}

/// Who asked, and by which rule it was allowed or refused.
#[derive(Debug)]
pub(super) struct Passage {
    pub(super) caller: Option<Caller>,
    pub(super) reason: Option<String>,
}

impl Arrival {
    /// Notes what the gate found out.
    pub(super) fn note(&self, passage: Passage) {
        // A request passes one gate, once.
        let _ = self.passage.set(passage);
    }
}

/// A request as the event names it. What only its sender chose is kept out: a path that no route knows, a method that no
/// standard knows.
pub(super) struct RequestLine {
    pub(super) method: &'static str,
    pub(super) route: String,
    pub(super) surface: Surface,
    pub(super) dialect: Dialect,
    bytes_in: u64,
}

impl RequestLine {
    pub(super) fn of(request: &Request) -> Self {
        let (surface, dialect) = crate::http::manners(request.uri().path());
        let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        Self {
            method: known_method(request.method()),
            route: matched.unwrap_or("(unknown)").to_owned(),
            surface,
            dialect,
            bytes_in: content_length(request.headers()),
        }
    }
}

/// `_OTHER` is OpenTelemetry's word for methods outside RFC 9110 and RFC 5789.
fn known_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    KNOWN
        .into_iter()
        .find(|known| *known == method.as_str())
        .unwrap_or("_OTHER")
}

/// Open while a request is under way. Dropped before it is closed, it records that the client went.
pub(super) struct Record {
    app: Arc<App>,
    line: RequestLine,
    arrival: Arrival,
    began: Duration,
    is_closed: bool,
}

impl Record {
    pub(super) fn open(app: Arc<App>, line: RequestLine, trace: TraceId) -> Self {
        let arrival = Arrival {
            trace,
            passage: Arc::default(),
        };
        let began = app.clock.monotonic();
        Self {
            app,
            line,
            arrival,
            began,
            is_closed: false,
        }
    }

    pub(super) fn arrival(&self) -> Arrival {
        self.arrival.clone()
    }

    pub(super) fn line(&self) -> &RequestLine {
        &self.line
    }

    pub(super) fn close(mut self, response: &Response) {
        self.is_closed = true;
        let outcome = match response.extensions().get::<FailedWith>() {
            Some(FailedWith(code)) => Outcome::Failed(*code),
            None => Outcome::Ok,
        };
        self.leave(outcome, response.status(), content_length(response.headers()));
    }

    fn leave(&self, outcome: Outcome, status: StatusCode, bytes_out: u64) {
        let took = self.app.clock.monotonic().saturating_sub(self.began);
        self.app
            .metrics
            .request(self.line.surface, &self.line.route, status, took);
        let passage = self.arrival.passage.get();
        let caller = passage.and_then(|passage| passage.caller.as_ref());
        let events = self.app.store.events();
        // Whoever is known waited for room at the gate. The unknown must not push the events of the known out.
        if caller.is_none() && events.room().now_or_never().is_none() {
            return;
        }
        events.record(Event {
            at: self.app.clock.now(),
            class: Class::Activity,
            surface: self.line.surface,
            trace: self.arrival.trace,
            actor: caller.map(|caller| (&caller.principal).into()),
            action: format!("{} {}", self.line.method, self.line.route),
            outcome,
            reason: passage.and_then(|passage| passage.reason.clone()),
            duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            bytes_in: self.line.bytes_in,
            bytes_out,
            usage: None,
            cost: None,
            count: 1,
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.is_closed {
            let status = StatusCode::from_u16(CLIENT_GONE).expect("499 is between 100 and 999");
            self.leave(Outcome::Cancelled, status, 0);
        }
    }
}

fn content_length(headers: &HeaderMap) -> u64 {
    let stated = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    stated.and_then(|text| text.parse().ok()).unwrap_or(0)
}
