//! `GET /api/v1/upstreams/{name}`: one of them, with what waits for a decision.

use super::info;
use crate::{app::App, door::Caller, http::ApiError};
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use forebay_api::{UpstreamDetail, UpstreamLogLine, WaitingDefinition};
use forebay_domain::quarantine::render;
use forebay_mcp::upstream::{UpstreamConfig, Waiting};
use serde_json::{Value, json};
use std::sync::Arc;

/// What stands for a value that is not shown.
const HIDDEN: &str = "…";

/// One upstream: how it is, its configuration, what waits for a decision, and what its command last said.
#[utoipa::path(get, path = "/api/v1/upstreams/{name}", tag = "upstreams",
    params(("name" = String, Path, description = "the upstream's name")),
    responses((status = 200, body = UpstreamDetail), (status = 404, body = forebay_api::Problem)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<UpstreamDetail>, ApiError> {
    let detail = app.upstreams.show(&name).await;
    let detail = detail.map_err(|failure| caller.problem(failure))?;
    Ok(Json(UpstreamDetail {
        upstream: info(&detail.status),
        config: config(&detail.config, &detail.status.place),
        tools: app.catalogue.tools_of(&name),
        waiting: detail.waiting.iter().map(waiting).collect(),
        log: detail
            .logs
            .into_iter()
            .map(|line| UpstreamLogLine {
                at: line.at,
                text: line.text,
            })
            .collect(),
    }))
}

fn waiting(waiting: &Waiting) -> WaitingDefinition {
    WaitingDefinition {
        kind: waiting.kind.as_str().to_owned(),
        name: waiting.name.clone(),
        why: waiting.why.clone(),
        flags: waiting.flags.clone(),
        since: waiting.since,
        fingerprint: waiting.fingerprint.to_string(),
        difference: render(&waiting.changes),
        approved: waiting.approved.clone(),
        held: waiting.held.clone(),
    }
}

/// The configuration for people. Secrets are references anyway; arguments, variables, headers and the query of a URL
/// may hold one all the same, so of those only the names are shown.
fn config(config: &UpstreamConfig, place: &str) -> Value {
    let mut shown = serde_json::to_value(config).expect("a configuration is plain data with text keys");
    if let Some(Value::Array(args)) = shown.get_mut("args") {
        args.fill(json!(HIDDEN));
    }
    for key in ["env", "headers"] {
        if let Some(Value::Object(values)) = shown.get_mut(key) {
            values
                .values_mut()
                .filter(|value| value.is_string())
                .for_each(|value| *value = json!(HIDDEN));
        }
    }
    if config.url.is_some() {
        shown["url"] = json!(place);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_could_be_a_secret_is_shown() {
        let written = json!({
            "command": "npx", "args": ["--token=canary"], "timeout_s": 5,
            "env": {"A": "canary", "B": {"env": "B_TOKEN"}},
        });
        let parsed: UpstreamConfig = serde_json::from_value(written).unwrap();
        assert_eq!(
            config(&parsed, "npx"),
            json!({"command": "npx", "args": ["…"], "timeout_s": 5, "env": {"A": "…", "B": {"env": "B_TOKEN"}}})
        );
        let written = json!({"url": "https://a/mcp?key=canary", "headers": {"x-a": "canary"},
            "auth": {"bearer": {"env": "TOKEN"}}});
        let parsed: UpstreamConfig = serde_json::from_value(written).unwrap();
        assert_eq!(
            config(&parsed, "https://a/mcp"),
            json!({"url": "https://a/mcp", "headers": {"x-a": "…"}, "auth": {"bearer": {"env": "TOKEN"}}})
        );
    }
}
