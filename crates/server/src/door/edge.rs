//! The edge: every request passes here first and last, whatever its route, method or mistake.

use crate::{
    app::App,
    door::Caller,
    errors::{self, Dialect, FailedWith},
};
use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use forebay_domain::{
    Event,
    event::{Class, Outcome, Surface},
    id::TraceId,
};
use forebay_runtime::telemetry::{TRACEPARENT, TraceContext, names};
use http::{HeaderMap, HeaderValue, header};
use std::{sync::Arc, time::Duration};
use tracing::Instrument;

/// What is known of a request when it comes in.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub trace: TraceId,
    pub at: Duration,
}

/// Who a response was for and why it was allowed or refused; left in its extensions by the gate.
#[derive(Debug, Clone)]
pub(super) struct Passage {
    pub(super) caller: Option<Caller>,
    pub(super) reason: Option<String>,
}

/// Traces the request, refuses strangers, and records how it ended.
pub async fn edge(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let line = RequestLine::of(&request);
    // A root of its own: the span of the connection's task would make one trace of all its requests.
    let span = tracing::info_span!(
        parent: None,
        names::SPAN_REQUEST,
        { names::OTEL_KIND } = "server",
        { names::OTEL_NAME } = %format_args!("{} {}", line.method, line.route),
        { names::HTTP_REQUEST_METHOD } = %line.method,
        { names::HTTP_ROUTE } = %line.route,
        { names::HTTP_RESPONSE_STATUS_CODE } = tracing::field::Empty,
        { names::ERROR_TYPE } = tracing::field::Empty,
    );
    let trace = TraceContext::begin(&span, caller(request.headers()), &app.entropy).trace;
    let arrival = Arrival {
        trace,
        at: app.clock.monotonic(),
    };
    request.extensions_mut().insert(arrival);
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let stranger = app
        .door
        .rules()
        .neighbours
        .check(authority.as_deref(), request.headers())
        .err();
    let mut response = match stranger {
        Some(failure) => errors::respond(line.dialect, &failure, trace),
        None => next.run(request).instrument(span.clone()).await,
    };
    span.record(names::HTTP_RESPONSE_STATUS_CODE, response.status().as_u16());
    if let Some(FailedWith(code)) = response.extensions().get() {
        span.record(names::ERROR_TYPE, code.as_str());
    }
    if let Ok(value) = HeaderValue::from_str(&trace.to_string()) {
        response.headers_mut().insert("x-trace-id", value);
    }
    app.metrics.request(
        line.surface,
        &line.route,
        response.status(),
        app.clock.monotonic().saturating_sub(arrival.at),
    );
    app.store.events().record(event(&app, arrival, &line, &response));
    response
}

/// Methods are free text to whoever sends them.
const METHOD_CHARS_MAX: usize = 16;

/// A request as the event names it. A path that no route knows is kept out of it: strangers choose those.
struct RequestLine {
    method: String,
    route: String,
    surface: Surface,
    dialect: Dialect,
    bytes_in: u64,
}

impl RequestLine {
    fn of(request: &Request) -> Self {
        let (surface, dialect) = crate::http::manners(request.uri().path());
        let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        Self {
            method: request.method().as_str().chars().take(METHOD_CHARS_MAX).collect(),
            route: matched.unwrap_or("(unknown)").to_owned(),
            surface,
            dialect,
            bytes_in: content_length(request.headers()),
        }
    }
}

fn event(app: &App, arrival: Arrival, line: &RequestLine, response: &Response) -> Event {
    let passage = response.extensions().get::<Passage>();
    let caller = passage.and_then(|passage| passage.caller.as_ref());
    let outcome = match response.extensions().get::<FailedWith>() {
        Some(FailedWith(code)) => Outcome::Failed(*code),
        None => Outcome::Ok,
    };
    let took = app.clock.monotonic().saturating_sub(arrival.at);
    Event {
        at: app.clock.now(),
        class: Class::Activity,
        surface: line.surface,
        trace: arrival.trace,
        actor: caller.map(|caller| (&caller.principal).into()),
        action: format!("{} {}", line.method, line.route),
        outcome,
        reason: passage.and_then(|passage| passage.reason.clone()),
        duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        bytes_in: line.bytes_in,
        bytes_out: content_length(response.headers()),
        usage: None,
        count: 1,
    }
}

/// The caller's place in its own trace.
fn caller(headers: &HeaderMap) -> Option<TraceContext> {
    TraceContext::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
}

fn content_length(headers: &HeaderMap) -> u64 {
    let stated = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    stated.and_then(|text| text.parse().ok()).unwrap_or(0)
}
