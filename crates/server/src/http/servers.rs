//! `/servers/{name}/mcp`: one server by itself, under its own names. The same front with a narrower view; nobody may do
//! here what they may not do on `/mcp`.

use super::mcp::{answer, incoming, read};
use crate::{
    app::App,
    door::Caller,
    errors::{self, Dialect},
};
use axum::{
    Extension,
    extract::{Path, Request, State},
    response::Response,
};
use forebay_mcp::Scope;
use http::HeaderMap;
use std::sync::Arc;

/// Streamable HTTP to one server.
#[utoipa::path(post, path = "/servers/{name}/mcp", tag = "mcp", request_body = serde_json::Value,
    params(("name" = String, Path, description = "an upstream, or one of the gateway's own: `forebay`, `compose`, `contexts`, `gpu`, `tools`")),
    responses((status = 200, body = serde_json::Value), (status = 202, description = "a notification was taken"),
        (status = 404, description = "there is no such server")))]
pub(crate) async fn post(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    match read(&app, request).await {
        Ok((headers, bytes)) => answer(app.front.post(incoming(&headers, bytes, &caller, scope(&name))).await),
        Err(failure) => errors::respond(Dialect::Mcp, &failure, caller.trace),
    }
}

/// The stream of a legacy session on which the server speaks first.
#[utoipa::path(get, path = "/servers/{name}/mcp", tag = "mcp",
    params(("name" = String, Path, description = "an upstream, or one of the gateway's own: `forebay`, `compose`, `contexts`, `gpu`, `tools`")),
    responses((status = 200, body = String, content_type = "text/event-stream"), (status = 405, description = "2026-07-28 has no such stream")))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    answer(app.front.get(&headers, &caller.principal, &scope(&name)).await)
}

/// Ends a legacy session.
#[utoipa::path(delete, path = "/servers/{name}/mcp", tag = "mcp",
    params(("name" = String, Path, description = "an upstream, or one of the gateway's own: `forebay`, `compose`, `contexts`, `gpu`, `tools`")),
    responses((status = 204, description = "the session has ended")))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    answer(app.front.delete(&headers, &caller.principal, &scope(&name)).await)
}

fn scope(name: &str) -> Scope {
    Scope::Server(name.into())
}
