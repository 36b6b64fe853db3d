//! `POST /api/v1/mcp/tasks`: work is taken in, and done later.

use super::{PATH, view};
use crate::{
    app::App,
    door::{Caller, named::sent_name},
    http::{ApiError, body},
};
use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use forebay_api::{TaskCreate, TaskInfo};
use forebay_domain::{Code, Failure};
use forebay_store::queue::Body;
use forebay_work::scope;
use http::{HeaderMap, StatusCode, header};
use serde_json::json;
use std::sync::Arc;

/// Takes a task in. It is committed when this answers; with an idempotency key it is one task, however often it is sent.
#[utoipa::path(post, path = "/api/v1/mcp/tasks", tag = "tasks", request_body = TaskCreate,
    params(("idempotency-key" = Option<String>, Header, description = "the same key makes one task")),
    responses((status = 202, body = TaskInfo), (status = 400, body = forebay_api::Problem),
        (status = 422, description = "the key was used for another task", body = forebay_api::Problem)))]
pub(crate) async fn submit(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body::Json(wanted): body::Json<TaskCreate>,
) -> Result<Response, ApiError> {
    let task = take(&app, &caller, &headers, wanted).await;
    let task = task.map_err(|failure| caller.problem(failure))?;
    let place = [(header::LOCATION, format!("{PATH}/{}", task.id))];
    Ok((StatusCode::ACCEPTED, place, Json(task)).into_response())
}

async fn take(app: &App, caller: &Caller, headers: &HeaderMap, wanted: TaskCreate) -> Result<TaskInfo, Failure> {
    let name = match (sent_name(headers)?, wanted.idempotency_key.clone()) {
        (Some(sent), Some(written)) if sent != written => {
            let message = "`idempotency_key` and the header `Idempotency-Key` differ.";
            return Err(Failure::new(Code::InvalidRequest, message).details(json!({"field": "idempotency_key"})));
        }
        (sent, written) => sent.or(written),
    };
    // Where none is sent it is one without members: each type says what it lacks.
    let input = if wanted.input.is_null() {
        json!({})
    } else {
        wanted.input
    };
    let input = serde_json::to_vec(&input).expect("JSON was read from JSON");
    app.work.accept(&wanted.kind, &caller.principal, &input)?;
    let mut new = app
        .work
        .draft(&wanted.kind, &caller.principal, input.into(), caller.trace)?;
    new.priority = wanted.priority.map_or(new.priority, |priority| priority.0);
    new.run_at = wanted.run_at;
    new.idempotency_key = name;
    let new = app.work.ruled(new);
    let submitted = app.work.submit(new.clone()).await?;
    let found = app
        .work
        .queue()
        .get(&scope(&caller.principal), &submitted.id, Body::Output)
        .await;
    // It is taken in, whether or not it can be shown.
    Ok(match found {
        Ok(Some(task)) => view::task(&task, &caller.principal),
        Ok(None) | Err(_) => view::taken(&new, &submitted),
    })
}
