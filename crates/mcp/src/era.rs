//! Which protocol a request speaks, and whether its headers agree with its body.
//!
//! Two eras share one endpoint. The *legacy* one (2024-11-05 to 2025-11-25) opens a session with `initialize`; the
//! *modern* one (2026-07-28) carries its version in every request. Headers that repeat the body must repeat it
//! truthfully, because somebody in between may have routed or refused by them.

use crate::{
    envelope::Request,
    header_value::decode,
    params::{Meta, Params, invalid, text},
};
use forebay_domain::{Code, Failure};
use http::{HeaderMap, StatusCode};
use serde_json::{json, value::RawValue};
use std::borrow::Cow;

pub const PROTOCOL_VERSION: &str = "mcp-protocol-version";
pub const METHOD: &str = "mcp-method";
pub const NAME: &str = "mcp-name";
pub const SESSION_ID: &str = "mcp-session-id";

/// The protocol versions served here, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    V2024_11_05,
    V2025_03_26,
    V2025_06_18,
    V2025_11_25,
    V2026_07_28,
}

impl Version {
    pub const ALL: [Self; 5] = [
        Self::V2024_11_05,
        Self::V2025_03_26,
        Self::V2025_06_18,
        Self::V2025_11_25,
        Self::V2026_07_28,
    ];
    /// What a legacy client that asks for an unknown version is offered.
    pub const LEGACY_NEWEST: Self = Self::V2025_11_25;

    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    pub fn is_modern(self) -> bool {
        self >= Self::V2026_07_28
    }

    /// The version that answers an `initialize`: the one asked for where it has that handshake, else the newest that
    /// has.
    pub fn negotiate(asked: &str) -> Self {
        Self::parse(asked)
            .filter(|version| !version.is_modern())
            .unwrap_or(Self::LEGACY_NEWEST)
    }

    /// From 2025-11-25 on, arguments that do not fit are told to the model, which can mend its call.
    pub fn tells_the_model(self) -> bool {
        self >= Self::V2025_11_25
    }
}

/// How a request on `/mcp` is to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// It opens a session.
    Handshake,
    /// It belongs to a session, whose handshake fixed the version.
    Legacy,
    /// It stands alone.
    Modern(Version),
}

/// A request that is refused before anything looks at what it wants.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub failure: Box<Failure>,
}

impl Refusal {
    pub fn new(status: StatusCode, failure: Failure) -> Self {
        Self {
            status,
            failure: Box::new(failure),
        }
    }

    pub fn bad(failure: Failure) -> Self {
        Self::new(StatusCode::BAD_REQUEST, failure)
    }
}

/// Decides the era of one request, and refuses what breaks the rules of its era.
pub(crate) fn decide(headers: &HeaderMap, request: &Request, params: &Params<'_>) -> Result<Era, Refusal> {
    let header = single(headers, PROTOCOL_VERSION)?;
    let meta = params.meta();
    if request.method == "initialize" && meta.protocol_version.is_none() {
        check_handshake(headers, header, params)?;
        return Ok(Era::Handshake);
    }
    let named = meta.version();
    let modern_header = header.is_some_and(|text| Version::parse(text).is_none_or(Version::is_modern));
    if named.is_none() && meta.protocol_version.is_none() && !modern_header && request.method != "server/discover" {
        check_method(headers, &request.method, Presence::Optional)?;
        return Ok(Era::Legacy);
    }
    let version = check_version(header, named.as_deref(), &meta)?;
    check_method(headers, &request.method, Presence::Required)?;
    check_name(headers, &request.method, params)?;
    if !meta.has_capabilities() {
        return Err(malformed_meta(&["io.modelcontextprotocol/clientCapabilities"]));
    }
    Ok(Era::Modern(version))
}

/// Decides the era of one request that came without headers.
pub(crate) fn decide_by_body(request: &Request, params: &Params<'_>) -> Result<Era, Refusal> {
    let meta = params.meta();
    if request.method == "initialize" && meta.protocol_version.is_none() {
        return Ok(Era::Handshake);
    }
    if meta.protocol_version.is_none() && request.method != "server/discover" {
        return Ok(Era::Legacy);
    }
    let named = meta.version();
    let version = check_version(named.as_deref(), named.as_deref(), &meta)?;
    if !meta.has_capabilities() {
        return Err(malformed_meta(&["io.modelcontextprotocol/clientCapabilities"]));
    }
    Ok(Era::Modern(version))
}

/// Checks the version header of a message that carries no version of its own (a notification, GET, DELETE) and says
/// whether it claims the modern era.
pub(crate) fn claims_modern(headers: &HeaderMap) -> Result<bool, Refusal> {
    match single(headers, PROTOCOL_VERSION)? {
        None => Ok(false),
        Some(text) => Version::parse(text)
            .map(Version::is_modern)
            .ok_or_else(|| unsupported(text)),
    }
}

fn check_handshake(headers: &HeaderMap, header: Option<&str>, params: &Params<'_>) -> Result<(), Refusal> {
    check_method(headers, "initialize", Presence::Optional)?;
    let asked = params.protocol_version.map(|raw| text("protocolVersion", Some(raw)));
    match (header, asked) {
        (Some(header), Some(Ok(asked))) if header != asked => Err(mismatch(format!(
            "The header MCP-Protocol-Version says `{header}`, the body's protocolVersion `{asked}`."
        ))),
        _ => Ok(()),
    }
}

fn check_version(header: Option<&str>, named: Option<&str>, meta: &Meta<'_>) -> Result<Version, Refusal> {
    let asked = match (header, named) {
        (Some(header), Some(named)) if header != named => {
            return Err(mismatch(format!(
                "The header MCP-Protocol-Version says `{header}`, the body's _meta says `{named}`."
            )));
        }
        (None, Some(_)) => return Err(mismatch("The header MCP-Protocol-Version is missing.".to_owned())),
        (Some(header), None) if Version::parse(header).is_none() => return Err(unsupported(header)),
        (_, None) => {
            let mut missing = vec!["io.modelcontextprotocol/protocolVersion"];
            if !meta.has_capabilities() {
                missing.push("io.modelcontextprotocol/clientCapabilities");
            }
            return Err(malformed_meta(&missing));
        }
        (Some(_), Some(named)) => named,
    };
    Version::parse(asked)
        .filter(|version| version.is_modern())
        .ok_or_else(|| unsupported(asked))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Required,
    Optional,
}

fn check_method(headers: &HeaderMap, method: &str, presence: Presence) -> Result<(), Refusal> {
    match single(headers, METHOD)? {
        None if presence == Presence::Required => Err(mismatch("The header Mcp-Method is missing.".to_owned())),
        Some(header) if header != method => Err(mismatch(format!(
            "The header Mcp-Method says `{header}`, the body says `{method}`."
        ))),
        _ => Ok(()),
    }
}

fn check_name(headers: &HeaderMap, method: &str, params: &Params<'_>) -> Result<(), Refusal> {
    let Some(expected) = header_target(method, params) else {
        return Ok(());
    };
    let Some(header) = single(headers, NAME)? else {
        return Err(mismatch(format!(
            "The header Mcp-Name is missing; `{method}` needs it."
        )));
    };
    let Some(decoded) = decode(header) else {
        return Err(mismatch(
            "The header Mcp-Name is not valid Base64 of UTF-8 text.".to_owned(),
        ));
    };
    if decoded == expected {
        Ok(())
    } else {
        Err(mismatch(format!(
            "The header Mcp-Name says `{decoded}`, the body says `{expected}`."
        )))
    }
}

/// What the header Mcp-Name repeats.
fn header_target<'a>(method: &str, params: &Params<'a>) -> Option<Cow<'a, str>> {
    match method {
        "tasks/get" | "tasks/update" | "tasks/cancel" => text("taskId", Some(params.task_id?)).ok(),
        _ => named_target(method, params),
    }
}

/// What a request is about, for the methods that may ask their client for more.
pub(crate) fn named_target<'a>(method: &str, params: &Params<'a>) -> Option<Cow<'a, str>> {
    let raw: &'a RawValue = match method {
        "tools/call" | "prompts/get" => params.name?,
        "resources/read" => params.uri?,
        _ => return None,
    };
    text("name", Some(raw)).ok()
}

/// The one value of a header. Two of them could be read differently by two readers, so they are refused.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(mismatch(format!("The header {name} is sent more than once.")));
    }
    first.to_str().map(Some).map_err(|_| {
        mismatch(format!(
            "The header {name} holds characters that a header must not have."
        ))
    })
}

pub(crate) fn mismatch(message: String) -> Refusal {
    Refusal::bad(Failure::new(Code::HeaderMismatch, message).hint("Send headers that repeat what the body says."))
}

pub(crate) fn unsupported(asked: &str) -> Refusal {
    let supported: Vec<_> = Version::ALL.iter().rev().map(|version| version.as_str()).collect();
    let asked: String = asked.chars().take(40).collect();
    let failure = Failure::new(
        Code::UnsupportedProtocolVersion,
        format!("Protocol version `{asked}` is not served this way."),
    )
    .hint("Send 2026-07-28 in every request, or open a session with `initialize` for an older version.")
    .details(json!({"supported": supported, "requested": asked}));
    Refusal::bad(failure)
}

fn malformed_meta(missing: &[&str]) -> Refusal {
    Refusal::bad(
        invalid(format!(
            "The request's `_meta` lacks, or has in the wrong shape: {}.",
            missing.join(", ")
        ))
        .hint("Every request of 2026-07-28 names its protocolVersion and clientCapabilities there."),
    )
}

#[cfg(test)]
mod tests;
