//! Contexts: made, listed, shown, removed.

use super::answer::Manner;
use crate::{
    app::App,
    contexts::work::Shown,
    door::Caller,
    http::{ApiError, body, page},
};
use axum::{
    Extension, Json,
    extract::{Path, State},
    response::Response,
};
use forebay_api::{
    ContextCreate, ContextDeleted, ContextInfo, ContextList, ContextQuery, Problem, TaskInfo, WaitQuery,
};
use forebay_domain::Failure;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;

/// Makes a context. With an `Idempotency-Key` it is made once, however often it is sent.
#[utoipa::path(post, path = "/api/v1/mcp/contexts", operation_id = "create_context", tag = "contexts",
    request_body = ContextCreate, params(WaitQuery, ("Idempotency-Key" = Option<String>, Header, description = "the same key does the same once"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`, or `wait=` and seconds")),
    responses((status = 201, body = ContextInfo), (status = 202, description = "it is still being made", body = TaskInfo),
        (status = 404, description = "there is no such model", body = Problem),
        (status = 409, description = "there are as many as there may be", body = Problem),
        (status = 429, description = "too many requests, or too many tasks wait", body = Problem),
        (status = 507, description = "the disk is full", body = Problem)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    page::Query(query): page::Query<WaitQuery>,
    headers: HeaderMap,
    body::Json(wish): body::Json<ContextCreate>,
) -> Result<Response, ApiError> {
    let made = async {
        let manner = Manner::of(&app, &caller, &headers, query.wait.as_deref())?;
        let task = app.contexts.create(&caller.principal, &wish, &manner.asked()).await?;
        let shown = Shown::nodes(wish.return_context);
        manner
            .have_done(&app, &caller, (task, shown), StatusCode::CREATED)
            .await
    };
    made.await.map_err(|failure: Failure| caller.problem(failure))
}

/// The caller's contexts without their nodes, the newest first.
#[utoipa::path(get, path = "/api/v1/mcp/contexts", operation_id = "list_contexts", tag = "contexts", params(ContextQuery),
    responses((status = 200, body = ContextList)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    page::Query(query): page::Query<ContextQuery>,
) -> Result<Json<ContextList>, ApiError> {
    let listed = app
        .contexts
        .list(&caller.principal, query.limit, query.cursor.as_deref());
    listed.await.map(Json).map_err(|failure| caller.problem(failure))
}

/// One context with its nodes, in their order.
#[utoipa::path(get, path = "/api/v1/mcp/contexts/{id}", operation_id = "get_context", tag = "contexts",
    params(("id" = String, Path, description = "the context's id")),
    responses((status = 200, body = ContextInfo), (status = 404, body = Problem)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<ContextInfo>, ApiError> {
    let found = app.contexts.get(&caller.principal, &id).await;
    found.map(Json).map_err(|failure| caller.problem(failure))
}

/// Removes a context with all its nodes.
#[utoipa::path(delete, path = "/api/v1/mcp/contexts/{id}", operation_id = "delete_context", tag = "contexts",
    params(("id" = String, Path, description = "the context's id"), WaitQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "the same key does the same once"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`, or `wait=` and seconds")),
    responses((status = 200, body = ContextDeleted), (status = 202, description = "it is still being removed", body = TaskInfo),
        (status = 404, body = Problem), (status = 429, description = "too many requests, or too many tasks wait", body = Problem),
        (status = 507, description = "the disk is full", body = Problem)))]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    page::Query(query): page::Query<WaitQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let removed = async {
        let manner = Manner::of(&app, &caller, &headers, query.wait.as_deref())?;
        let task = app.contexts.delete(&caller.principal, &id, &manner.asked()).await?;
        manner
            .have_done(&app, &caller, (task, Shown::Change), StatusCode::OK)
            .await
    };
    removed.await.map_err(|failure: Failure| caller.problem(failure))
}
