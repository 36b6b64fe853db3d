//! `POST /api/v1/upstreams/{name}/forget`: what was approved of it counts no longer.

use crate::{app::App, door::Caller, http::ApiError};
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use forebay_api::UpstreamForgotten;
use std::sync::Arc;

/// Forgets what was decided about an upstream's definitions, which are new from then on. It may be gone already.
#[utoipa::path(post, path = "/api/v1/upstreams/{name}/forget", tag = "upstreams",
    params(("name" = String, Path, description = "the upstream's name, also of one that was removed")),
    responses((status = 200, body = UpstreamForgotten), (status = 404, body = forebay_api::Problem)))]
pub(crate) async fn forget(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<UpstreamForgotten>, ApiError> {
    let forgotten = app.upstreams.forget(&name).await;
    let forgotten = forgotten.map_err(|failure| caller.problem(failure))?;
    Ok(Json(UpstreamForgotten { name, forgotten }))
}
