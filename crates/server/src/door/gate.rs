//! The gate: what the row of a route asks for is checked here, in one order, for every route alike.

use super::{Arrival, Caller, edge::Passage, limit, revoked};
use crate::{
    app::App,
    errors,
    http::{Access, Route},
};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use forebay_domain::{
    Action, Code, ErrorKind, Event, Failure, Principal,
    event::{Class, Outcome},
};
use forebay_runtime::rate::Verdict;
use http::{HeaderMap, HeaderValue, header};
use std::{sync::Arc, time::Duration};

/// How long a request waits under overload before it is turned away.
const ROOM_PATIENCE: Duration = Duration::from_secs(2);

/// What stands before one route.
#[derive(Clone)]
pub struct Gate {
    pub app: Arc<App>,
    pub route: &'static Route,
}

/// Lets a request through to its handler, or answers it with the rule that forbids it.
pub async fn gate(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let Gate { app, route } = &gate;
    let arrival = *request
        .extensions()
        .get::<Arrival>()
        .expect("the edge runs before every gate");
    let Some(action) = route.access.action() else {
        return next.run(request).await;
    };
    let entry = admit(app, route, action, request.headers(), arrival).await;
    let (mut response, passage, verdict) = match entry {
        Ok(Entry {
            caller,
            reason,
            verdict,
        }) => {
            request.extensions_mut().insert(caller.clone());
            let response = run(app, route, &caller, next.run(request)).await;
            (
                response,
                Passage {
                    caller: Some(caller),
                    reason: Some(reason),
                },
                Some(verdict),
            )
        }
        Err(Refusal {
            failure,
            caller,
            verdict,
        }) => {
            let mut response = errors::respond(route.dialect, &failure, arrival.trace);
            challenge(app, &failure, &mut response, request.headers());
            (
                response,
                Passage {
                    caller,
                    reason: Some(failure.message),
                },
                verdict,
            )
        }
    };
    if let Some(verdict) = verdict {
        limit::write_headers(response.headers_mut(), &verdict, route.dialect);
    }
    response.extensions_mut().insert(passage);
    response
}

/// Runs the handler for as long as the caller's key is good.
async fn run(app: &App, route: &Route, caller: &Caller, handler: impl Future<Output = Response>) -> Response {
    let key = &caller.principal.key;
    let while_handled = app.door.revoked.wait(key.clone());
    let while_streamed = app.door.revoked.wait(key.clone());
    tokio::select! {
        response = handler => revoked::cut(response, while_streamed),
        () = while_handled => errors::respond(route.dialect, &revoked::failure(), caller.trace),
    }
}

struct Entry {
    caller: Caller,
    reason: String,
    verdict: Verdict,
}

struct Refusal {
    failure: Failure,
    caller: Option<Caller>,
    verdict: Option<Verdict>,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            caller: None,
            verdict: None,
        }
    }
}

/// Authenticate, limit, authorise, announce: in this order, so that a refused caller is limited too.
async fn admit(
    app: &App,
    route: &Route,
    action: &Action,
    headers: &HeaderMap,
    arrival: Arrival,
) -> Result<Entry, Refusal> {
    if !app.store.events().is_healthy() {
        return Err(
            Failure::new(Code::StoreUnavailable, "The gateway's database does not answer.")
                .hint("Nothing was done. Try again shortly.")
                .into(),
        );
    }
    wait_for_room(app).await?;
    let principal = app.door.authenticate(headers).await?;
    let verdict = app.door.requests.check(&limit::subject(&principal));
    let caller = Caller {
        principal,
        trace: arrival.trace,
        verdict,
    };
    let refuse = |failure| Refusal {
        failure,
        caller: Some(caller.clone()),
        verdict: Some(verdict),
    };
    if !verdict.is_allowed() {
        return Err(refuse(limit::exceeded(&verdict, "requests")));
    }
    caller.principal.require(action).map_err(refuse)?;
    let reason = caller.principal.decide(action).to_string();
    if let Access::Audited(_) = route.access {
        announce(app, route, action, &caller.principal, arrival, &reason)
            .await
            .map_err(refuse)?;
    }
    Ok(Entry {
        caller,
        reason,
        verdict,
    })
}

/// Every request leaves an event; under a load whose events cannot be written fast enough, requests wait a while.
async fn wait_for_room(app: &App) -> Result<(), Failure> {
    tokio::time::timeout(ROOM_PATIENCE, app.store.events().room())
        .await
        .map_err(|_| {
            Failure::new(Code::Overloaded, "The gateway has more requests than it can record.")
                .hint("Nothing was done. Try again shortly.")
                .retry_after(ROOM_PATIENCE)
        })
}

/// Commits the audit event of an action that changes something, before the action.
async fn announce(
    app: &App,
    route: &Route,
    action: &Action,
    principal: &Principal,
    arrival: Arrival,
    reason: &str,
) -> Result<(), Failure> {
    let event = Event {
        at: app.clock.now(),
        class: Class::Audit,
        surface: route.surface,
        trace: arrival.trace,
        actor: Some(principal.into()),
        action: action.to_string(),
        outcome: Outcome::Intended,
        reason: Some(reason.to_owned()),
        duration_us: 0,
        bytes_in: 0,
        bytes_out: 0,
        usage: None,
        count: 1,
    };
    app.store.events().audit(event).await.map_err(Failure::from)
}

/// `WWW-Authenticate` as RFC 6750 and RFC 9728 write it: where to learn which issuer to ask, and what was wrong.
fn challenge(app: &App, failure: &Failure, response: &mut Response, headers: &HeaderMap) {
    let error = match (failure.kind(), failure.code) {
        (ErrorKind::Unauthenticated, Code::MissingCredentials) => None,
        (ErrorKind::Unauthenticated, _) => Some("invalid_token"),
        (ErrorKind::Forbidden, _) => Some("insufficient_scope"),
        _ => return,
    };
    let base = crate::http::base_url(app, headers);
    let metadata = format!(r#"resource_metadata="{base}/.well-known/oauth-protected-resource""#);
    let plain: String = failure
        .message
        .chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .collect();
    let plain = plain.replace(['"', '\\'], "'");
    let value = match error {
        None => format!(r#"Bearer realm="forebay", {metadata}"#),
        Some(error) => {
            format!(r#"Bearer realm="forebay", {metadata}, error="{error}", error_description="{plain}""#)
        }
    };
    if let Ok(value) = HeaderValue::from_str(&value) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
}
