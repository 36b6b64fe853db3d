//! `POST /api/v1/upstreams/{name}/refresh`: look at it again, now.

use crate::{app::App, door::Caller, http::ApiError};
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use forebay_api::UpstreamRef;
use http::StatusCode;
use std::sync::Arc;

/// Has an upstream listed again, or reached again if it was away. That happens in the background.
#[utoipa::path(post, path = "/api/v1/upstreams/{name}/refresh", tag = "upstreams",
    params(("name" = String, Path, description = "the upstream's name")),
    responses((status = 202, body = UpstreamRef), (status = 404, body = forebay_api::Problem)))]
pub(crate) async fn refresh(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<UpstreamRef>), ApiError> {
    app.upstreams
        .refresh(&name)
        .map_err(|failure| caller.problem(failure))?;
    Ok((StatusCode::ACCEPTED, Json(UpstreamRef { name })))
}
