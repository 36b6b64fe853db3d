//! The gate: what the row of a route asks for is checked here, in one order, for every route alike.

use super::{
    Arrival, Caller, ended, limit,
    named::{self, Way},
    record::Passage,
};
use crate::{
    app::App,
    errors,
    http::{Access, Route},
};
use axum::{
    body::to_bytes,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use forebay_domain::{Action, Code, ErrorKind, Failure, event::Intent};
use forebay_store::events::Room;
use http::{HeaderMap, HeaderValue, Version, header};
use std::{sync::Arc, time::Duration};

/// How long a request waits under overload before it is turned away.
const ROOM_PATIENCE: Duration = Duration::from_secs(2);
/// Of the body of a refused request: so much is read, for so long.
const REST_BYTES_MAX: usize = 64 << 10;
const REST_PATIENCE: Duration = Duration::from_millis(250);

// What is seldom waited for here is boxed: each request has the room of all that it might have to wait for.

/// What stands before one route.
#[derive(Clone)]
pub struct Gate {
    pub app: Arc<App>,
    pub route: &'static Route,
}

/// Lets a request through to its handler, or answers it with the rule that forbids it.
pub async fn gate(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let Gate { app, route } = &gate;
    let arrival = request
        .extensions()
        .get::<Arrival>()
        .cloned()
        .expect("the edge runs before every gate");
    let Some(action) = route.access.action() else {
        return next.run(request).await;
    };
    let entry = admit(app, route, action, (request.headers(), &arrival)).await;
    let (mut response, verdict) = match entry {
        Ok(Entry { caller, reason }) => {
            let verdict = caller.verdict;
            request.extensions_mut().insert(caller.clone());
            arrival.note(Passage {
                caller: Some(caller.clone()),
                reason: Some(reason),
            });
            (pass(app, route, &caller, (request, next)).await, Some(verdict))
        }
        Err(Refusal {
            failure,
            caller,
            reason,
        }) => {
            let verdict = caller.as_ref().map(|caller| caller.verdict);
            arrival.note(Passage { caller, reason });
            let mut response = errors::respond(route.dialect, &failure, arrival.trace);
            challenge(app, &failure, &mut response, &request);
            Box::pin(read_off(request, &mut response)).await;
            (response, verdict)
        }
    };
    if let Some(verdict) = verdict {
        limit::write_headers(response.headers_mut(), &verdict, route.dialect);
    }
    response
}

/// Takes in what is left of a request that was refused. A connection ends with a body that nobody read, and who sends the next
/// request on it would not know why: where the rest is too much or too slow, the answer says that it ends.
async fn read_off(request: Request, response: &mut Response) {
    let is_old = request.version() <= Version::HTTP_11;
    let rest = to_bytes(request.into_body(), REST_BYTES_MAX);
    let read = tokio::time::timeout(REST_PATIENCE, rest).await;
    if is_old && !read.is_ok_and(|rest| rest.is_ok()) {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Announces the action and runs the handler, unless the request was carried out before.
async fn pass(app: &Arc<App>, route: &Route, caller: &Caller, (request, next): (Request, Next)) -> Response {
    let (request, claim) = match named::look(app, route, caller, request).await {
        Ok(Way::On(request, claim)) => (request, claim),
        Ok(Way::Answered(response)) => return response,
        Err(failure) => return errors::respond(route.dialect, &failure, caller.trace),
    };
    if let Access::Audited(action) = &route.access
        && let Err(failure) = Box::pin(announce(app, route, action, caller)).await
    {
        if let Some(claim) = &claim {
            Box::pin(named::let_go(app, claim)).await;
        }
        return errors::respond(route.dialect, &failure, caller.trace);
    }
    match claim {
        None => run(app, route, caller, next.run(*request)).await,
        Some(claim) => {
            let handler = Box::pin(named::carry_out(app, claim, next.run(*request)));
            Box::pin(run(app, route, caller, handler)).await
        }
    }
}

/// Runs the handler for as long as the caller's key or token is good.
async fn run(app: &App, route: &Route, caller: &Caller, handler: impl Future<Output = Response>) -> Response {
    let while_handled = ended::wait(&app.door.revoked, &app.clock, &caller.principal);
    let while_streamed = ended::wait(&app.door.revoked, &app.clock, &caller.principal);
    tokio::select! {
        response = handler => ended::cut(response, while_streamed),
        why = while_handled => errors::respond(route.dialect, &why.failure(), caller.trace),
    }
}

struct Entry {
    caller: Caller,
    reason: String,
}

struct Refusal {
    failure: Failure,
    caller: Option<Caller>,
    /// The rule that refused. Never the words of the failure: they may quote whoever knocks.
    reason: Option<String>,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            caller: None,
            reason: None,
        }
    }
}

/// Authenticate, limit, authorise: in this order, so that a refused caller is limited too.
async fn admit(
    app: &App,
    route: &Route,
    action: &Action,
    (headers, arrival): (&HeaderMap, &Arrival),
) -> Result<Entry, Refusal> {
    if !app.store.events().is_healthy() {
        return Err(
            Failure::new(Code::StoreUnavailable, "The gateway's database does not answer.")
                .hint("Nothing was done. Try again shortly.")
                .into(),
        );
    }
    wait_for_room(app, route).await?;
    let principal = app.door.authenticate(headers).await?;
    let verdict = app.door.requests.check(&limit::subject(&principal));
    let caller = Caller {
        principal,
        trace: arrival.trace,
        verdict,
    };
    let reason = caller.principal.decide(action).to_string();
    let refuse = |failure, reason: Option<&String>| Refusal {
        failure,
        caller: Some(caller.clone()),
        reason: reason.cloned(),
    };
    if !verdict.is_allowed() {
        return Err(refuse(limit::exceeded(&verdict, "requests"), None));
    }
    caller
        .principal
        .require(action)
        .map_err(|failure| refuse(failure, Some(&reason)))?;
    Ok(Entry { caller, reason })
}

/// Every request leaves an event; under a load whose events cannot be written fast enough, requests wait a while. On a full
/// disk what reads goes on, and its events may be lost; whatever else cannot be told of is not begun.
async fn wait_for_room(app: &App, route: &Route) -> Result<(), Failure> {
    match tokio::time::timeout(ROOM_PATIENCE, app.store.events().room()).await {
        Ok(Room::Free) => Ok(()),
        Ok(Room::DiskFull) if route.method == "GET" => Ok(()),
        Ok(Room::DiskFull) => Err(
            Failure::new(Code::StoreFull, "The disk of the gateway's database is full.")
                .hint("Nothing was done. Somebody has to make room on it; then try again.")
                .retry_after(ROOM_PATIENCE),
        ),
        Err(_) => Err(
            Failure::new(Code::Overloaded, "The gateway has more requests than it can record.")
                .hint("Nothing was done. Try again shortly.")
                .retry_after(ROOM_PATIENCE),
        ),
    }
}

/// Commits the audit event of an action that changes something, before the action.
async fn announce(app: &App, route: &Route, action: &Action, caller: &Caller) -> Result<(), Failure> {
    let intent = Intent {
        surface: route.surface,
        trace: caller.trace,
        actor: Some((&caller.principal).into()),
        action: action.to_string(),
        reason: Some(caller.principal.decide(action).to_string()),
    };
    app.store
        .events()
        .audit(intent.at(app.clock.now()))
        .await
        .map_err(Failure::from)
}

/// `WWW-Authenticate` as RFC 6750 and RFC 9728 write it: where to learn which issuer to ask, and what was wrong.
fn challenge(app: &App, failure: &Failure, response: &mut Response, request: &Request) {
    let error = match (failure.kind(), failure.code) {
        (ErrorKind::Unauthenticated, Code::MissingCredentials) => None,
        (ErrorKind::Unauthenticated, _) => Some("invalid_token"),
        (ErrorKind::Forbidden, _) => Some("insufficient_scope"),
        _ => return,
    };
    let base = crate::http::base_url(app, request.headers());
    let document = crate::http::metadata_path(request.uri().path());
    let metadata = format!(r#"resource_metadata="{base}{document}""#);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn room<F>(_: fn(State<Gate>, Request, Next) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_at_the_gate_takes_little_room() {
        // Each is made anew for each request, moved, and thrown away.
        assert!(room(gate) <= 6 * 1024, "{} bytes", room(gate));
    }
}
