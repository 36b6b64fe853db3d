//! `GET /api/v1/mcp/tasks/{id}`: one task, now or at its end.

use super::{id, unknown, view};
use crate::{
    app::App,
    door::Caller,
    http::{ApiError, page, wait},
};
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use forebay_api::{TaskInfo, TaskShow};
use forebay_domain::Failure;
use forebay_store::queue::Body;
use forebay_work::scope;
use std::sync::Arc;

/// Shows a task. With `wait` it is answered once it is over, or as it is after that long. Its input and output are shown to
/// whoever submitted it.
#[utoipa::path(get, path = "/api/v1/mcp/tasks/{id}", tag = "tasks",
    params(("id" = String, Path, description = "the task's id"), TaskShow),
    responses((status = 200, body = TaskInfo), (status = 404, body = forebay_api::Problem)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    page::Query(query): page::Query<TaskShow>,
) -> Result<Json<TaskInfo>, ApiError> {
    let shown = async {
        let (id, scope) = (id(&name)?, scope(&caller.principal));
        let longest = query.wait.as_deref().map(wait::span).transpose()?;
        let mut found = match longest {
            Some(longest) => app.work.watch().wait(&scope, &id, longest).await?,
            None => None,
        };
        if found.is_none() || query.input {
            let body = if query.input { Body::Both } else { Body::Output };
            found = app.work.queue().get(&scope, &id, body).await?;
        }
        Ok(view::task(&found.ok_or_else(unknown)?, &caller.principal))
    };
    let shown: Result<_, Failure> = shown.await;
    shown.map(Json).map_err(|failure| caller.problem(failure))
}
