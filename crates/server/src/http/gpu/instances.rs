//! The machines that somebody has: rent, look, keep longer, destroy.

use crate::{
    app::App,
    door::Caller,
    gpu::{longer, view},
    http::{ApiError, body, page},
};
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use forebay_api::{
    GpuCreate, GpuCreated, GpuExtend, GpuExtended, GpuInstance, GpuInstanceList, GpuInstanceQuery, GpuLog, GpuLogQuery,
};
use forebay_compute::rental::{CreateOutcome, Whose};
use forebay_domain::{Failure, event::Surface};
use http::{HeaderMap, StatusCode};
use std::sync::Arc;

const LOG_LINES_DEFAULT: u32 = 100;

/// The rental knows the name too: also where the answer was lost, a second request makes no second machine, and gives no
/// more time.
fn key_of(headers: &HeaderMap) -> Option<String> {
    let key = headers.get("idempotency-key")?;
    key.to_str().ok().map(str::to_owned)
}

/// Rents a machine, as the limits allow. With an `Idempotency-Key` it is rented once, however often it is sent.
#[utoipa::path(post, path = "/api/v1/gpu/instances", tag = "machines", request_body = GpuCreate,
    responses((status = 201, body = GpuCreated), (status = 200, description = "a dry run", body = GpuCreated),
        (status = 202, description = "somebody has to agree to the quote first", body = GpuCreated),
        (status = 402, body = forebay_api::Problem), (status = 409, body = forebay_api::Problem)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body::Json(wish): body::Json<GpuCreate>,
) -> Result<(StatusCode, Json<GpuCreated>), ApiError> {
    let rented = async {
        let request = view::create_request(&wish, key_of(&headers), (Surface::Api, caller.trace))?;
        let outcome = app.rentals.create(&caller.principal, request).await?;
        let status = match outcome {
            CreateOutcome::Rented(_) => StatusCode::CREATED,
            CreateOutcome::DryRun(_) => StatusCode::OK,
            CreateOutcome::NeedsApproval(_) => StatusCode::ACCEPTED,
        };
        Ok((status, Json(view::created(&outcome))))
    };
    let rented: Result<_, Failure> = rented.await;
    rented.map_err(|failure| caller.problem(failure))
}

/// The newest machines: the caller's own, for operators and administrators also those of others.
#[utoipa::path(get, path = "/api/v1/gpu/instances", tag = "machines", params(GpuInstanceQuery),
    responses((status = 200, body = GpuInstanceList)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    page::Query(query): page::Query<GpuInstanceQuery>,
) -> Result<Json<GpuInstanceList>, ApiError> {
    let whose = if query.all { Whose::All } else { Whose::Mine };
    let listed = app.rentals.list(&caller.principal, whose, !query.ended).await;
    let listed = listed.map_err(|failure| caller.problem(failure))?;
    Ok(Json(GpuInstanceList {
        instances: listed.iter().map(view::instance).collect(),
    }))
}

/// One machine.
#[utoipa::path(get, path = "/api/v1/gpu/instances/{id}", tag = "machines",
    params(("id" = String, Path, description = "our id of it, or the provider's")),
    responses((status = 200, body = GpuInstance), (status = 404, body = forebay_api::Problem)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<GpuInstance>, ApiError> {
    let found = app.rentals.find(&caller.principal, None, &id).await;
    let found = found.map_err(|failure| caller.problem(failure))?;
    Ok(Json(view::instance(&found)))
}

/// Ends a machine and what it costs. It is asked of the provider until it is gone.
#[utoipa::path(delete, path = "/api/v1/gpu/instances/{id}", tag = "machines",
    params(("id" = String, Path, description = "our id of it, the provider's, or that of its offer")),
    responses((status = 200, body = GpuInstance), (status = 404, body = forebay_api::Problem)))]
pub(crate) async fn destroy(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<GpuInstance>, ApiError> {
    let ended = async {
        let found = app.rentals.find(&caller.principal, None, &id).await?;
        app.rentals.destroy(&caller.principal, &found.id).await
    };
    let ended = ended.await.map_err(|failure| caller.problem(failure))?;
    Ok(Json(view::instance(&ended)))
}

/// Lets a machine live longer, or says what that would cost. With an `Idempotency-Key` it gives its time once, however often
/// it is sent.
#[utoipa::path(post, path = "/api/v1/gpu/instances/{id}/extend", tag = "machines", request_body = GpuExtend,
    params(("id" = String, Path, description = "our id of it, or the provider's")),
    responses((status = 200, description = "the machine; or, for a dry run, what it would cost", body = GpuExtended),
        (status = 402, body = forebay_api::Problem), (status = 404, body = forebay_api::Problem)))]
pub(crate) async fn extend(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body::Json(wish): body::Json<GpuExtend>,
) -> Result<Json<GpuExtended>, ApiError> {
    let wish = (&wish, key_of(&headers));
    let extended = longer::extend(&app.rentals, &caller.principal, &id, wish).await;
    extended.map(Json).map_err(|failure| caller.problem(failure))
}

/// The last lines of a machine's log.
#[utoipa::path(get, path = "/api/v1/gpu/instances/{id}/logs", tag = "machines",
    params(("id" = String, Path, description = "our id of it, or the provider's"), GpuLogQuery),
    responses((status = 200, body = GpuLog), (status = 404, body = forebay_api::Problem)))]
pub(crate) async fn logs(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    page::Query(query): page::Query<GpuLogQuery>,
) -> Result<Json<GpuLog>, ApiError> {
    let read = async {
        let found = app.rentals.find(&caller.principal, None, &id).await?;
        let lines = query.lines.unwrap_or(LOG_LINES_DEFAULT);
        let log = app.rentals.logs(&caller.principal, &found.id, lines).await?;
        Ok(GpuLog { id: found.id, log })
    };
    let read: Result<_, Failure> = read.await;
    read.map(Json).map_err(|failure| caller.problem(failure))
}
