//! `POST /api/v1/mcp/tasks/{id}/cancel`: what waits will not begin, and what runs is asked to end.

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

/// Cancels a task. One that runs is asked to end, and still says `running` until it has. Cancelling it again changes
/// nothing.
#[utoipa::path(post, path = "/api/v1/mcp/tasks/{id}/cancel", tag = "tasks",
    params(("id" = String, Path, description = "the task's id")),
    responses((status = 200, body = TaskInfo), (status = 404, body = forebay_api::Problem),
        (status = 409, description = "it is over", body = forebay_api::Problem)))]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<TaskInfo>, ApiError> {
    let cancelled = async {
        let task = app.work.cancel(&scope(&caller.principal), &id(&name)?).await?;
        Ok(view::task(&task, &caller.principal))
    };
    let cancelled: Result<_, Failure> = cancelled.await;
    cancelled.map(Json).map_err(|failure| caller.problem(failure))
}
