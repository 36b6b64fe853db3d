//! The HTTP edge of the MCP front: bytes in, bytes out. What they mean is decided in `mcp`.

use crate::{
    app::App,
    door::Caller,
    errors::{self, Dialect, FailedWith},
    http::{body, named_call},
};
use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use forebay_domain::Failure;
use forebay_mcp::{HttpIn, Reply, ReplyBody, Scope};
use futures_util::StreamExt;
use http::HeaderMap;
use std::{convert::Infallible, sync::Arc};

/// Streamable HTTP: one JSON-RPC message, answered as JSON or as a stream of events.
#[utoipa::path(post, path = "/mcp", tag = "mcp", request_body = serde_json::Value,
    responses((status = 200, body = serde_json::Value), (status = 202, description = "a notification was taken")))]
pub(crate) async fn post(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    match read(&app, request).await {
        Ok((headers, bytes)) => answer(app.front.post(incoming(&headers, bytes, &caller, Scope::Whole)).await),
        Err(failure) => errors::respond(Dialect::Mcp, &failure, caller.trace),
    }
}

/// Plain JSON-RPC over HTTP, for clients that know nothing of sessions or streams.
#[utoipa::path(post, path = "/api/v1/mcp", tag = "mcp", request_body = serde_json::Value,
    responses((status = 200, body = serde_json::Value), (status = 202, description = "a notification was taken")))]
pub(crate) async fn plain(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let sent = read(&app, request)
        .await
        .and_then(|(headers, bytes)| Ok((named_call::read(&headers, bytes)?, headers)));
    match sent {
        Ok((bytes, headers)) => answer(app.front.plain(incoming(&headers, bytes, &caller, Scope::Whole)).await),
        Err(failure) => errors::respond(Dialect::Mcp, &failure, caller.trace),
    }
}

/// The stream of a legacy session on which the server speaks first.
#[utoipa::path(get, path = "/mcp", tag = "mcp",
    responses((status = 200, body = String, content_type = "text/event-stream"), (status = 405, description = "2026-07-28 has no such stream")))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Response {
    answer(app.front.get(&headers, &caller.principal, &Scope::Whole).await)
}

/// Ends a legacy session.
#[utoipa::path(delete, path = "/mcp", tag = "mcp", responses((status = 204, description = "the session has ended")))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Response {
    answer(app.front.delete(&headers, &caller.principal, &Scope::Whole).await)
}

/// The content type is the front's to judge: the plain endpoint is more patient than the specification.
pub(super) async fn read(app: &App, request: Request) -> Result<(HeaderMap, Bytes), Failure> {
    let (parts, stream) = request.into_parts();
    let bytes = body::read(stream, app.body_bytes_max).await?;
    Ok((parts.headers, bytes))
}

pub(super) fn incoming<'a>(headers: &'a HeaderMap, body: Bytes, caller: &Caller, scope: Scope) -> HttpIn<'a> {
    HttpIn {
        headers,
        body,
        principal: caller.principal.clone(),
        trace: caller.trace,
        scope,
    }
}

pub(super) fn answer(reply: Reply) -> Response {
    let body = match reply.body {
        ReplyBody::Empty => Body::empty(),
        ReplyBody::Json(bytes) => Body::from(bytes),
        ReplyBody::Events(stream) => Body::from_stream(stream.map(Ok::<_, Infallible>)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    if let Some(code) = reply.failed {
        response.extensions_mut().insert(FailedWith(code));
    }
    response
}
