//! `GET /api/v1/spending`: how the limits stand that count for somebody.

use crate::{
    app::App,
    door::Caller,
    http::{ApiError, page},
    spending,
};
use axum::{Extension, Json, extract::State};
use forebay_api::{SpendingInfo, SpendingQuery};
use forebay_domain::{
    Action, Code, Failure,
    id::{KeyId, ProjectId, TenantId},
    ledger::Payer,
};
use serde_json::json;
use std::sync::Arc;

/// How all windows stand that count for the caller; for operators also those of others in their tenant.
#[utoipa::path(get, path = "/api/v1/spending", tag = "money", params(SpendingQuery),
    responses((status = 200, body = SpendingInfo), (status = 403, body = forebay_api::Problem)))]
pub(crate) async fn spending(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    page::Query(query): page::Query<SpendingQuery>,
) -> Result<Json<SpendingInfo>, ApiError> {
    let told = async {
        let payer = payer(&caller, &query)?;
        let amount = query.estimated_cost.as_deref().map(spending::amount).transpose();
        let amount = amount.map_err(|fault| {
            Failure::new(Code::InvalidRequest, format!("`estimated_cost`: {fault}."))
                .details(json!({"field": "estimated_cost"}))
        })?;
        let mut told = spending::of(&app, &payer).await?;
        if let Some(amount) = amount {
            told.check = Some(spending::check(&app, &payer, amount).await?);
        }
        Ok(told)
    };
    let told: Result<_, Failure> = told.await;
    told.map(Json).map_err(|failure| caller.problem(failure))
}

/// Whose spending is meant: the caller's own, or that of somebody else in a tenant that it may look into.
fn payer(caller: &Caller, query: &SpendingQuery) -> Result<Payer, Failure> {
    let own = Payer::from(&caller.principal);
    let SpendingQuery {
        tenant, project, key, ..
    } = query;
    if tenant.is_none() && project.is_none() && key.is_none() {
        return Ok(own);
    }
    caller.principal.require(&Action::SPENDING_OTHERS)?;
    let tenant: Option<TenantId> = page::id(tenant.as_deref(), "tenant")?;
    let tenant = tenant.unwrap_or(own.tenant);
    if !caller.principal.reaches(&tenant) {
        let message = format!("What tenant {tenant} spends is not yours to see.");
        return Err(Failure::new(Code::Forbidden, message).hint("Leave `tenant` out to see your own."));
    }
    Ok(Payer {
        tenant,
        project: page::id::<ProjectId>(project.as_deref(), "project")?,
        key: page::id::<KeyId>(key.as_deref(), "key")?,
        session: None,
        subject: None,
    })
}
