//! HTTP+SSE of 2024-11-05: a GET that hears, and POSTs that speak, tied together by an id that only its client knows.
//!
//! Each POST passes the door like any other request. It must come from the principal that opened the stream, and to the
//! path beside it; the answer to what it says goes over the stream.

use super::super::{
    base_url,
    body::require_json,
    mcp::{answer, read},
};
use crate::{
    app::App,
    door::Caller,
    errors::{self, Dialect},
};
use axum::{
    Extension,
    body::Body,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use forebay_domain::{Code, Failure};
use forebay_mcp::Scope;
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode, Uri};
use std::sync::Arc;
use url::{Url, form_urlencoded};

/// The parameter of the query that names the stream.
const SESSION_ID: &str = "sessionId";

/// The stream of events of a client of 2024-11-05. Its first event, `endpoint`, says where to post.
#[utoipa::path(get, path = "/mcp/sse", tag = "mcp",
    responses((status = 200, body = String, content_type = "text/event-stream")))]
pub(crate) async fn whole(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    open(&app, &caller, Scope::Whole, &uri, &headers)
}

/// The same under the older base path.
#[utoipa::path(get, path = "/api/v1/mcp/sse", tag = "mcp",
    responses((status = 200, body = String, content_type = "text/event-stream")))]
pub(crate) async fn older(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    open(&app, &caller, Scope::Whole, &uri, &headers)
}

/// The same for one server by itself.
#[utoipa::path(get, path = "/servers/{name}/mcp/sse", tag = "mcp",
    params(("name" = String, Path, description = "an upstream, or `forebay` for the built-in tools")),
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = 404, description = "there is no such server")))]
pub(crate) async fn server(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    open(&app, &caller, Scope::Server(name.into()), &uri, &headers)
}

/// Says one message on the connection that the stream of events began. Its answer comes over the stream.
#[utoipa::path(post, path = "/mcp/messages", tag = "mcp", request_body = serde_json::Value,
    params(("sessionId" = String, Query, description = "as the stream's first event said")),
    responses((status = 202, description = "the message was taken"), (status = 404, description = "there is no such stream of this key")))]
pub(crate) async fn whole_messages(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    feed(&app, &caller, Scope::Whole, request).await
}

/// The same under the older base path.
#[utoipa::path(post, path = "/api/v1/mcp/messages", tag = "mcp", request_body = serde_json::Value,
    params(("sessionId" = String, Query, description = "as the stream's first event said")),
    responses((status = 202, description = "the message was taken"), (status = 404, description = "there is no such stream of this key")))]
pub(crate) async fn older_messages(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    feed(&app, &caller, Scope::Whole, request).await
}

/// The same for one server by itself.
#[utoipa::path(post, path = "/servers/{name}/mcp/messages", tag = "mcp", request_body = serde_json::Value,
    params(("name" = String, Path, description = "an upstream, or `forebay` for the built-in tools"),
        ("sessionId" = String, Query, description = "as the stream's first event said")),
    responses((status = 202, description = "the message was taken"), (status = 404, description = "there is no such stream of this key")))]
pub(crate) async fn server_messages(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    feed(&app, &caller, Scope::Server(name.into()), request).await
}

fn open(app: &App, caller: &Caller, scope: Scope, uri: &Uri, headers: &HeaderMap) -> Response {
    try_open(app, caller, scope, uri, headers)
        .unwrap_or_else(|failure| errors::respond(Dialect::Mcp, &failure, caller.trace))
}

fn try_open(app: &App, caller: &Caller, scope: Scope, uri: &Uri, headers: &HeaderMap) -> Result<Response, Failure> {
    let berth = app.pipes.reserve(&caller.principal, &app.entropy)?;
    let endpoint = endpoint(&base_url(app, headers), uri.path(), berth.id());
    let (handle, reply) = app
        .front
        .pair(&endpoint, caller.principal.clone(), scope.clone(), caller.trace)?;
    berth.take_posts(handle, scope);
    // The place is free again when the stream has ended, whoever ended it.
    Ok(answer(reply).map(|body| {
        Body::from_stream(body.into_data_stream().map(move |piece| {
            let _held = &berth;
            piece
        }))
    }))
}

/// Where to post: beside the stream, on whatever origin its client found that. A path below which a proxy serves us is
/// part of it.
fn endpoint(base: &str, path: &str, id: &str) -> String {
    let below = Url::parse(base).map(|url| url.path().trim_end_matches('/').to_owned());
    let beside = path.strip_suffix("/sse").unwrap_or(path);
    format!("{}{beside}/messages?{SESSION_ID}={id}", below.unwrap_or_default())
}

async fn feed(app: &App, caller: &Caller, scope: Scope, request: Request) -> Response {
    match try_feed(app, caller, &scope, request).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(failure) => errors::respond(Dialect::Mcp, &failure, caller.trace),
    }
}

async fn try_feed(app: &App, caller: &Caller, scope: &Scope, request: Request) -> Result<(), Failure> {
    let id = session_id(request.uri()).ok_or_else(|| {
        let message = format!("The parameter `{SESSION_ID}` is missing.");
        Failure::new(Code::InvalidRequest, message).hint("Post to where the stream's first event says.")
    })?;
    let handle = app.pipes.find(&id, &caller.principal, scope)?;
    let (headers, bytes) = read(app, request).await?;
    require_json(&headers)?;
    handle.receive(bytes).await
}

fn session_id(uri: &Uri) -> Option<String> {
    let mut pairs = form_urlencoded::parse(uri.query()?.as_bytes());
    pairs
        .find(|(name, _)| name == SESSION_ID)
        .map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_stands_beside_the_stream_on_the_same_origin() {
        for (base, path, expected) in [
            ("http://127.0.0.1:1", "/mcp/sse", "/mcp/messages?sessionId=7"),
            (
                "https://ai.example",
                "/api/v1/mcp/sse",
                "/api/v1/mcp/messages?sessionId=7",
            ),
            (
                "https://ai.example/gate",
                "/servers/a%20b/mcp/sse",
                "/gate/servers/a%20b/mcp/messages?sessionId=7",
            ),
        ] {
            assert_eq!(endpoint(base, path, "7"), expected);
        }
    }
}
