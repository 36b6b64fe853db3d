//! What this gateway is and how it is, for people and for the tool `gateway_status`.

use crate::{app::App, door::Caller};
use axum::{Extension, Json, extract::State};
use forebay_api::Status;
use std::sync::Arc;

/// Version, uptime, store, models and configuration.
#[utoipa::path(get, path = "/api/v1/status", tag = "telling", responses((status = 200, body = Status)))]
pub(crate) async fn status(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Json<Status> {
    Json(app.status(&caller.principal))
}
