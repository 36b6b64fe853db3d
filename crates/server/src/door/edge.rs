//! The edge: every request passes here first and last, whatever its route, method or mistake.

use super::record::{Record, RequestLine};
use crate::{
    app::App,
    errors::{self, FailedWith},
};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use forebay_domain::{Code, Failure};
use forebay_runtime::telemetry::{TRACEPARENT, TraceContext, names};
use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;
use std::sync::Arc;
use tracing::Instrument;

/// The listener that a request came in by; each has names of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    Main,
    Metrics,
}

/// What stands at the edge of one listener.
#[derive(Clone)]
pub struct Edge {
    pub app: Arc<App>,
    pub listener: Listener,
}

/// Traces the request, refuses strangers, and records how it ended.
pub async fn edge(State(edge): State<Edge>, mut request: Request, next: Next) -> Response {
    let Edge { app, listener } = edge;
    let line = RequestLine::of(&request);
    // A root of its own: the span of the connection's task would make one trace of all its requests.
    let span = tracing::info_span!(
        parent: None,
        names::SPAN_REQUEST,
        { names::OTEL_KIND } = "server",
        { names::OTEL_NAME } = %format_args!("{} {}", line.method, line.route),
        { names::HTTP_REQUEST_METHOD } = line.method,
        { names::HTTP_ROUTE } = %line.route,
        { names::HTTP_RESPONSE_STATUS_CODE } = tracing::field::Empty,
        { names::ERROR_TYPE } = tracing::field::Empty,
    );
    let trace = TraceContext::begin(&span, caller(request.headers()), app.clock.now(), &app.entropy).trace;
    let record = Record::open(app.clone(), line, trace);
    request.extensions_mut().insert(record.arrival());
    let authority = request.uri().authority().cloned();
    let stranger = app
        .door
        .rules()
        .neighbours(listener)
        .check(authority.as_ref(), request.headers());
    let mut response = match stranger.and_then(|()| legible(request.uri())) {
        Err(failure) => errors::respond(record.line().dialect, &failure, trace),
        Ok(()) => next.run(request).instrument(span.clone()).await,
    };
    span.record(names::HTTP_RESPONSE_STATUS_CODE, response.status().as_u16());
    if let Some(FailedWith(code)) = response.extensions().get() {
        span.record(names::ERROR_TYPE, code.as_str());
    }
    if let Ok(value) = HeaderValue::from_str(&trace.to_string()) {
        response.headers_mut().insert("x-trace-id", value);
    }
    record.close(&response);
    response
}

/// Names in a path are text.
fn legible(uri: &http::Uri) -> Result<(), Failure> {
    match percent_decode_str(uri.path()).decode_utf8() {
        Ok(_) => Ok(()),
        Err(_) => Err(
            Failure::new(Code::InvalidRequest, "The path of the request is no text in UTF-8.")
                .hint("Percent-encode names as UTF-8."),
        ),
    }
}

/// The caller's place in its own trace.
fn caller(headers: &HeaderMap) -> Option<TraceContext> {
    TraceContext::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
}
