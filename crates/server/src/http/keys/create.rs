//! `POST /api/v1/keys`: makes a key and shows it, this once.

use crate::{
    app::App,
    door::{Caller, named::Unkept},
    http::{ApiError, body},
};
use axum::{Extension, extract::State};
use forebay_api::{KeyCreate, KeyCreated};
use forebay_domain::{
    Code, Failure,
    id::{ProjectId, SubjectId, TenantId},
    key::ApiKey,
};
use forebay_store::keys::NewKey;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::{fmt::Display, sync::Arc};

const GRANTS_MAX: usize = 100;
const SHOWN_MAX: usize = 100;
/// Ten years. A key that shall live longer has no end.
const EXPIRES_IN_S_MAX: u64 = 315_576_000;

/// Makes an API key. The answer is the only place where it ever stands.
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys", request_body = KeyCreate,
    responses((status = 201, body = KeyCreated), (status = 400, body = forebay_api::Problem)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body::Json(wanted): body::Json<KeyCreate>,
) -> Result<(StatusCode, Extension<Unkept>, axum::Json<KeyCreated>), ApiError> {
    let key = ApiKey::from_entropy(app.entropy.bytes(), app.entropy.bytes());
    let new = parse(&wanted, &key, &caller, app.clock.now()).map_err(|failure| caller.problem(failure))?;
    app.store
        .keys()
        .create(&new)
        .await
        .map_err(|error| caller.problem(error))?;
    let created = KeyCreated {
        id: new.id.to_string(),
        key: key.reveal(),
        tenant: new.tenant.to_string(),
        project: new.project.as_ref().map(ToString::to_string),
        name: new.subject.to_string(),
        role: new.role.to_string(),
        grants: new.grants.iter().map(ToString::to_string).collect(),
        shown: new.shown.iter().map(ToString::to_string).collect(),
        created_at: new.created_at,
        expires_at: new.expires_at,
    };
    Ok((StatusCode::CREATED, Extension(Unkept), axum::Json(created)))
}

fn parse(wanted: &KeyCreate, key: &ApiKey, caller: &Caller, now: Timestamp) -> Result<NewKey, Failure> {
    let maker = &caller.principal;
    let tenant = match &wanted.tenant {
        Some(name) => TenantId::try_from(name.as_str()).map_err(|fault| unfit("tenant", &fault))?,
        None => maker.tenant.clone(),
    };
    let role = wanted.role.parse().map_err(|fault| unfit("role", &fault))?;
    if wanted.grants.len() > GRANTS_MAX {
        return Err(unfit("grants", &format!("at most {GRANTS_MAX} are possible")));
    }
    let grants = wanted
        .grants
        .iter()
        .map(|grant| grant.parse().map_err(|fault| unfit("grants", &fault)));
    if wanted.shown.len() > SHOWN_MAX {
        return Err(unfit("shown", &format!("at most {SHOWN_MAX} are possible")));
    }
    let shown = wanted
        .shown
        .iter()
        .map(|pattern| pattern.parse().map_err(|fault| unfit("shown", &fault)));
    let expires_at = match wanted.expires_in_s {
        None => None,
        Some(seconds @ 1..=EXPIRES_IN_S_MAX) => {
            Some(now + SignedDuration::from_secs(i64::try_from(seconds).expect("ten years fit")))
        }
        Some(_) => return Err(unfit("expires_in_s", &format!("it must be 1 to {EXPIRES_IN_S_MAX}"))),
    };
    Ok(NewKey {
        id: key.id().clone(),
        hash: key.hash(),
        tenant,
        project: wanted
            .project
            .as_deref()
            .map(ProjectId::try_from)
            .transpose()
            .map_err(|f| unfit("project", &f))?,
        subject: SubjectId::try_from(wanted.name.as_str()).map_err(|fault| unfit("name", &fault))?,
        role,
        grants: grants.collect::<Result<_, _>>()?,
        shown: shown.collect::<Result<_, _>>()?,
        created_at: now,
        created_by: Some(maker.subject.clone()),
        expires_at,
    })
}

fn unfit(field: &str, why: &dyn Display) -> Failure {
    Failure::new(Code::InvalidRequest, format!("`{field}`: {why}.")).details(json!({"field": field}))
}
