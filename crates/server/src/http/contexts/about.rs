//! How it is with contexts: whether they can be worked with, and for which models.

use crate::{app::App, door::Caller, http::ApiError};
use axum::{Extension, Json, extract::State};
use forebay_api::{ContextHealth, ContextModel, ContextModelList};
use forebay_domain::{port::AskModel, task::State as TaskState};
use std::sync::Arc;

/// Whether contexts can be worked with, and how much waits, as it was counted a few seconds ago.
#[utoipa::path(get, path = "/api/v1/mcp/health", operation_id = "contexts_health", tag = "contexts",
    responses((status = 200, body = ContextHealth), (status = 503, body = forebay_api::Problem)))]
pub(crate) async fn health(State(app): State<Arc<App>>) -> Json<ContextHealth> {
    let depths = app.work.depths();
    let of = |state: TaskState| depths.iter().filter(move |depth| depth.state == state);
    let oldest = of(TaskState::Pending).map(|depth| depth.oldest).min();
    let waited = oldest.map(|oldest| app.clock.now().duration_since(oldest).as_secs());
    Json(ContextHealth {
        status: standing(&app).to_owned(),
        queue_depth: of(TaskState::Pending).map(|depth| u64::from(depth.count)).sum(),
        oldest_wait_s: waited.and_then(|seconds| u64::try_from(seconds).ok()),
        running: of(TaskState::Running).map(|depth| u64::from(depth.count)).sum(),
    })
}

/// What keeps contexts from being worked with, the first of it.
fn standing(app: &App) -> &'static str {
    if app.contexts.open().is_err() {
        "disabled"
    } else if app.store.events().is_full() {
        "store_full"
    } else if app.work.is_worked_on() {
        "ok"
    } else {
        "no_workers"
    }
}

/// The models that the caller may ask.
#[utoipa::path(get, path = "/api/v1/mcp/models", operation_id = "contexts_models", tag = "contexts",
    responses((status = 200, body = ContextModelList),
        (status = 409, description = "`mcp.enabled` is false", body = forebay_api::Problem)))]
pub(crate) async fn models(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<ContextModelList>, ApiError> {
    app.contexts.open().map_err(|failure| caller.problem(failure))?;
    let models = app.models.models(&caller.principal).into_iter();
    Ok(Json(ContextModelList {
        models: models.map(|model| ContextModel { id: model.name }).collect(),
    }))
}
