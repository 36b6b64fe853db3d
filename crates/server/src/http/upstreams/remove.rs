//! `DELETE /api/v1/upstreams/{name}`: its connections end, and its tools go.

use crate::{app::App, door::Caller, http::ApiError};
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use forebay_api::UpstreamRef;
use std::sync::Arc;

/// Takes away an upstream that was registered at run time. What was approved of it stays known.
#[utoipa::path(delete, path = "/api/v1/upstreams/{name}", tag = "upstreams",
    params(("name" = String, Path, description = "the upstream's name")),
    responses((status = 200, body = UpstreamRef), (status = 404, body = forebay_api::Problem),
        (status = 409, body = forebay_api::Problem)))]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<UpstreamRef>, ApiError> {
    let removed = app.upstreams.remove(&name).await;
    removed.map_err(|failure| caller.problem(failure))?;
    Ok(Json(UpstreamRef { name }))
}
