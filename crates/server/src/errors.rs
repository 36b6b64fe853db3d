//! The edge's table from one meaning to the dialects of HTTP: problem+json, OpenAI's and Anthropic's error objects,
//! JSON-RPC.
//!
//! (One more dialect, exit codes, stands in the command line.) Whoever answers with a failure logs its chain, once.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use forebay_api::{PROBLEM_TYPE, Problem};
use forebay_domain::{Code, ErrorKind, Failure, id::TraceId};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

/// Which shape an error takes on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// RFC 9457, on Forebay's own API.
    Problem,
    /// OpenAI's error object, on `/v1`.
    OpenAi,
    /// Anthropic's error object, on `/v1/messages`.
    Anthropic,
    /// A JSON-RPC error, on the MCP endpoints.
    Mcp,
}

/// Left in a response's extensions, so that the record of the request says how it ended.
#[derive(Debug, Clone, Copy)]
pub struct FailedWith(pub Code);

/// The HTTP status of a failure. Most follow from the kind; a few codes have a status of their own.
pub fn status(code: Code) -> StatusCode {
    match code {
        Code::BodyTooLarge => return StatusCode::PAYLOAD_TOO_LARGE,
        Code::HeadersTooLarge => return StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Code::NotAcceptable => return StatusCode::NOT_ACCEPTABLE,
        Code::UnsupportedMediaType => return StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::MethodNotAllowed => return StatusCode::METHOD_NOT_ALLOWED,
        Code::StoreFull => return StatusCode::INSUFFICIENT_STORAGE,
        Code::InvalidArguments | Code::IdempotencyKeyReused => return StatusCode::UNPROCESSABLE_ENTITY,
        _ => {}
    }
    match code.kind() {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::OverBudget => StatusCode::PAYMENT_REQUIRED,
        ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::UpstreamFailed => StatusCode::BAD_GATEWAY,
        ErrorKind::UpstreamTimedOut => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Bug => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Answers with a failure in the route's dialect.
pub fn respond(dialect: Dialect, failure: &Failure, trace: TraceId) -> Response {
    log(failure, trace);
    let mut response = match dialect {
        Dialect::Problem => problem(failure, trace),
        Dialect::OpenAi => on_v1(failure, &open_ai_body(failure)),
        Dialect::Anthropic => on_v1(failure, &anthropic_body(failure, trace)),
        Dialect::Mcp => json_rpc(failure),
    };
    if let Some(wait) = failure.wait_seconds() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(wait));
    }
    if failure.code == Code::BodyTooLarge {
        // What is left of the body is not read, so nothing more can come over this connection.
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.extensions_mut().insert(FailedWith(failure.code));
    response
}

/// A failure as RFC 9457 writes it.
pub fn problem_of(failure: &Failure, trace: TraceId) -> Problem {
    let status = status(failure.code);
    Problem {
        r#type: format!("{PROBLEM_TYPE}{}", failure.code),
        title: status.canonical_reason().unwrap_or("Error").to_owned(),
        status: status.as_u16(),
        detail: failure.message.clone(),
        code: failure.code.as_str().to_owned(),
        hint: failure.hint.clone(),
        details: failure.details.clone(),
        trace_id: Some(trace.to_string()),
        retry_after_s: failure.wait_seconds(),
    }
}

fn problem(failure: &Failure, trace: TraceId) -> Response {
    let body = problem_of(failure, trace);
    let mut response = (status(failure.code), Json(body)).into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    response
}

/// The shape that OpenAI's clients read: <https://platform.openai.com/docs/guides/error-codes>.
pub fn open_ai_body(failure: &Failure) -> serde_json::Value {
    let (kind, code) = match failure.kind() {
        ErrorKind::NotFound if failure.code == Code::UnknownModel => ("invalid_request_error", "model_not_found"),
        ErrorKind::Invalid | ErrorKind::Conflict | ErrorKind::NotFound => {
            ("invalid_request_error", failure.code.as_str())
        }
        ErrorKind::Unauthenticated => ("authentication_error", "invalid_api_key"),
        ErrorKind::Forbidden => ("permission_error", failure.code.as_str()),
        ErrorKind::OverBudget => ("insufficient_quota", "insufficient_quota"),
        ErrorKind::RateLimited => ("rate_limit_error", "rate_limit_exceeded"),
        ErrorKind::UpstreamFailed | ErrorKind::UpstreamTimedOut | ErrorKind::Unavailable | ErrorKind::Bug => {
            ("server_error", failure.code.as_str())
        }
    };
    json!({"error": {
        "message": failure.sentence(),
        "type": kind,
        "param": failure.details.as_ref().and_then(|details| details.get("param")),
        "code": code,
        "forebay_code": failure.code.as_str(),
    }})
}

/// The shape that Anthropic's clients read: <https://platform.claude.com/docs/en/api/errors>.
pub fn anthropic_body(failure: &Failure, trace: TraceId) -> serde_json::Value {
    let kind = match failure.kind() {
        ErrorKind::Invalid if failure.code == Code::BodyTooLarge => "request_too_large",
        ErrorKind::Invalid | ErrorKind::Conflict => "invalid_request_error",
        ErrorKind::NotFound => "not_found_error",
        ErrorKind::Unauthenticated => "authentication_error",
        ErrorKind::Forbidden => "permission_error",
        ErrorKind::OverBudget => "billing_error",
        ErrorKind::RateLimited => "rate_limit_error",
        ErrorKind::UpstreamTimedOut => "timeout_error",
        ErrorKind::Unavailable if failure.code == Code::Overloaded => "overloaded_error",
        ErrorKind::UpstreamFailed | ErrorKind::Unavailable | ErrorKind::Bug => "api_error",
    };
    json!({
        "type": "error",
        "error": {"type": kind, "message": failure.sentence(), "forebay_code": failure.code.as_str()},
        "request_id": trace.to_string(),
    })
}

/// Both APIs on `/v1` have clients that repeat what is answered with 429 or from 500 on, unless they are told not to:
/// where money is short, and where tools have run that a repetition would run again.
fn on_v1(failure: &Failure, body: &serde_json::Value) -> Response {
    let over_budget = failure.kind() == ErrorKind::OverBudget;
    let has_run = failure
        .details
        .as_ref()
        .is_some_and(|details| details.get("ran").is_some());
    let status = if over_budget {
        StatusCode::TOO_MANY_REQUESTS
    } else {
        status(failure.code)
    };
    let mut response = (status, Json(body)).into_response();
    if over_budget || has_run {
        response
            .headers_mut()
            .insert("x-should-retry", HeaderValue::from_static("false"));
    }
    response
}

/// An error about the HTTP request as such: there is no JSON-RPC id to answer.
fn json_rpc(failure: &Failure) -> Response {
    let body = forebay_mcp::refusal(failure);
    let json = HeaderValue::from_static("application/json");
    (status(failure.code), [(header::CONTENT_TYPE, json)], body).into_response()
}

/// The caller's own mistakes are the caller's business; ours and the world's belong into the log.
pub fn log(failure: &Failure, trace: TraceId) {
    match failure.kind() {
        ErrorKind::Bug => {
            let chain = failure.chain();
            tracing::error!(error.code = %failure.code, trace.id = %trace, error = %chain, "request failed");
        }
        ErrorKind::Unavailable | ErrorKind::UpstreamFailed | ErrorKind::UpstreamTimedOut => {
            let chain = failure.chain();
            tracing::warn!(error.code = %failure.code, trace.id = %trace, error = %chain, "request failed");
        }
        ErrorKind::Invalid
        | ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::OverBudget
        | ErrorKind::RateLimited => {
            // The caller has been told in words, and those may quote what it sent: a secret in the wrong field, a
            // prompt where a model's name belongs. The log gets the code alone.
            tracing::debug!(error.code = %failure.code, trace.id = %trace, "request refused");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_shape_in_every_dialect() {
        let trace = TraceId::from_bytes([1; 16]).unwrap();
        for code in Code::ALL {
            let failure = Failure::new(*code, "what was wrong").hint("What to do.");
            for dialect in [Dialect::Problem, Dialect::OpenAi, Dialect::Anthropic, Dialect::Mcp] {
                let response = respond(dialect, &failure, trace);
                assert!(
                    response.status().is_client_error() || response.status().is_server_error(),
                    "{code}"
                );
                assert_eq!(response.extensions().get::<FailedWith>().unwrap().0, *code);
            }
        }
    }

    #[test]
    fn kinds_have_the_status_of_the_design() {
        let of = |code| status(code).as_u16();
        assert_eq!(of(Code::InvalidRequest), 400);
        assert_eq!(of(Code::InvalidKey), 401);
        assert_eq!(of(Code::InsufficientScope), 403);
        assert_eq!(of(Code::UnknownKey), 404);
        assert_eq!(of(Code::Conflict), 409);
        assert_eq!(of(Code::SpendingLimitExceeded), 402);
        assert_eq!(of(Code::RateLimited), 429);
        assert_eq!(of(Code::UpstreamTruncated), 502);
        assert_eq!(of(Code::StoreUnavailable), 503);
        assert_eq!(of(Code::StoreFull), 507);
        assert_eq!(of(Code::UpstreamTimedOut), 504);
        assert_eq!(of(Code::InternalError), 500);
        let trace = TraceId::from_bytes([1; 16]).unwrap();
        for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
            let budget = respond(dialect, &Failure::new(Code::SpendingLimitExceeded, "over"), trace);
            assert_eq!(
                (budget.status().as_u16(), &budget.headers()["x-should-retry"]),
                (429, &HeaderValue::from_static("false"))
            );
            for (details, told) in [
                (json!({"ran": ["write"]}), Some("false")),
                (json!({"model": "m"}), None),
            ] {
                let failed = respond(
                    dialect,
                    &Failure::new(Code::UpstreamFailed, "no").details(details),
                    trace,
                );
                let header = failed
                    .headers()
                    .get("x-should-retry")
                    .map(|value| value.to_str().unwrap());
                assert_eq!((failed.status().as_u16(), header), (502, told));
            }
        }
    }
}
