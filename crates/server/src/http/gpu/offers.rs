//! What is for rent, and what it would cost.

use crate::{
    app::App,
    door::Caller,
    gpu::view,
    http::{ApiError, body, page},
};
use axum::{Extension, Json, extract::State};
use forebay_api::{GpuCreate, GpuOfferList, GpuOfferQuery, GpuQuote};
use forebay_domain::Failure;
use http::StatusCode;
use std::sync::Arc;

/// Machines that can be rented now, from all providers, the cheapest first.
#[utoipa::path(get, path = "/api/v1/gpu/offers", tag = "machines", params(GpuOfferQuery),
    responses((status = 200, body = GpuOfferList), (status = 422, body = forebay_api::Problem)))]
pub(crate) async fn offers(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    page::Query(query): page::Query<GpuOfferQuery>,
) -> Result<Json<GpuOfferList>, ApiError> {
    let told = async {
        let provider = view::provider(query.provider.as_deref())?;
        let report = app.rentals.offers(&view::wanted(&query)?, provider).await;
        Ok(view::offers(&report))
    };
    let told: Result<_, Failure> = told.await;
    told.map(Json).map_err(|failure| caller.problem(failure))
}

/// Reads an offer anew, and promises its price for a while.
#[utoipa::path(post, path = "/api/v1/gpu/quotes", tag = "machines", request_body = GpuCreate,
    responses((status = 201, body = GpuQuote), (status = 404, body = forebay_api::Problem)))]
pub(crate) async fn quote(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body::Json(wish): body::Json<GpuCreate>,
) -> Result<(StatusCode, Json<GpuQuote>), ApiError> {
    let quoted = async {
        let request = view::quote_request(&wish)?;
        Ok(view::quote(&app.rentals.quote(&caller.principal, request).await?))
    };
    let quoted: Result<_, Failure> = quoted.await;
    quoted
        .map(|quote| (StatusCode::CREATED, Json(quote)))
        .map_err(|failure| caller.problem(failure))
}
