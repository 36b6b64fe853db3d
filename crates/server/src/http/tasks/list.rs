//! `GET /api/v1/mcp/tasks`: the tasks that the caller may see, newest first.

use super::view;
use crate::{
    app::App,
    door::Caller,
    http::{ApiError, page},
};
use axum::{Extension, Json, extract::State};
use forebay_api::{TaskList, TaskQuery as WireQuery};
use forebay_domain::{
    Code, Failure, Principal,
    task::{State as TaskState, TaskId, TaskType},
};
use forebay_store::queue::{TASKS_PAGE_MAX, TaskQuery};
use forebay_work::scope;
use std::sync::Arc;

/// Lists tasks, newest first: one's own, for operators those of their tenant, for administrators all.
#[utoipa::path(get, path = "/api/v1/mcp/tasks", tag = "tasks", params(WireQuery),
    responses((status = 200, body = TaskList)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    page::Query(query): page::Query<WireQuery>,
) -> Result<Json<TaskList>, ApiError> {
    let listed = page(&app, &caller.principal, &query).await;
    listed.map(Json).map_err(|failure| caller.problem(failure))
}

/// One page of the tasks that somebody may see.
pub(crate) async fn page(app: &App, principal: &Principal, query: &WireQuery) -> Result<TaskList, Failure> {
    let page = app.work.queue().list(&read(principal, query)?).await?;
    Ok(TaskList {
        tasks: page.tasks.iter().map(|task| view::task(task, principal)).collect(),
        next_cursor: page.next.map(|next| next.to_string()),
    })
}

fn read(principal: &Principal, query: &WireQuery) -> Result<TaskQuery, Failure> {
    let state = query.status.as_deref().map(|word| {
        TaskState::parse(word).ok_or_else(|| {
            let states = TaskState::ALL.map(TaskState::as_str).join("`, `");
            Failure::new(Code::InvalidRequest, format!("`status` is one of `{states}`."))
        })
    });
    Ok(TaskQuery {
        scope: scope(principal),
        state: state.transpose()?,
        task_type: page::id::<TaskType>(query.kind.as_deref(), "type")?,
        context_id: None,
        after: page::id::<TaskId>(query.cursor.as_deref(), "cursor")?,
        limit: page::limit(query.limit).min(TASKS_PAGE_MAX),
    })
}
