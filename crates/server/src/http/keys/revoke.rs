//! `DELETE /api/v1/keys/{id}`: the key ends now, and with it whatever it holds open.

use super::info;
use crate::{app::App, door::Caller, http::ApiError};
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use forebay_api::KeyInfo;
use forebay_domain::{Code, Failure, id::KeyId};
use std::sync::Arc;

/// Revokes an API key and closes its sessions and streams. Revoking it again changes nothing.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "keys", params(("id" = String, Path, description = "the key's id")),
    responses((status = 200, body = KeyInfo), (status = 404, body = forebay_api::Problem)))]
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<KeyInfo>, ApiError> {
    let unknown = || {
        let failure = Failure::new(Code::UnknownKey, "There is no such key.").hint("`forebay key list` shows the ids.");
        caller.problem(failure)
    };
    let id = KeyId::try_from(id).map_err(|_| unknown())?;
    let keys = app.store.keys();
    if keys.find(&id).await.map_err(|error| caller.problem(error))?.is_none() {
        return Err(unknown());
    }
    keys.revoke(&id, app.clock.now())
        .await
        .map_err(|error| caller.problem(error))?;
    app.close_key(&id);
    let revoked = keys
        .find(&id)
        .await
        .map_err(|error| caller.problem(error))?
        .ok_or_else(unknown)?;
    Ok(Json(info(&revoked)))
}
