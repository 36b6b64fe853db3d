//! What the bridge sees of messages and answers, and how it says that something is wrong.

use super::LINE_BYTES_MAX;
use crate::{
    envelope::{Id, Request},
    era::{self, Version},
    header_value::encode,
    params::Params,
    rpc::Dialect,
};
use bytes::Bytes;
use forebay_domain::{Code, Failure};
use futures_util::StreamExt;
use http::{StatusCode, header};
use reqwest::Response;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The specification's code for headers that do not say what the body says.
const HEADER_MISMATCH: i64 = -32020;

pub(super) const EVENTS: &str = "text/event-stream";

/// The members of a message that the bridge itself looks at.
#[derive(Deserialize)]
struct Glance<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    jsonrpc: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Handshake {
    protocol_version: String,
}

/// The bridge's own errors speak as the gateway's do.
pub(super) fn dialect() -> Dialect {
    Dialect::Streamable(Version::LEGACY_NEWEST)
}

pub(super) fn unreachable(what: &str) -> Failure {
    Failure::new(
        Code::GatewayUnreachable,
        format!("The gateway cannot be reached. {what}"),
    )
    .hint("Start it with `forebay serve`, or check --url.")
}

pub(super) fn refused(status: StatusCode, body: &[u8]) -> Failure {
    #[derive(Deserialize)]
    struct Problem {
        detail: Option<String>,
        title: Option<String>,
    }
    let problem: Option<Problem> = serde_json::from_slice(body).ok();
    let said = problem
        .and_then(|problem| problem.detail.or(problem.title))
        .unwrap_or_default();
    let code = match status.as_u16() {
        401 => Code::InvalidKey,
        403 => Code::Forbidden,
        429 => Code::RateLimited,
        503 => Code::Overloaded,
        _ => Code::GatewayUnreachable,
    };
    Failure::new(
        code,
        format!("The gateway answered {}. {said}", status.as_u16())
            .trim_end()
            .to_owned(),
    )
}

pub(super) fn is_stream(response: &Response) -> bool {
    let kind = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with(EVENTS))
}

/// The whole of a body, up to the bound on lines.
pub(super) async fn body(response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|fault| unreachable("Its answer broke off.").caused_by(fault.without_url()))?;
        if body.len() + piece.len() > LINE_BYTES_MAX {
            let message = format!("The gateway's answer has more than {LINE_BYTES_MAX} bytes.");
            return Err(Failure::new(Code::UpstreamTruncated, message));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// Whether this is the message that was waited for: a JSON-RPC answer with that id, or any message where none was.
pub(super) fn answers(body: &[u8], id: Option<&Id>) -> bool {
    let Ok(glance) = serde_json::from_slice::<Glance<'_>>(body) else {
        return id.is_none() && body.starts_with(b"[");
    };
    match id {
        None => glance.jsonrpc.is_some(),
        Some(id) => glance.method.is_none() && glance.id.and_then(|raw| Id::parse(raw.get())).as_ref() == Some(id),
    }
}

/// Whether this refusal is about headers that repeat the body, or fail to.
pub(super) fn lacks_headers(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Refusal {
        error: Fault,
    }
    #[derive(Deserialize)]
    struct Fault {
        code: i64,
    }
    serde_json::from_slice::<Refusal>(body).is_ok_and(|refusal| refusal.error.code == HEADER_MISMATCH)
}

pub(super) fn version_of(body: &[u8]) -> Option<String> {
    let glance: Glance<'_> = serde_json::from_slice(body).ok()?;
    let handshake: Handshake = serde_json::from_str(glance.result?.get()).ok()?;
    Some(handshake.protocol_version)
}

/// A line break between two tokens means nothing in JSON, and everything here.
pub(super) fn one_line(message: &[u8]) -> Bytes {
    let spaced = message
        .iter()
        .map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b });
    spaced.collect::<Vec<u8>>().into()
}

/// The headers by which a modern request repeats its body; `None` for a legacy one.
pub(super) fn modern_headers(request: &Request) -> Option<Vec<(&'static str, String)>> {
    let params = Params::read(request.params.as_ref()).ok()?;
    let version = params.meta().version()?;
    let mut headers = vec![(era::PROTOCOL_VERSION, version), (era::METHOD, request.method.clone())];
    if let Some(target) = era::named_target(&request.method, &params) {
        headers.push((era::NAME, encode(&target).into_owned()));
    }
    Some(headers)
}
