//! `GET /api/v1/keys`: the keys there are, never their secrets.

use super::info;
use crate::{
    app::App,
    door::Caller,
    http::{ApiError, page},
};
use axum::{Extension, Json, extract::State};
use forebay_api::{KeyList, KeyQuery};
use forebay_store::keys::{KEYS_PAGE_MAX, KeyFilter};
use std::sync::Arc;

/// Lists API keys, newest last.
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys", params(KeyQuery), responses((status = 200, body = KeyList)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    page::Query(query): page::Query<KeyQuery>,
) -> Result<Json<KeyList>, ApiError> {
    let filter = KeyFilter {
        tenant: page::id(query.tenant.as_deref(), "tenant").map_err(|failure| caller.problem(failure))?,
        after: page::id(query.after.as_deref(), "after").map_err(|failure| caller.problem(failure))?,
        limit: page::limit(query.limit).min(KEYS_PAGE_MAX),
    };
    let found = app
        .store
        .keys()
        .list(&filter)
        .await
        .map_err(|error| caller.problem(error))?;
    let full = found.len() >= filter.limit as usize;
    let next = found.last().filter(|_| full).map(|key| key.id.to_string());
    Ok(Json(KeyList {
        keys: found.iter().map(info).collect(),
        next,
    }))
}
