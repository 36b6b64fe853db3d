//! `GET /api/v1/upstreams`: all of them, and how each is.

use super::info;
use crate::app::App;
use axum::{Json, extract::State};
use forebay_api::UpstreamList;
use std::sync::Arc;

/// The upstream MCP servers.
#[utoipa::path(get, path = "/api/v1/upstreams", tag = "upstreams", responses((status = 200, body = UpstreamList)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<UpstreamList> {
    Json(UpstreamList {
        upstreams: app.upstreams.list().iter().map(info).collect(),
    })
}
