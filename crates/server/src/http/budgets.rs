//! `/api/v1/budgets`: the limits on what is spent; those of the configuration file are shown, those set here can change.

use crate::{
    app::App,
    config::{WindowLength, money::purse_name},
    door::Caller,
    http::{ApiError, body, page},
};
use axum::{Extension, Json, extract::State};
use forebay_api::{BudgetInfo, BudgetList, BudgetQuery, BudgetRef, BudgetSet};
use forebay_domain::{
    Action, Code, Failure,
    id::TenantId,
    ledger::{BudgetRule, Payer, PurseName, Scope, Window, WindowFault},
};
use forebay_store::ledger::BudgetKey;
use serde_json::json;
use std::sync::Arc;

/// The limits that count for the caller; for operators all of their tenant, for administrators all there are.
#[utoipa::path(get, path = "/api/v1/budgets", tag = "money", params(BudgetQuery),
    responses((status = 200, body = BudgetList), (status = 403, body = forebay_api::Problem)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    page::Query(query): page::Query<BudgetQuery>,
) -> Result<Json<BudgetList>, ApiError> {
    let listed = async {
        let asked: Option<TenantId> = page::id(query.tenant.as_deref(), "tenant")?;
        let tenant = match asked {
            None if caller.principal.role == forebay_domain::Role::Admin => None,
            None => Some(caller.principal.tenant.clone()),
            Some(tenant) => Some(reached(&caller, tenant)?),
        };
        let after = query.after.as_deref().map(place).transpose()?;
        let ledger = app.store.ledger();
        let limit = page::limit(query.limit);
        let page = ledger.budget_page(tenant.as_ref(), after.as_ref(), limit).await?;
        let configured = app.budgets();
        let first = configured.iter().filter(|_| after.is_none());
        let all = first.map(|rule| (rule, "config"));
        let all = all.chain(page.budgets.iter().map(|rule| (rule, "api")));
        let seen = all.filter(|(rule, _)| is_seen(&caller, tenant.as_ref(), rule));
        Ok(BudgetList {
            budgets: seen.map(|(rule, origin)| info(rule, origin)).collect(),
            next: page.next.as_ref().map(place_text),
        })
    };
    let listed: Result<_, Failure> = listed.await;
    listed.map(Json).map_err(|failure| caller.problem(failure))
}

/// A place in the list, as it is told: no name has a space in it.
fn place_text(last: &BudgetKey) -> String {
    let id = last.id.as_deref().unwrap_or_default();
    format!("{} {} {id} {}", last.tenant, last.scope, last.minutes)
}

fn place(text: &str) -> Result<BudgetKey, Failure> {
    let wrong = || unfit("after", "it is the `next` of another page");
    let parts: Vec<&str> = text.split(' ').collect();
    let [tenant, scope, id, minutes] = parts[..] else {
        return Err(wrong());
    };
    Ok(BudgetKey {
        tenant: TenantId::try_from(tenant).map_err(|_| wrong())?,
        scope: Scope::parse(scope).ok_or_else(wrong)?,
        id: (!id.is_empty()).then(|| id.to_owned()),
        minutes: minutes.parse().map_err(|_| wrong())?,
    })
}

/// Sets a limit, in place of one of the same scope, name and window. What is spent already stays spent.
#[utoipa::path(put, path = "/api/v1/budgets", tag = "money", request_body = BudgetSet,
    responses((status = 200, body = BudgetInfo), (status = 400, body = forebay_api::Problem),
        (status = 403, body = forebay_api::Problem)))]
pub(crate) async fn set(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body::Json(wanted): body::Json<BudgetSet>,
) -> Result<Json<BudgetInfo>, ApiError> {
    let set = async {
        let (tenant, minutes) = (tenant(&caller, wanted.tenant.as_deref())?, window(&wanted.window)?);
        let window = Window::new(minutes, wanted.limit_usd, wanted.enforcement).map_err(|fault| {
            let field = match fault {
                WindowFault::Length(_) => "window",
                WindowFault::Limit => "limit_usd",
            };
            unfit(field, &fault.to_string())
        })?;
        let of = key(wanted.scope, tenant, (wanted.id.as_deref(), minutes))?;
        app.store.ledger().set_budget(of.clone(), window).await?;
        Ok(info(&rule(of, window), "api"))
    };
    let set: Result<_, Failure> = set.await;
    set.map(Json).map_err(|failure| caller.problem(failure))
}

/// Takes away a limit that was set here.
#[utoipa::path(delete, path = "/api/v1/budgets", tag = "money", params(BudgetRef),
    responses((status = 200, body = BudgetInfo), (status = 404, body = forebay_api::Problem)))]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    page::Query(which): page::Query<BudgetRef>,
) -> Result<Json<BudgetInfo>, ApiError> {
    let removed = async {
        let (tenant, minutes) = (tenant(&caller, which.tenant.as_deref())?, window(&which.window)?);
        let of = key(which.scope, tenant, (which.id.as_deref(), minutes))?;
        let stored = app.store.ledger().budgets(Some(&of.tenant)).await?;
        let is_meant =
            |stored: &BudgetRule| stored.window.minutes == minutes && *stored == rule(of.clone(), stored.window);
        let found = stored.into_iter().find(is_meant).ok_or_else(unknown)?;
        if app.store.ledger().remove_budget(of).await? {
            Ok(info(&found, "api"))
        } else {
            Err(unknown())
        }
    };
    let removed: Result<_, Failure> = removed.await;
    removed.map(Json).map_err(|failure| caller.problem(failure))
}

fn unknown() -> Failure {
    Failure::new(Code::UnknownBudget, "There is no such limit that was set at run time.")
        .hint("`forebay budget list` shows what there is; what stands in the configuration file is changed there.")
}

/// The tenant whose limits are changed: the caller's own, or another one of an administrator's choice.
fn tenant(caller: &Caller, named: Option<&str>) -> Result<TenantId, Failure> {
    match page::id(named, "tenant")? {
        Some(tenant) => reached(caller, tenant),
        None => Ok(caller.principal.tenant.clone()),
    }
}

fn reached(caller: &Caller, tenant: TenantId) -> Result<TenantId, Failure> {
    if caller.principal.reaches(&tenant) {
        return Ok(tenant);
    }
    let message = format!("The limits of tenant {tenant} are not yours.");
    Err(Failure::new(Code::Forbidden, message).hint("Leave `tenant` out for your own."))
}

fn window(text: &str) -> Result<u32, Failure> {
    let length: Result<WindowLength, _> = text.parse();
    length
        .map(|length| length.0)
        .map_err(|fault| unfit("window", &fault.to_string()))
}

/// What is set at run time is always one tenant's.
fn key(scope: Scope, tenant: TenantId, (id, minutes): (Option<&str>, u32)) -> Result<BudgetKey, Failure> {
    let of = purse_name(scope, Some(&tenant), id).map_err(|(field, problem)| unfit(field, &problem))?;
    Ok(BudgetKey {
        tenant,
        scope,
        id: of.and_then(|name| name.id),
        minutes,
    })
}

fn rule(of: BudgetKey, window: Window) -> BudgetRule {
    BudgetRule {
        scope: of.scope,
        of: Some(PurseName {
            tenant: of.tenant,
            id: of.id,
        }),
        window,
    }
}

fn unfit(field: &str, problem: &str) -> Failure {
    Failure::new(Code::InvalidRequest, format!("`{field}`: {problem}.")).details(json!({"field": field}))
}

/// Users see what counts for themselves; whoever may see what others spend sees the limits of the others too.
fn is_seen(caller: &Caller, tenant: Option<&TenantId>, rule: &BudgetRule) -> bool {
    let Some(tenant) = tenant else { return true };
    if caller.principal.decide(&Action::SPENDING_OTHERS).is_allowed() {
        return rule.of.as_ref().is_none_or(|name| name.tenant == *tenant);
    }
    let purses = Payer::from(&caller.principal).purses();
    purses.iter().any(|purse| rule.counts_for(purse))
}

fn info(rule: &BudgetRule, origin: &str) -> BudgetInfo {
    let of = rule.of.as_ref();
    BudgetInfo {
        scope: rule.scope,
        tenant: of.map(|name| name.tenant.to_string()),
        id: of.and_then(|name| name.id.clone()),
        window_minutes: rule.window.minutes,
        limit_usd: rule.window.limit,
        enforcement: rule.window.enforcement,
        origin: origin.to_owned(),
    }
}
