//! What the answers of an opening say about an upstream: pure decisions, no I/O.

use super::{ClientFault, core::empty};
use crate::{call::RpcError, era::Version};
use serde::Deserialize;
use serde_json::value::RawValue;

pub(super) const MODERN: Version = Version::V2026_07_28;

const HEADER_MISMATCH: i64 = -32020;
const MISSING_CAPABILITY: i64 = -32021;
const UNSUPPORTED_VERSION: i64 = -32022;

/// What an upstream says of itself.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) version: Version,
    pub(super) capabilities: Box<RawValue>,
    pub(super) server_info: Option<Box<RawValue>>,
    pub(super) instructions: Option<String>,
}

/// What the question for the modern era found.
pub(super) enum Found {
    Modern(Peer),
    /// A server of before, and what it said.
    Older(ClientFault),
}

impl Found {
    pub(super) fn or_fault(self) -> Result<Peer, ClientFault> {
        match self {
            Self::Modern(peer) => Ok(peer),
            Self::Older(fault) => Err(fault),
        }
    }
}

/// Reads the answer to `initialize`. A version without that handshake is a lie, an unknown one is of no use.
pub(super) fn introduced(answer: &RawValue) -> Result<Peer, ClientFault> {
    let said: Initialized = serde_json::from_str(answer.get())
        .map_err(|_| ClientFault::Protocol("it answered the handshake with something else".to_owned()))?;
    let version = Version::parse(&said.protocol_version)
        .filter(|version| !version.is_modern())
        .ok_or_else(|| ClientFault::Version(shortened(&said.protocol_version)))?;
    Ok(Peer {
        version,
        capabilities: object_or_empty(said.capabilities),
        server_info: said.server_info,
        instructions: said.instructions,
    })
}

/// Whether a handshake failed because nothing at that address takes messages.
pub(super) fn nobody_takes_messages(fault: &ClientFault) -> bool {
    match fault {
        ClientFault::Protocol(_) | ClientFault::SessionExpired => true,
        ClientFault::Refused(_)
        | ClientFault::Unauthorized(_)
        | ClientFault::Busy { .. }
        | ClientFault::TimedOut(_)
        | ClientFault::TooLarge { .. }
        | ClientFault::Unreachable { .. }
        | ClientFault::Broken { .. }
        | ClientFault::Version(_)
        | ClientFault::Cancelled
        | ClientFault::EndedOnProbe
        | ClientFault::Misconfigured(_) => false,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialized {
    protocol_version: String,
    capabilities: Option<Box<RawValue>>,
    server_info: Option<Box<RawValue>>,
    instructions: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Discovered {
    supported_versions: Vec<String>,
    capabilities: Option<Box<RawValue>>,
    instructions: Option<String>,
    server_info: Option<Box<RawValue>>,
    #[serde(rename = "_meta")]
    meta: Option<DiscoveredMeta>,
}

#[derive(Deserialize)]
struct DiscoveredMeta {
    #[serde(rename = "io.modelcontextprotocol/serverInfo")]
    server_info: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Supported {
    #[serde(default)]
    supported: Vec<String>,
}

fn supported(error: &RpcError) -> Vec<String> {
    let data = error.data.as_ref();
    let named: Option<Supported> = data.and_then(|data| serde_json::from_str(data.get()).ok());
    named.map_or(Vec::new(), |named| named.supported)
}

pub(super) fn refuses_what_it_supports(answer: &Result<Box<RawValue>, ClientFault>) -> bool {
    match answer {
        Err(ClientFault::Refused(error)) if error.code == UNSUPPORTED_VERSION => {
            supported(error).iter().any(|version| version == MODERN.as_str())
        }
        Ok(_) | Err(_) => false,
    }
}

/// Decides what the answer to `server/discover` says about the era.
pub(super) fn sort(answer: Result<Box<RawValue>, ClientFault>) -> Result<Found, ClientFault> {
    match answer {
        Ok(result) => sort_result(&result),
        Err(ClientFault::Refused(error)) => match error.code {
            UNSUPPORTED_VERSION => choose(&supported(&error)),
            HEADER_MISMATCH | MISSING_CAPABILITY => Err(ClientFault::Refused(error)),
            _ => Ok(Found::Older(ClientFault::Refused(error))),
        },
        Err(fault) => match fault {
            // Among them a status of 500, which some older servers answer to what they do not know.
            ClientFault::Broken { source: None, .. }
            | ClientFault::Protocol(_)
            | ClientFault::TimedOut(_)
            | ClientFault::SessionExpired
            | ClientFault::TooLarge { .. } => Ok(Found::Older(fault)),
            ClientFault::Refused(_)
            | ClientFault::Unauthorized(_)
            | ClientFault::Busy { .. }
            | ClientFault::Unreachable { .. }
            | ClientFault::Broken { .. }
            | ClientFault::Version(_)
            | ClientFault::Cancelled
            | ClientFault::EndedOnProbe
            | ClientFault::Misconfigured(_) => Err(fault),
        },
    }
}

fn sort_result(result: &RawValue) -> Result<Found, ClientFault> {
    let Ok(said) = serde_json::from_str::<Discovered>(result.get()) else {
        return Ok(Found::Older(ClientFault::Protocol(
            "it answered `server/discover` with something else".to_owned(),
        )));
    };
    if !said.supported_versions.iter().any(|version| version == MODERN.as_str()) {
        return choose(&said.supported_versions);
    }
    let in_meta = said.meta.and_then(|meta| meta.server_info);
    Ok(Found::Modern(Peer {
        version: MODERN,
        capabilities: object_or_empty(said.capabilities),
        server_info: in_meta.or(said.server_info),
        instructions: said.instructions,
    }))
}

/// What follows from the versions that a server says it speaks, where it does not speak ours.
fn choose(supported: &[String]) -> Result<Found, ClientFault> {
    let all = shortened(&supported.join(", "));
    let older = supported
        .iter()
        .filter_map(|version| Version::parse(version))
        .any(|version| !version.is_modern());
    if older {
        Ok(Found::Older(ClientFault::Version(all)))
    } else {
        Err(ClientFault::Version(all))
    }
}

fn object_or_empty(raw: Option<Box<RawValue>>) -> Box<RawValue> {
    raw.filter(|raw| raw.get().starts_with('{')).unwrap_or_else(empty)
}

/// What an upstream says is shown in part, and without what would act on a terminal.
fn shortened(text: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn check(answer: Result<&str, (i64, Option<&str>)>) -> &'static str {
        let answer = answer.map(raw).map_err(|(code, data)| {
            ClientFault::Refused(RpcError {
                code,
                message: String::new(),
                data: data.map(raw),
            })
        });
        match sort(answer) {
            Ok(Found::Modern(_)) => "modern",
            Ok(Found::Older(_)) => "older",
            Err(ClientFault::Version(_)) => "no version",
            Err(_) => "fault",
        }
    }

    #[test]
    fn only_what_no_modern_server_says_leads_back_to_the_handshake() {
        for (answer, expected) in [
            (
                Ok(r#"{"supportedVersions":["2026-07-28"],"capabilities":{}}"#),
                "modern",
            ),
            (Ok(r#"{"supportedVersions":["2099-01-01","2026-07-28"]}"#), "modern"),
            (Ok(r#"{"supportedVersions":["2025-11-25"]}"#), "older"),
            (Ok(r#"{"supportedVersions":["2099-01-01"]}"#), "no version"),
            (Ok(r#"{"supportedVersions":[]}"#), "no version"),
            (Ok(r#"{"content":[]}"#), "older"),
            (Err((-32601, None)), "older"),
            (Err((-32602, None)), "older"),
            (Err((-32000, Some(r#""odd""#))), "older"),
            (Err((-32022, Some(r#"{"supported":["2025-06-18"]}"#))), "older"),
            (Err((-32022, Some(r#"{"supported":["2099-01-01"]}"#))), "no version"),
            (Err((-32022, Some(r#"{"supported":["2026-07-28"]}"#))), "no version"),
            (Err((-32022, None)), "no version"),
            (Err((-32020, None)), "fault"),
            (Err((-32021, None)), "fault"),
        ] {
            assert_eq!(check(answer), expected, "{answer:?}");
        }
    }
}
