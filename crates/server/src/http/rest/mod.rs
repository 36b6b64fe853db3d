//! MCP's tools and resources as plain REST, for programs that speak no JSON-RPC: the same catalogue, the same policy.
//!
//! What a tool or an upstream answers passes through as it is. Nothing here can ask anybody anything: a tool that needs
//! an answer from its user is answered with what it asks for, and has to be called over MCP.

mod call;
mod resources;
mod tools;

pub(crate) use call::{__path_call, call};
pub(crate) use resources::{__path_list, __path_read, list, read};
pub(crate) use tools::{__path_tools, tools};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use forebay_domain::{Code, Failure};
use forebay_mcp::{Outcome, call::RpcError};
use http::{HeaderValue, header};
use serde_json::{Value, json, value::RawValue};

/// How much of somebody else's error message is passed on, in characters.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// Text that is JSON already.
pub(crate) struct RawJson(String);

impl IntoResponse for RawJson {
    fn into_response(self) -> Response {
        let json = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, json)], Body::from(self.0)).into_response()
    }
}

/// A finished result, or why there is none.
fn finished(outcome: Outcome) -> Result<Box<RawValue>, Failure> {
    match outcome {
        Outcome::Complete(complete) => Ok(complete.raw),
        Outcome::InputRequired(raw) => {
            let asked: Value = serde_json::from_str(raw.get()).unwrap_or_default();
            Err(needs_input(&asked["inputRequests"]))
        }
        Outcome::Refused(error) => Err(refused(&error)),
        Outcome::Cancelled => Err(Failure::new(Code::Cancelled, "The call was ended before it was done.")),
    }
}

/// `requests` is an object of requests, each with `method` and `params`.
fn needs_input(requests: &Value) -> Failure {
    Failure::new(
        Code::ClientSilent,
        "This needs an answer from its user, and nobody can be asked here.",
    )
    .hint("Call it over `/mcp` with a client that can be asked; `details` says what it asks for.")
    .details(json!({"inputRequests": requests}))
}

/// JSON-RPC's word for params that do not fit.
const INVALID_PARAMS: i64 = -32602;

fn refused(error: &RpcError) -> Failure {
    let message: String = error.message.chars().take(MESSAGE_CHARS_MAX).collect();
    let code = if error.code == INVALID_PARAMS {
        Code::InvalidParams
    } else {
        Code::UpstreamFailed
    };
    let data = error
        .data
        .as_ref()
        .and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    Failure::new(code, format!("The tool's server refused: {message}")).details(json!({
        "code": error.code,
        "data": data,
    }))
}

/// A page of a list: its items, and where the next one begins.
fn listing(member: &str, items: &str, next: Option<&str>) -> RawJson {
    let next = next.map_or_else(String::new, |next| format!(r#","nextCursor":{}"#, json!(next)));
    RawJson(format!(r#"{{"{member}":{items}{next}}}"#))
}
