//! From one [`Failure`] to JSON-RPC: the table of codes and statuses, and the bytes of answers.
//!
//! This is the MCP column of the error table; what stays in it is for the client, what a model can mend becomes a
//! result with `isError`.

use crate::{call::RpcError, envelope::Id, era::Version, reply::Reply};
use bytes::Bytes;
use forebay_domain::{Code, ErrorKind, Failure};
use http::StatusCode;
use serde_json::{Map, Value, json, value::RawValue};

/// How a client is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `/api/v1/mcp`: plain JSON-RPC, whatever the version.
    Plain(Version),
    /// `/mcp`.
    Streamable(Version),
}

impl Dialect {
    pub(crate) fn version(self) -> Version {
        match self {
            Self::Plain(version) | Self::Streamable(version) => version,
        }
    }

    pub(crate) fn is_modern(self) -> bool {
        self.version().is_modern()
    }

    fn tells_the_model(self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Streamable(version) => version.tells_the_model(),
        }
    }
}

/// An answer ready to be sent, with the HTTP status it has where it travels alone.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) message: Bytes,
    pub(crate) retry_after_s: Option<u64>,
    pub(crate) failed: Option<Code>,
}

impl Answered {
    pub(crate) fn reply(self) -> Reply {
        let mut reply = Reply::json(self.status, self.message);
        reply.failed = self.failed;
        match self.retry_after_s {
            Some(seconds) => reply.with("retry-after", &seconds.to_string()),
            None => reply,
        }
    }
}

/// How a request ended: the JSON text of its result, or why there is none.
pub(crate) type Ending = Result<String, Fault>;

/// Why a request has no result.
#[derive(Debug)]
pub(crate) enum Fault {
    Failure(Failure),
    /// An error of somebody else's making, to be passed on as it is.
    Refused(RpcError),
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Fault {
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self, Self::Failure(failure) if failure.code == Code::Cancelled)
    }
}

/// The answer to a request that ended.
pub(crate) fn answered(id: &Id, ending: &Ending, dialect: Dialect) -> Answered {
    match ending {
        Ok(result) => succeeded(id, result),
        Err(Fault::Failure(failure)) => failed(Some(id), failure, dialect),
        Err(Fault::Refused(error)) => refused(id, error, dialect),
    }
}

/// The answer that passes somebody else's error on.
fn refused(id: &Id, error: &RpcError, dialect: Dialect) -> Answered {
    let message = Value::from(error.message.as_str()).to_string();
    let code = error.code.to_string();
    let mut members = vec![("code", code.as_str()), ("message", message.as_str())];
    members.extend(error.data.as_deref().map(|data| ("data", data.get())));
    let status = match error.code {
        -32601 if dialect.is_modern() => StatusCode::NOT_FOUND,
        -32022..=-32020 if dialect.is_modern() => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    };
    Answered {
        status,
        message: format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{}}}"#, object(&members)).into(),
        retry_after_s: None,
        failed: Some(Code::UpstreamFailed),
    }
}

/// The text of a notification or of a request, whose params are JSON text already.
pub(crate) fn notification(method: &str, params: Option<&str>) -> Bytes {
    let method = Value::from(method).to_string();
    let mut members = vec![("jsonrpc", "\"2.0\""), ("method", method.as_str())];
    members.extend(params.map(|params| ("params", params)));
    object(&members).into()
}

pub(crate) fn request(id: &Id, method: &str, params: Option<&str>) -> Bytes {
    let method = Value::from(method).to_string();
    let mut members = vec![
        ("jsonrpc", "\"2.0\""),
        ("id", id.as_json()),
        ("method", method.as_str()),
    ];
    members.extend(params.map(|params| ("params", params)));
    object(&members).into()
}

/// The answer that carries a result, which is JSON text already.
pub(crate) fn succeeded(id: &Id, result: &str) -> Answered {
    let message = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
    Answered {
        status: StatusCode::OK,
        message: message.into(),
        retry_after_s: None,
        failed: None,
    }
}

/// The answer that carries an error. Whoever gets here is the edge, so the causes are logged here, once.
pub(crate) fn failed(id: Option<&Id>, failure: &Failure, dialect: Dialect) -> Answered {
    if failure.source.is_some() || failure.kind() == ErrorKind::Bug {
        tracing::warn!(error.code = %failure.code, error.chain = %failure.chain(), "mcp request failed");
    }
    let id = id.map_or("null", Id::as_json);
    let error = error(failure, dialect);
    Answered {
        status: status(failure.code, dialect),
        message: format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#).into(),
        retry_after_s: failure.wait_seconds(),
        failed: Some(failure.code),
    }
}

/// A failure as JSON-RPC's error object.
pub(crate) fn error(failure: &Failure, dialect: Dialect) -> Value {
    json!({
        "code": number(failure.code, dialect),
        "message": sentence(failure),
        "data": data(failure),
    })
}

/// The body that answers a request which never became a message: one that the door refused.
pub fn refusal(failure: &Failure) -> Bytes {
    failed(None, failure, Dialect::Plain(Version::LEGACY_NEWEST)).message
}

/// Whether a failure of a tool call is something that a model can act on.
pub(crate) fn is_for_the_model(failure: &Failure, dialect: Dialect) -> bool {
    match failure.kind() {
        ErrorKind::Conflict | ErrorKind::OverBudget | ErrorKind::UpstreamFailed | ErrorKind::UpstreamTimedOut => true,
        ErrorKind::Invalid => match failure.code {
            Code::InvalidArguments => dialect.tells_the_model(),
            code => code == Code::ResultTooLarge,
        },
        ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::NotFound
        | ErrorKind::RateLimited
        | ErrorKind::Unavailable
        | ErrorKind::Bug => false,
    }
}

/// A failure as the result of a tool. It stands in a text block only: `structuredContent` has to fit the tool's output
/// schema, and some clients hold errors to that too.
pub(crate) fn tool_error(failure: &Failure) -> Box<RawValue> {
    let mut told = Map::new();
    told.insert("success".to_owned(), Value::Bool(false));
    told.insert("code".to_owned(), Value::String(failure.code.as_str().to_uppercase()));
    told.insert("message".to_owned(), Value::String(failure.message.clone()));
    if let Some(details) = &failure.details {
        told.insert("details".to_owned(), details.clone());
    }
    if let Some(hint) = &failure.hint {
        told.insert("suggestion".to_owned(), Value::String(hint.clone()));
    }
    let text = Value::Object(told).to_string();
    let result = json!({"content": [{"type": "text", "text": text}], "isError": true});
    serde_json::value::to_raw_value(&result).expect("a JSON value is JSON")
}

/// The JSON text of an object with these members, whose values are JSON text already.
pub(crate) fn object(members: &[(&str, &str)]) -> String {
    let size: usize = members.iter().map(|(key, value)| key.len() + value.len() + 4).sum();
    let mut text = String::with_capacity(size + 2);
    text.push('{');
    for (index, (key, value)) in members.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        text.extend([comma, "\"", key, "\":", value]);
    }
    text.push('}');
    text
}

/// The JSON text of an array of these elements, which are JSON text already.
pub(crate) fn array<'a>(elements: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::from("[");
    for (index, element) in elements.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(element);
    }
    text.push(']');
    text
}

/// JSON-RPC leaves -32000 to -32099 to servers; MCP has defined those from -32020 on.
const SERVER_ERROR: i32 = -32000;

fn number(code: Code, dialect: Dialect) -> i32 {
    match code {
        Code::MalformedJson | Code::JsonTooDeep | Code::DuplicateKey => -32700,
        Code::HeaderMismatch => -32020,
        Code::MissingClientCapability => -32021,
        Code::UnsupportedProtocolVersion => -32022,
        Code::UnknownMethod => -32601,
        Code::InvalidArguments
        | Code::InvalidParams
        | Code::InvalidRequestState
        | Code::UnknownTool
        | Code::UnknownTask
        | Code::UnknownPrompt => -32602,
        Code::UnknownResource if dialect.is_modern() => -32602,
        Code::UnknownResource => -32002,
        // Not in the specification, but what the official SDKs send along with their 404.
        Code::UnknownSession => -32001,
        other => match other.kind() {
            ErrorKind::Invalid => -32600,
            ErrorKind::Bug => -32603,
            ErrorKind::Unauthenticated
            | ErrorKind::Forbidden
            | ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::OverBudget
            | ErrorKind::RateLimited
            | ErrorKind::UpstreamFailed
            | ErrorKind::UpstreamTimedOut
            | ErrorKind::Unavailable => SERVER_ERROR,
        },
    }
}

fn status(code: Code, dialect: Dialect) -> StatusCode {
    match code {
        Code::InvalidArguments
        | Code::InvalidParams
        | Code::InvalidRequestState
        | Code::UnknownTool
        | Code::UnknownPrompt
        | Code::UnknownTask
        | Code::UnknownResource => StatusCode::OK,
        Code::UnknownMethod if !matches!(dialect, Dialect::Streamable(Version::V2026_07_28)) => StatusCode::OK,
        Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        other => match other.kind() {
            ErrorKind::Invalid => StatusCode::BAD_REQUEST,
            ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Bug
            | ErrorKind::Conflict
            | ErrorKind::OverBudget
            | ErrorKind::UpstreamFailed
            | ErrorKind::UpstreamTimedOut => StatusCode::OK,
        },
    }
}

fn sentence(failure: &Failure) -> String {
    match failure.code {
        Code::InvalidArguments | Code::InvalidParams => format!("Invalid params: {}", failure.sentence()),
        _ => failure.sentence(),
    }
}

/// Particulars that are an object stand beside the code, where the specification looks for them (`supported`, `uri`).
fn data(failure: &Failure) -> Value {
    let mut data = Map::new();
    data.insert("code".to_owned(), Value::String(failure.code.to_string()));
    match &failure.details {
        Some(Value::Object(members)) => data.extend(members.clone()),
        Some(other) => {
            data.insert("details".to_owned(), other.clone());
        }
        None => {}
    }
    if let Some(after) = failure.retry_after {
        data.insert("retryAfterMs".to_owned(), json!(after.as_millis()));
    }
    Value::Object(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MODERN: Dialect = Dialect::Streamable(Version::V2026_07_28);
    const LEGACY: Dialect = Dialect::Streamable(Version::V2025_11_25);
    const OLD: Dialect = Dialect::Streamable(Version::V2025_06_18);
    const PLAIN: Dialect = Dialect::Plain(Version::V2024_11_05);

    #[test]
    fn a_code_has_its_number_and_its_status() {
        for (code, dialect, expected) in [
            (Code::MalformedJson, PLAIN, (-32700, 400)),
            (Code::InvalidRequest, LEGACY, (-32600, 400)),
            (Code::BatchNotSupported, MODERN, (-32600, 400)),
            (Code::UnknownMethod, MODERN, (-32601, 404)),
            (Code::UnknownMethod, LEGACY, (-32601, 200)),
            (Code::UnknownTool, MODERN, (-32602, 200)),
            (Code::UnknownResource, MODERN, (-32602, 200)),
            (Code::UnknownResource, LEGACY, (-32002, 200)),
            (Code::HeaderMismatch, MODERN, (-32020, 400)),
            (Code::UnsupportedProtocolVersion, MODERN, (-32022, 400)),
            (Code::Forbidden, MODERN, (-32000, 403)),
            (Code::RateLimited, PLAIN, (-32000, 429)),
            (Code::StoreUnavailable, LEGACY, (-32000, 503)),
            (Code::UnknownSession, LEGACY, (-32001, 404)),
            (Code::InternalError, MODERN, (-32603, 200)),
        ] {
            let answered = failed(None, &Failure::new(code, "m"), dialect);
            let message: Value = serde_json::from_slice(&answered.message).unwrap();
            let got = (message["error"]["code"].as_i64().unwrap(), answered.status.as_u16());
            assert_eq!(got, expected, "{code} {dialect:?}");
            assert_eq!(message["error"]["data"]["code"], code.as_str());
        }
    }

    #[test]
    fn whoever_waits_as_long_as_told_has_waited_long_enough() {
        for (after_ms, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (59_999, 60)] {
            let failure = Failure::new(Code::RateLimited, "m").retry_after(Duration::from_millis(after_ms));
            let answered = failed(None, &failure, MODERN);
            assert_eq!(answered.retry_after_s, Some(seconds), "{after_ms} ms");
        }
    }

    #[test]
    fn a_model_is_told_what_it_can_mend() {
        for (code, dialect, expected) in [
            (Code::InvalidArguments, MODERN, true),
            (Code::InvalidArguments, LEGACY, true),
            (Code::InvalidArguments, OLD, false),
            (Code::InvalidArguments, PLAIN, false),
            (Code::ResultTooLarge, PLAIN, true),
            (Code::SpendingLimitExceeded, PLAIN, true),
            (Code::ToolTimedOut, OLD, true),
            (Code::UnknownTool, MODERN, false),
            (Code::Forbidden, MODERN, false),
            (Code::InternalError, MODERN, false),
        ] {
            assert_eq!(
                is_for_the_model(&Failure::new(code, "m"), dialect),
                expected,
                "{code} {dialect:?}"
            );
        }
    }

    #[test]
    fn a_tool_error_stands_in_one_text_block() {
        let failure = Failure::new(Code::SpendingLimitExceeded, "No.")
            .hint("Wait.")
            .details(json!({"window": "60m"}));
        let result: Value = serde_json::from_str(tool_error(&failure).get()).unwrap();
        assert_eq!(result["isError"], true);
        assert!(result.get("structuredContent").is_none());
        let told: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
        assert_eq!(
            told,
            json!({"success": false, "code": "SPENDING_LIMIT_EXCEEDED", "message": "No.", "details": {"window": "60m"}, "suggestion": "Wait."})
        );
    }
}
