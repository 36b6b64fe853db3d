//! The nodes of a context: added and removed without asking the model.

use super::answer::Manner;
use crate::{
    app::App,
    contexts::work::Shown,
    door::Caller,
    http::{ApiError, body, page},
};
use axum::{
    Extension,
    extract::{Path, State},
    response::Response,
};
use forebay_api::{ContextNodeAdd, ContextNodeAdded, ContextNodeDeleted, Problem, TaskInfo, WaitQuery};
use forebay_domain::Failure;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;

/// Adds a node to a context.
#[utoipa::path(post, path = "/api/v1/mcp/contexts/{id}/nodes", operation_id = "add_node", tag = "contexts",
    request_body = ContextNodeAdd, params(("id" = String, Path, description = "the context's id"), WaitQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "the same key does the same once"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`, or `wait=` and seconds")),
    responses((status = 201, body = ContextNodeAdded), (status = 202, description = "it is still being added", body = TaskInfo),
        (status = 404, body = Problem), (status = 409, description = "the context is full", body = Problem),
        (status = 429, description = "too many requests, or too many tasks wait", body = Problem),
        (status = 507, description = "the disk is full", body = Problem)))]
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    page::Query(query): page::Query<WaitQuery>,
    headers: HeaderMap,
    body::Json(wish): body::Json<ContextNodeAdd>,
) -> Result<Response, ApiError> {
    let added = async {
        let manner = Manner::of(&app, &caller, &headers, query.wait.as_deref())?;
        let asked = manner.asked();
        let task = app.contexts.add_node(&caller.principal, &id, &wish, &asked).await?;
        let shown = Shown::context(wish.return_context);
        manner
            .have_done(&app, &caller, (task, shown), StatusCode::CREATED)
            .await
    };
    added.await.map_err(|failure: Failure| caller.problem(failure))
}

/// Takes a node out of a context.
#[utoipa::path(delete, path = "/api/v1/mcp/contexts/{id}/nodes/{node}", operation_id = "delete_node", tag = "contexts",
    params(("id" = String, Path, description = "the context's id"), ("node" = String, Path, description = "the node's id"),
        WaitQuery, ("Idempotency-Key" = Option<String>, Header, description = "the same key does the same once"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`, or `wait=` and seconds")),
    responses((status = 200, body = ContextNodeDeleted), (status = 202, description = "it is still being removed", body = TaskInfo),
        (status = 404, body = Problem), (status = 429, description = "too many requests, or too many tasks wait", body = Problem),
        (status = 507, description = "the disk is full", body = Problem)))]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((id, node)): Path<(String, String)>,
    page::Query(query): page::Query<WaitQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let removed = async {
        let manner = Manner::of(&app, &caller, &headers, query.wait.as_deref())?;
        let asked = manner.asked();
        let task = app.contexts.delete_node(&caller.principal, &id, &node, &asked).await?;
        manner
            .have_done(&app, &caller, (task, Shown::Change), StatusCode::OK)
            .await
    };
    removed.await.map_err(|failure: Failure| caller.problem(failure))
}
