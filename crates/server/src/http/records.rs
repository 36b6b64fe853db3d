//! What happened: the event log and its audit chain, in pages that follow a cursor.

use crate::{
    app::App,
    door::Caller,
    http::{ApiError, page},
};
use axum::{Extension, Json, extract::State};
use forebay_api::{AuditReport, EventInfo, EventList, EventQuery as WireQuery};
use forebay_domain::{
    Code, Failure,
    event::Class,
    id::{TenantId, TraceId},
};
use forebay_store::events::{EventQuery, Order, StoredEvent};
use std::sync::Arc;

/// Activity and audit events that the caller may see: its tenant's, or everybody's for an administrator.
#[utoipa::path(get, path = "/api/v1/events", tag = "telling", params(WireQuery), responses((status = 200, body = EventList)))]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    page::Query(query): page::Query<WireQuery>,
) -> Result<Json<EventList>, ApiError> {
    read(&app, &caller, query, None)
        .await
        .map(Json)
        .map_err(|failure| caller.problem(failure))
}

/// The audit events, with their place in the chain.
#[utoipa::path(get, path = "/api/v1/audit", tag = "telling", params(WireQuery), responses((status = 200, body = EventList)))]
pub(crate) async fn audit(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    page::Query(query): page::Query<WireQuery>,
) -> Result<Json<EventList>, ApiError> {
    read(&app, &caller, query, Some(Class::Audit))
        .await
        .map(Json)
        .map_err(|failure| caller.problem(failure))
}

/// Walks every audit chain and reports the first fault.
#[utoipa::path(get, path = "/api/v1/audit/verify", tag = "telling", responses((status = 200, body = AuditReport)))]
pub(crate) async fn verify(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<AuditReport>, ApiError> {
    let report = app
        .store
        .events()
        .verify()
        .await
        .map_err(|error| caller.problem(error))?;
    Ok(Json(AuditReport {
        ok: report.fault.is_none(),
        chains: report.chains,
        rows: report.rows,
        fault: report.fault.map(|fault| fault.to_string()),
    }))
}

async fn read(app: &App, caller: &Caller, query: WireQuery, class: Option<Class>) -> Result<EventList, Failure> {
    let asked: Option<TenantId> = page::id(query.tenant.as_deref(), "tenant")?;
    let query = EventQuery {
        after: query.after.as_deref().map(str::parse).transpose()?,
        tenant: visible_tenant(caller, asked)?,
        class,
        trace: query.trace.as_deref().map(trace).transpose()?,
        limit: page::limit(query.limit),
        order: if query.tail {
            Order::NewestFirst
        } else {
            Order::OldestFirst
        },
    };
    let page = app.store.events().read(&query).await?;
    Ok(EventList {
        events: page.events.iter().map(info).collect(),
        next: page.next.to_string(),
    })
}

/// Administrators choose; everybody else reads their own tenant and is told so when they ask for another.
fn visible_tenant(caller: &Caller, asked: Option<TenantId>) -> Result<Option<TenantId>, Failure> {
    match asked {
        Some(tenant) if caller.principal.reaches(&tenant) => Ok(Some(tenant)),
        Some(tenant) => Err(Failure::new(
            Code::Forbidden,
            format!("The events of tenant {tenant} are not yours to read."),
        )
        .hint("Leave `tenant` out to read your own.")),
        None if caller.principal.role == forebay_domain::Role::Admin => Ok(None),
        None => Ok(Some(caller.principal.tenant.clone())),
    }
}

pub(crate) fn trace(text: &str) -> Result<TraceId, Failure> {
    TraceId::parse(text).ok_or_else(|| {
        Failure::new(
            Code::InvalidRequest,
            "`trace`: a trace id has 32 lower-case hex digits.",
        )
        .hint("Every answer carries its own as `x-trace-id`.")
    })
}

pub(crate) fn info(stored: &StoredEvent) -> EventInfo {
    let event = &stored.event;
    let actor = event.actor.as_ref();
    EventInfo {
        cursor: stored.cursor.to_string(),
        at: event.at,
        class: match event.class {
            Class::Activity => "activity".to_owned(),
            Class::Audit => "audit".to_owned(),
        },
        surface: event.surface.as_str().to_owned(),
        trace_id: event.trace.to_string(),
        tenant: actor.map(|actor| actor.tenant.to_string()),
        project: actor.and_then(|actor| actor.project.as_ref()).map(ToString::to_string),
        subject: actor.map(|actor| actor.subject.to_string()),
        key: actor.and_then(|actor| actor.key.as_ref()).map(ToString::to_string),
        session: actor.and_then(|actor| actor.session.as_ref()).map(ToString::to_string),
        action: event.action.clone(),
        outcome: event.outcome.as_str().to_owned(),
        reason: event.reason.clone(),
        duration_us: event.duration_us,
        bytes_in: event.bytes_in,
        bytes_out: event.bytes_out,
        input_tokens: event.usage.map(|usage| usage.input_tokens),
        output_tokens: event.usage.map(|usage| usage.output_tokens),
        usage_estimated: event.usage.map(|usage| usage.estimated),
        cost_usd: event.cost,
        count: event.count,
        chain: stored.link.as_ref().map(|link| link.chain.to_string()),
        chain_position: stored.link.as_ref().map(|link| link.position),
        chain_hash: stored.link.as_ref().map(|link| hex::encode(link.hash.0)),
    }
}
