//! Metrics in Prometheus' text form. The gateway's metrics know no tenants; who may read them reads all.

use crate::app::App;
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::header;
use std::sync::Arc;

/// All metrics of this process.
#[utoipa::path(get, path = "/metrics", tag = "telling",
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let kind = forebay_runtime::metrics::CONTENT_TYPE;
    ([(header::CONTENT_TYPE, kind)], app.metrics.encode()).into_response()
}
