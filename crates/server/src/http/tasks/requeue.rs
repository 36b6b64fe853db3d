//! `POST /api/v1/mcp/tasks/{id}/requeue`: what failed for good is tried again.

use super::{id, view};
use crate::{app::App, door::Caller, http::ApiError};
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use forebay_api::TaskInfo;
use forebay_domain::Failure;
use forebay_work::scope;
use std::sync::Arc;

/// Queues a task that has failed again, with all its attempts.
#[utoipa::path(post, path = "/api/v1/mcp/tasks/{id}/requeue", tag = "tasks",
    params(("id" = String, Path, description = "the task's id")),
    responses((status = 200, body = TaskInfo), (status = 404, body = forebay_api::Problem),
        (status = 409, description = "it has not failed", body = forebay_api::Problem)))]
pub(crate) async fn requeue(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<TaskInfo>, ApiError> {
    let requeued = async {
        let task = app.work.requeue(&scope(&caller.principal), &id(&name)?).await?;
        Ok(view::task(&task, &caller.principal))
    };
    let requeued: Result<_, Failure> = requeued.await;
    requeued.map(Json).map_err(|failure| caller.problem(failure))
}
