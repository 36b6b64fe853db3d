//! `/api/v1/spending`: how the limits stand that count for somebody, and what something would cost.

use crate::{
    app::App,
    door::Caller,
    http::{ApiError, body, page},
    spending,
};
use axum::{Extension, Json, extract::State};
use bytes::Bytes;
use forebay_api::{CostCheck, CostQuery, SpendingInfo, SpendingQuery};
use forebay_domain::{
    Action, Code, Failure,
    id::{KeyId, ProjectId, TenantId},
    ledger::Payer,
    model::{Endpoint, Hints, ModelRequest},
    money::Usd,
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

/// What a chat completion would cost at most each time that the model is asked, without what context, tools and former
/// answers add, or what a call of a tool costs, without what the tool spends by itself; and whether the limits would let it
/// in now. Nothing is asked, called or set aside.
#[utoipa::path(post, path = "/api/v1/spending/check", tag = "money", request_body = CostQuery,
    responses((status = 200, body = CostCheck), (status = 400, body = forebay_api::Problem),
        (status = 402, description = "a budget counts, and the model has no price", body = forebay_api::Problem),
        (status = 403, body = forebay_api::Problem), (status = 404, body = forebay_api::Problem)))]
pub(crate) async fn cost(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body::Json(query): body::Json<CostQuery>,
) -> Result<Json<CostCheck>, ApiError> {
    let checked = async {
        let (kind, name, most) = most(&app, &caller, query)?;
        // What is free is let in whatever the limits say, and so is everything where there are none.
        let check = match most.unwrap_or_default() {
            Usd::ZERO => None,
            most => Some(spending::check(&app, &Payer::from(&caller.principal), most).await?),
        };
        let (reason, warnings) = check.map_or_else(Default::default, |check| (check.reason, check.warnings));
        Ok(CostCheck {
            kind: kind.to_owned(),
            name,
            most_usd: most,
            allowed: reason.is_none(),
            reason,
            warnings,
        })
    };
    let checked: Result<_, Failure> = checked.await;
    checked.map(Json).map_err(|failure| caller.problem(failure))
}

/// What is meant, and what it comes to.
fn most(app: &App, caller: &Caller, query: CostQuery) -> Result<(&'static str, String, Option<Usd>), Failure> {
    match (query.request, query.tool) {
        (None, Some(tool)) => {
            let price = app.catalogue.price(&caller.principal, &tool)?;
            Ok(("tool", tool, Some(price)))
        }
        (Some(request), None) => {
            let model = request.get("model").and_then(serde_json::Value::as_str);
            let model = model.ok_or_else(|| Failure::new(Code::InvalidRequest, "`request` names no `model`."))?;
            let request = ModelRequest {
                endpoint: Endpoint::Chat,
                model: model.to_owned(),
                body: Bytes::from(serde_json::to_vec(&request).expect("JSON can be written")),
                hints: Hints::default(),
            };
            let most = app.models.cost_at_most(&caller.principal, &request, caller.trace)?;
            Ok(("model", request.model, most))
        }
        _ => Err(
            Failure::new(Code::InvalidRequest, "Ask for exactly one of `request` and `tool`.")
                .hint("`request` is the body of a chat completion, `tool` the name of a tool."),
        ),
    }
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
