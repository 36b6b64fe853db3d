//! Why a request to a model would go where it would.

use crate::{
    app::App,
    door::Caller,
    http::{ApiError, page},
};
use axum::{Extension, Json, extract::State};
use forebay_api::{RouteBackend, RouteExplanation, RouteQuery, RouteStep};
use forebay_domain::Action;
use forebay_llm::BackendWhy;
use std::sync::Arc;

/// Explains where a request to this model would go now, and why. Backends are told by their position, to operators by
/// their address too.
#[utoipa::path(get, path = "/api/v1/explain/route", tag = "telling", params(RouteQuery),
    responses((status = 200, body = RouteExplanation), (status = 404, body = forebay_api::Problem)))]
pub(crate) async fn route(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    page::Query(query): page::Query<RouteQuery>,
) -> Result<Json<RouteExplanation>, ApiError> {
    let why = app
        .models
        .explain_route(&caller.principal, &query.model, None)
        .map_err(|failure| caller.problem(failure))?;
    let sees_addresses = caller.principal.decide(&Action::UPSTREAMS_READ).is_allowed();
    let steps = why.steps.into_iter().map(|step| RouteStep {
        model: step.model,
        chosen: step.chosen,
        outcome: step.outcome,
        waiting: step.waiting,
        backends: step
            .backends
            .into_iter()
            .map(|why| backend(why, sees_addresses))
            .collect(),
    });
    Ok(Json(RouteExplanation {
        model: why.model,
        decision: why.decision,
        steps: steps.collect(),
    }))
}

fn backend(why: BackendWhy, sees_addresses: bool) -> RouteBackend {
    let BackendWhy { status, reason } = why;
    RouteBackend {
        backend: status.backend,
        url: sees_addresses.then_some(status.url),
        reason,
        state: status.state.to_owned(),
        since: status.since,
        until: status.until,
        engine: status.engine.map(str::to_owned),
        in_flight: status.in_flight,
        max_concurrency: status.max_concurrency,
        weight: status.weight,
        latency_ms: status
            .latency
            .map(|latency| u64::try_from(latency.as_millis()).unwrap_or(u64::MAX)),
        probed: status.is_probed,
        ejections: status.ejections,
        retries: status.retries,
    }
}
