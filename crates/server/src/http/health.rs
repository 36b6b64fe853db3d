//! Health, for whoever watches the process. These routes ask nobody who they are and tell nothing worth hiding.

use crate::app::App;
use axum::{Json, extract::State, response::IntoResponse};
use forebay_api::Health;
use forebay_mcp::upstream::State as UpstreamState;
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Whether the gateway and what it stands on are well.
#[utoipa::path(get, path = "/health", tag = "health", security(()),
    responses((status = 200, body = Health), (status = 503, body = Health)))]
pub(crate) async fn health(State(app): State<Arc<App>>) -> impl IntoResponse {
    let well = is_ready(&app);
    let status = if well { "healthy" } else { "unavailable" };
    (
        code(well),
        Json(Health {
            status: status.to_owned(),
            version: crate::VERSION.to_owned(),
        }),
    )
}

/// Whether the process answers at all. A gateway whose database is gone is alive; restarting it would not help.
#[utoipa::path(get, path = "/livez", tag = "health", security(()), responses((status = 200, body = String)))]
pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

/// Whether it serves: the database answers, and it was not asked to stop.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, body = String), (status = 503, body = String)))]
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    match (app.tasks.stop().is_draining(), app.store.events().is_healthy()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n"),
        (false, true) => (StatusCode::OK, "ok\n"),
    }
}

/// The health of the MCP side with each of its servers, and of the OpenAI side, in the form that test suites of other gateways read.
#[utoipa::path(get, path = "/mcp/health", tag = "health", security(()),
    responses((status = 200, body = serde_json::Value), (status = 503, body = serde_json::Value)))]
pub(crate) async fn mcp_health(State(app): State<Arc<App>>) -> impl IntoResponse {
    let well = is_ready(&app);
    let word = if well { "healthy" } else { "unavailable" };
    let (servers, all_well) = servers(&app, word);
    let mcp = if well && !all_well { "degraded" } else { word };
    let body = json!({
        "status": mcp,
        "mcp": { "status": mcp, "servers": servers },
        "openai": { "status": word },
    });
    (code(well), Json(body))
}

/// The built-in server and every upstream with its state, and whether all upstreams are well. Anybody may read this, so
/// it says neither where they are nor what is wrong with them.
fn servers(app: &App, own: &str) -> (Map<String, Value>, bool) {
    let mut servers = Map::new();
    let mut all_well = true;
    for status in app.upstreams.list() {
        let word = match status.state {
            UpstreamState::Ready => "healthy",
            UpstreamState::Connecting => "connecting",
            UpstreamState::Unavailable => "unavailable",
            UpstreamState::Disabled => "disabled",
        };
        all_well &= matches!(status.state, UpstreamState::Ready | UpstreamState::Disabled);
        servers.insert(status.name, json!({ "status": word }));
    }
    servers.insert("forebay".to_owned(), json!({ "status": own }));
    (servers, all_well)
}

fn is_ready(app: &App) -> bool {
    !app.tasks.stop().is_draining() && app.store.events().is_healthy()
}

fn code(well: bool) -> StatusCode {
    if well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}
