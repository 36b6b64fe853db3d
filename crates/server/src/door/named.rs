//! `Idempotency-Key`: a request under a name is carried out once, however often it is sent.
//!
//! The rules are Stripe's. The name belongs to whoever sends it and to the route; the answer is kept for a day and given
//! again to the same request; another request under that name is refused, and one that comes while the first is under
//! way is told to wait. What did not fit, or was not begun, is not kept, so that it can be tried again; an error of ours
//! after that is kept like any answer, since something may have been done. A request with a name is carried to its end
//! even where its sender goes away, since whoever sends it again relies on that.

use super::Caller;
use crate::{
    app::App,
    errors,
    http::{Route, body},
};
use aws_lc_rs::digest::{Context, SHA256};
use axum::{
    body::{Body, to_bytes},
    extract::Request,
    response::Response,
};
use forebay_domain::{Code, ErrorKind, Failure, Principal};
use forebay_store::named::{Begun, Claim, GivenAnswer, NAME_BYTES_MAX, RENEW_EVERY, RequestName};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::oneshot;
use tracing::Instrument;

const HEADER: &str = "idempotency-key";
/// Tells that an answer was given before. Stripe's name.
const REPLAYED: &str = "idempotent-replayed";
/// Answers of our own API are small; what is larger is none of them.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Where a call says itself what its name is.
const PLAIN_MCP: &str = "/api/v1/mcp";
/// Where a task is made, which bears the name itself and is made once.
const TASKS: &str = "/api/v1/mcp/tasks";
const CONTEXTS: &str = "/api/v1/mcp/contexts";
const WAIT: Duration = Duration::from_secs(1);

/// Left in the extensions of an answer that holds a secret: it is given once and kept nowhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unkept;

/// How it goes on with a request.
pub(super) enum Way {
    /// It is carried out; under a name where there is a claim.
    On(Box<Request>, Option<Claim>),
    /// It was carried out before.
    Answered(Response),
}

/// Looks whether a request has a name, and what is known under it.
pub(super) async fn look(app: &App, route: &Route, caller: &Caller, request: Request) -> Result<Way, Failure> {
    let Some(name) = name(route, request.headers())? else {
        return Ok(Way::On(Box::new(request), None));
    };
    Box::pin(begin(app, route, caller, (request, name))).await
}

/// Notes that a request of this name has begun, or finds what became of it before.
async fn begin(app: &App, route: &Route, caller: &Caller, (request, name): (Request, String)) -> Result<Way, Failure> {
    let (parts, sent) = request.into_parts();
    let sent = body::read(sent, app.body_bytes_max).await?;
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let request_name = RequestName {
        tenant: caller.principal.tenant.clone(),
        principal: sender(&caller.principal),
        route: format!("{} {}", route.method, parts.uri.path()),
        name,
    };
    let hash = hash(&[route.method.as_bytes(), target.as_bytes(), &sent]);
    let begun = app
        .store
        .named_requests()
        .begin(&request_name, hash, app.clock.now())
        .await?;
    match begun {
        Begun::First(claim) => {
            let request = Request::from_parts(parts, Body::from(sent));
            Ok(Way::On(Box::new(request), Some(claim)))
        }
        Begun::Answered(answer) => replay(answer).map(Way::Answered),
        Begun::UnderWay => Err(Failure::new(
            Code::IdempotencyKeyInUse,
            "A request with this Idempotency-Key is being carried out.",
        )
        .hint("Send it again in a moment, to get its answer.")
        .retry_after(WAIT)),
        Begun::Lost => Err(Failure::new(
            Code::Conflict,
            "The gateway that carried this request out is gone, and nobody knows what became of it.",
        )
        .hint("Look at what is there now; send a new request with another Idempotency-Key to do it again.")),
        Begun::Different => Err(Failure::new(
            Code::IdempotencyKeyReused,
            "This Idempotency-Key was used for another request.",
        )
        .hint("Use a new key for each request, and the same one only to repeat it as it was.")),
    }
}

/// Carries a request out to its end, whoever waits for it, and keeps the answer.
pub(super) async fn carry_out(
    app: &Arc<App>,
    claim: Claim,
    handler: impl Future<Output = Response> + Send + 'static,
) -> Response {
    let (sender, answer) = oneshot::channel();
    let inner = app.clone();
    let work = async move {
        let response = tokio::select! {
            response = handler => response,
            never = still_at_it(&inner, &claim) => match never {},
        };
        let answered = keep(&inner, claim, response).await;
        // Whoever asked may have gone away.
        sender.send(answered).ok();
    };
    app.tasks.spawn("named_request", |_| work.in_current_span());
    answer.await.unwrap_or_else(|_| lost())
}

/// Says every now and then that the request is under way.
async fn still_at_it(app: &App, claim: &Claim) -> Infallible {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        if let Err(error) = app.store.named_requests().renew(claim, app.clock.now()).await {
            tracing::warn!(%error, "it could not be said that a named request is under way");
        }
    }
}

/// The process ends, or the handler panicked: what became of the request is not known under its name.
fn lost() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.extensions_mut().insert(errors::FailedWith(Code::Overloaded));
    response
}

/// Forgets a name of which nothing came.
pub(super) async fn let_go(app: &App, claim: &Claim) {
    if let Err(error) = app.store.named_requests().release(claim).await {
        tracing::warn!(%error, "a named request stays under way until it is given up");
    }
}

async fn keep(app: &App, claim: Claim, response: Response) -> Response {
    let (parts, sent) = response.into_parts();
    let Ok(sent) = to_bytes(sent, ANSWER_BYTES_MAX).await else {
        let status = parts.status.as_u16();
        answered(app, &claim, GivenAnswer { status, body: None }).await;
        return lost();
    };
    if is_worth_nothing(&parts) {
        let_go(app, &claim).await;
    } else {
        let media_type = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let body = match parts.extensions.get::<Unkept>() {
            Some(Unkept) => None,
            None => Some((media_type.unwrap_or_default().to_owned(), sent.to_vec())),
        };
        let status = parts.status.as_u16();
        answered(app, &claim, GivenAnswer { status, body }).await;
    }
    Response::from_parts(parts, Body::from(sent))
}

/// Where it cannot be kept, whoever repeats it is told that nobody knows.
async fn answered(app: &App, claim: &Claim, answer: GivenAnswer) {
    if let Err(error) = app.store.named_requests().answered(claim, answer).await {
        tracing::warn!(%error, "the answer of a named request is not kept");
    }
}

/// Nothing was done: it may be tried again, also with what was wrong mended. Every other error may have come after the
/// work.
fn is_worth_nothing(parts: &http::response::Parts) -> bool {
    let code = parts.extensions.get::<errors::FailedWith>().map(|failed| failed.0);
    let kind = code.map(Code::kind);
    code == Some(Code::Overloaded) || matches!(kind, Some(ErrorKind::Invalid | ErrorKind::RateLimited))
}

fn replay(answer: GivenAnswer) -> Result<Response, Failure> {
    let Some((media_type, sent)) = answer.body else {
        return Err(Failure::new(
            Code::Conflict,
            "This request was carried out before, and its answer was not kept: it was too large, or held a secret.",
        )
        .hint("Look at what is there now; send a new request with another Idempotency-Key to do it again."));
    };
    let mut response = Response::new(Body::from(sent));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    if let Ok(value) = HeaderValue::from_str(&media_type)
        && !media_type.is_empty()
    {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
        .headers_mut()
        .insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// The name that a request bears, where its route heeds one: those of our own API that are not the same done twice.
fn name(route: &Route, headers: &HeaderMap) -> Result<Option<String>, Failure> {
    if route.method != "POST" || !route.path.starts_with("/api/v1/") {
        return Ok(None);
    }
    match (route.dialect, route.path) {
        (_, path) if path == TASKS || path.starts_with(CONTEXTS) => Ok(None),
        (errors::Dialect::Problem, _) => sent_name(headers),
        // A tool may heed it.
        (_, PLAIN_MCP) => Ok(None),
        _ => match sent_name(headers)? {
            None => Ok(None),
            Some(_) => Err(
                Failure::new(Code::InvalidRequest, "`Idempotency-Key` is not heeded here.")
                    .hint("Leave it away; `POST /api/v1/mcp` takes it with a call of `create_gpu_instance`."),
            ),
        },
    }
}

/// The name that a request bears.
pub(crate) fn sent_name(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let mut names = headers.get_all(HEADER).iter();
    let Some(name) = names.next() else { return Ok(None) };
    let is_fit =
        |name: &&str| (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(|b| (b' '..=b'~').contains(&b));
    let fit = name.to_str().ok().filter(is_fit).filter(|_| names.next().is_none());
    fit.map(|name| Some(name.to_owned())).ok_or_else(|| {
        let message = format!("`Idempotency-Key` must be one key of 1 to {NAME_BYTES_MAX} printable ASCII characters.");
        Failure::new(Code::InvalidRequest, message).hint("A UUID is a good one.")
    })
}

/// Whose names these are: those of a key, or of a token's subject within its project.
fn sender(principal: &Principal) -> String {
    match (&principal.key, &principal.project) {
        (Some(key), _) => format!("key {key}"),
        (None, Some(project)) => format!("token {project} {}", principal.subject),
        (None, None) => format!("token {}", principal.subject),
    }
}

/// Each part with its length in front, so that no two requests share one.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(status: StatusCode, code: Option<Code>) -> http::response::Parts {
        let mut response = Response::new(());
        *response.status_mut() = status;
        if let Some(code) = code {
            response.extensions_mut().insert(errors::FailedWith(code));
        }
        response.into_parts().0
    }

    #[test]
    fn only_what_surely_did_nothing_is_forgotten() {
        for code in [
            Code::InvalidRequest,
            Code::InvalidArguments,
            Code::RateLimited,
            Code::Overloaded,
        ] {
            assert!(is_worth_nothing(&parts(StatusCode::BAD_REQUEST, Some(code))), "{code}");
        }
        for code in [
            Code::InternalError,
            Code::UpstreamFailed,
            Code::UpstreamTimedOut,
            Code::StoreUnavailable,
            Code::CallLost,
            Code::SpendingLimitExceeded,
            Code::Conflict,
        ] {
            assert!(!is_worth_nothing(&parts(StatusCode::BAD_GATEWAY, Some(code))), "{code}");
        }
        for status in [
            StatusCode::OK,
            StatusCode::INTERNAL_SERVER_ERROR,
            StatusCode::SERVICE_UNAVAILABLE,
        ] {
            assert!(!is_worth_nothing(&parts(status, None)), "{status}");
        }
    }
}
