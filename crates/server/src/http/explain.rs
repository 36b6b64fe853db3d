//! Why: which rule allows or forbids an action, and what was decided under a trace.

use crate::{
    app::App,
    door::Caller,
    http::{ApiError, page, records},
};
use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use forebay_api::{ExplainQuery, Explanation, LimitInfo, TraceExplanation};
use forebay_domain::{Action, Code, Failure, Principal, id::KeyId};
use forebay_mcp::reading::is_shown;
use forebay_store::events::{EventQuery, Order};
use std::sync::Arc;

const TRACE_EVENTS_MAX: u32 = 1_000;

/// Explains an action (`?action=tool:calculator`, for another key with `&key=ID`) or a trace (`?trace=ID`).
#[utoipa::path(get, path = "/api/v1/explain", tag = "telling", params(ExplainQuery),
    responses((status = 200, body = Explanation, description = "or a TraceExplanation, where a trace was asked for")))]
pub(crate) async fn explain(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    page::Query(query): page::Query<ExplainQuery>,
) -> Result<Response, ApiError> {
    let answer = match (&query.action, &query.trace) {
        (Some(action), None) => action_of(&app, &caller, action, query.key.as_deref())
            .await
            .map(|why| Json(why).into_response()),
        (None, Some(trace)) => trace_of(&app, &caller, trace)
            .await
            .map(|why| Json(why).into_response()),
        _ => Err(
            Failure::new(Code::InvalidRequest, "Ask for exactly one of `action` and `trace`.")
                .hint("For example `?action=tool:calculator` or `?trace=<x-trace-id>`."),
        ),
    };
    answer.map_err(|failure| caller.problem(failure))
}

async fn action_of(app: &App, caller: &Caller, action: &str, key: Option<&str>) -> Result<Explanation, Failure> {
    let action = Action::parse(action).map_err(|_| {
        Failure::new(Code::InvalidRequest, format!("`{action}` is no action."))
            .hint("An action looks like `tool:calculator`, `model:qwen` or `keys:write`.")
    })?;
    let principal = match key {
        None => caller.principal.clone(),
        Some(id) => other(app, caller, id).await?,
    };
    let decision = principal.decide(&action);
    let tool = action.as_str().strip_prefix("tool:");
    Ok(Explanation {
        action: action.to_string(),
        allowed: decision.is_allowed(),
        reason: decision.to_string(),
        role: principal.role.to_string(),
        grants: principal.grants.iter().map(ToString::to_string).collect(),
        shown: principal.shown.iter().map(ToString::to_string).collect(),
        exists: tool.map(|tool| app.catalogue.has_tool(&principal, tool)),
        is_shown: tool
            .filter(|_| !principal.shown.is_empty())
            .map(|tool| is_shown(&principal, tool)),
        tenant: principal.tenant.to_string(),
        subject: principal.subject.to_string(),
        limit: key.is_none().then_some(LimitInfo {
            per_minute: caller.verdict.limit,
            remaining: caller.verdict.remaining,
            reset_s: caller.verdict.reset_after.as_secs(),
        }),
    })
}

/// Another key's principal, where the caller may know of it. A key of a tenant out of reach does not exist.
async fn other(app: &App, caller: &Caller, id: &str) -> Result<Principal, Failure> {
    caller.principal.require(&Action::EXPLAIN_OTHERS)?;
    let unknown = || Failure::new(Code::UnknownKey, "There is no such key.").hint("`forebay key list` shows the ids.");
    let id = KeyId::try_from(id).map_err(|_| unknown())?;
    let stored = app
        .store
        .keys()
        .find(&id)
        .await?
        .filter(|key| caller.principal.reaches(&key.tenant));
    Ok(stored.ok_or_else(unknown)?.principal())
}

async fn trace_of(app: &App, caller: &Caller, text: &str) -> Result<TraceExplanation, Failure> {
    let principal = &caller.principal;
    let trace = records::trace(text)?;
    let everything = principal.role == forebay_domain::Role::Admin;
    let query = EventQuery {
        after: None,
        tenant: (!everything).then(|| principal.tenant.clone()),
        class: None,
        trace: Some(trace),
        limit: TRACE_EVENTS_MAX,
        order: Order::OldestFirst,
    };
    let page = app.store.events().read(&query).await?;
    let whole_tenant = principal.decide(&Action::EXPLAIN_OTHERS).is_allowed();
    let own = |subject: Option<&str>| whole_tenant || subject == Some(principal.subject.as_str());
    let events: Vec<_> = page
        .events
        .iter()
        .map(records::info)
        .filter(|event| own(event.subject.as_deref()))
        .collect();
    if events.is_empty() {
        return Err(
            Failure::new(Code::UnknownTrace, "No event of yours carries this trace id.")
                .hint("Events appear within 100 ms; every answer carries its trace as `x-trace-id`."),
        );
    }
    Ok(TraceExplanation {
        trace_id: trace.to_string(),
        events,
    })
}
