//! Messages of an upstream, read and written. What passes through stays the bytes that came.
//!
//! Reading refuses repeated keys, batches without end, answers that are neither result nor error, and results that are
//! no objects. Writing touches `params._meta` and nothing else: it takes out what belongs to one hop (version,
//! capabilities, progress token) and puts in our own.

use crate::{
    call::{LogLevel, RpcError},
    envelope::Id,
    era::Version,
    raw::Members,
};
use bytes::Bytes;
use forebay_domain::{Code, json::check_strict};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};
use std::borrow::Cow;

/// Elements of a batch (2025-03-26) that are read.
const BATCH_MAX: usize = 256;

/// One message of an upstream.
#[derive(Debug)]
pub(super) enum Arrived {
    Answer {
        /// Absent where it is none of ours: all our ids are whole numbers.
        id: Option<u64>,
        outcome: Result<Box<RawValue>, RpcError>,
    },
    Request {
        id: Id,
        method: String,
        params: Option<Box<RawValue>>,
    },
    Notification {
        method: String,
        params: Option<Box<RawValue>>,
    },
}

/// A message that cannot be used, and the request that it would have answered, where that can be told.
#[derive(Debug)]
pub(super) struct Unreadable {
    /// In our words: nothing of the message itself, which nobody has to see in a log.
    pub(super) why: &'static str,
    pub(super) id: Option<u64>,
}

impl Unreadable {
    fn new(why: &'static str, id: Option<u64>) -> Self {
        Self { why, id }
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    jsonrpc: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    params: Option<Box<RawValue>>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<RpcError>,
}

/// Tells `null` from absent, which `Option` alone does not.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads a body, a line or an event, and hands out each message in it.
pub(super) fn read(bytes: &[u8], mut take: impl FnMut(Result<Arrived, Unreadable>)) {
    if let Err(failure) = check_strict(bytes) {
        let why = match failure.code {
            Code::DuplicateKey => "a message names a key twice",
            Code::JsonTooDeep => "a message nests too deep",
            _ => "a message is no JSON",
        };
        return take(Err(Unreadable::new(why, id_within(bytes))));
    }
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => take(one(bytes)),
        Some(b'[') => match serde_json::from_slice::<Vec<&RawValue>>(bytes) {
            Ok(elements) if elements.len() <= BATCH_MAX => {
                for element in elements {
                    take(one(element.get().as_bytes()));
                }
            }
            Ok(_) | Err(_) => take(Err(Unreadable::new("a batch is too long", None))),
        },
        Some(_) | None => take(Err(Unreadable::new("a message is no JSON object", None))),
    }
}

fn one(bytes: &[u8]) -> Result<Arrived, Unreadable> {
    let wire: Wire<'_> = serde_json::from_slice(bytes)
        .map_err(|_| Unreadable::new("a message is no JSON-RPC message", id_within(bytes)))?;
    let ours = wire.id.and_then(|raw| raw.get().parse().ok());
    let refused = |why: &'static str| Err(Unreadable::new(why, ours));
    if wire.jsonrpc.as_deref() != Some("2.0") {
        return refused("a message lacks `\"jsonrpc\":\"2.0\"`");
    }
    match (wire.method, wire.id, wire.result, wire.error) {
        (Some(method), None, None, None) => Ok(Arrived::Notification {
            method,
            params: wire.params,
        }),
        (Some(method), Some(id), None, None) => match Id::parse(id.get()) {
            Some(id) => Ok(Arrived::Request {
                id,
                method,
                params: wire.params,
            }),
            None => refused("the id of a request is neither a string nor an integer"),
        },
        (None, Some(_), Some(result), None) if result.get().starts_with('{') => Ok(Arrived::Answer {
            id: ours,
            outcome: Ok(result.to_owned()),
        }),
        (None, Some(_), Some(_), None) => refused("a result is no object"),
        (None, _, None, Some(error)) => Ok(Arrived::Answer {
            id: ours,
            outcome: Err(error),
        }),
        _ => refused("a message is neither request nor notification nor answer"),
    }
}

/// The id of a message that cannot be used otherwise. Read leniently: at worst an upstream fails another of its own
/// requests with it.
pub(super) fn id_within(bytes: &[u8]) -> Option<u64> {
    head_id(bytes).or_else(|| tail_id(bytes))
}

/// An id that stands before the place where the reading fails.
fn head_id(bytes: &[u8]) -> Option<u64> {
    struct Seen<'s>(&'s mut Option<u64>);
    impl<'de> serde::de::DeserializeSeed<'de> for Seen<'_> {
        type Value = ();
        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
            deserializer.deserialize_map(self)
        }
    }
    impl<'de> serde::de::Visitor<'de> for Seen<'_> {
        type Value = ();
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key::<String>()? {
                if key == "id" {
                    *self.0 = Some(map.next_value()?);
                } else {
                    map.next_value::<serde::de::IgnoredAny>()?;
                }
            }
            Ok(())
        }
    }
    let mut id = None;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    // The error is known already; only what was seen before it counts.
    let _broken = serde::de::DeserializeSeed::deserialize(Seen(&mut id), &mut reader);
    id
}

/// An id that stands at the very end, where some SDKs write it.
fn tail_id(bytes: &[u8]) -> Option<u64> {
    const TAIL_BYTES: usize = 64;
    let tail = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
    let tail = String::from_utf8_lossy(tail);
    let (_, after) = tail.rsplit_once("\"id\"")?;
    after
        .trim()
        .strip_prefix(':')?
        .trim()
        .strip_suffix('}')?
        .trim()
        .parse()
        .ok()
}

/// What we put into a request's `_meta`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stamp<'a> {
    /// Our own progress token, put where the caller had one.
    pub(super) progress: Option<u64>,
    pub(super) modern: Option<Modern<'a>>,
    pub(super) trace: Option<&'a str>,
}

/// What every request of the modern era carries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Modern<'a> {
    pub(super) version: Version,
    pub(super) client_info: &'a RawValue,
    pub(super) capabilities: &'a RawValue,
    pub(super) log_level: Option<LogLevel>,
}

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
const PROGRESS_TOKEN: &str = "progressToken";
const TRACE: &str = "traceparent";

/// Members of `_meta` that belong to one hop: a caller's own never reach an upstream.
const OF_ONE_HOP: [&str; 5] = [VERSION, CLIENT_INFO, CAPABILITIES, LOG_LEVEL, PROGRESS_TOKEN];

pub(super) fn request(id: u64, method: &str, params: Option<&RawValue>, stamp: &Stamp<'_>) -> Bytes {
    let params = params.map_or("{}", RawValue::get);
    let mut out = String::with_capacity(params.len() + 512);
    out.push_str(r#"{"jsonrpc":"2.0","id":"#);
    out.push_str(&id.to_string());
    out.push_str(r#","method":"#);
    out.push_str(&quoted(method));
    out.push_str(r#","params":"#);
    write_params(&mut out, params, stamp);
    out.push('}');
    out.into()
}

pub(super) fn notification(method: &str, params: Option<&RawValue>) -> Bytes {
    let method = quoted(method);
    match params {
        Some(params) => format!(r#"{{"jsonrpc":"2.0","method":{method},"params":{params}}}"#).into(),
        None => format!(r#"{{"jsonrpc":"2.0","method":{method}}}"#).into(),
    }
}

pub(super) fn cancelled(id: u64, reason: &str) -> Bytes {
    let reason = quoted(reason);
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":{reason}}}}}"#)
        .into()
}

/// The answer to a question of the upstream.
pub(super) fn answer(id: &Id, outcome: &Result<Box<RawValue>, RpcError>) -> Bytes {
    match outcome {
        Ok(result) => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into(),
        Err(error) => {
            let (code, message) = (error.code, quoted(&error.message));
            let data = error
                .data
                .as_ref()
                .map_or(String::new(), |data| format!(r#","data":{data}"#));
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message}{data}}}}}"#).into()
        }
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'a RawValue>,
}

/// Whether the caller asked for progress.
pub(super) fn wants_progress(params: Option<&RawValue>) -> bool {
    let meta = params.and_then(|params| meta_of(params.get()));
    meta.and_then(Members::of)
        .is_some_and(|meta| meta.get(PROGRESS_TOKEN).is_some())
}

fn meta_of(params: &str) -> Option<&RawValue> {
    // A look before a whole reading. A key can be written with escapes too, so those need the reading as well.
    if !params.contains("\"_meta\"") && !params.contains("\\u") {
        return None;
    }
    serde_json::from_str::<Head<'_>>(params).ok()?.meta
}

/// Writes the parameters with `_meta` replaced in its place, or put in front where there was none.
fn write_params(out: &mut String, params: &str, stamp: &Stamp<'_>) {
    let old = meta_of(params);
    let Some(meta) = stamped(old, stamp) else {
        out.push_str(params);
        return;
    };
    if let Some(old) = old {
        let start = old.get().as_ptr().addr() - params.as_ptr().addr();
        out.push_str(&params[..start]);
        out.push_str(meta.get());
        out.push_str(&params[start + old.get().len()..]);
    } else {
        let rest = params.trim_start().strip_prefix('{').unwrap_or("}");
        out.push_str(r#"{"_meta":"#);
        out.push_str(meta.get());
        if !rest.trim_start().starts_with('}') {
            out.push(',');
        }
        out.push_str(rest);
    }
}

/// The new `_meta`; nothing where the old one can stay as it is.
fn stamped(old: Option<&RawValue>, stamp: &Stamp<'_>) -> Option<Box<RawValue>> {
    let mut meta = old.and_then(Members::of).unwrap_or_else(|| Members(Vec::new()));
    let count = meta.0.len();
    meta.0.retain(|(key, _)| !OF_ONE_HOP.contains(&&**key));
    let mut changed = meta.0.len() != count;
    let mut put = |name: &'static str, value: String| {
        changed = true;
        meta.set(name, value);
    };
    if let Some(modern) = stamp.modern {
        put(VERSION, quoted(modern.version.as_str()));
        put(CLIENT_INFO, modern.client_info.get().to_owned());
        put(CAPABILITIES, modern.capabilities.get().to_owned());
        if let Some(level) = modern.log_level {
            put(LOG_LEVEL, quoted(level.as_str()));
        }
    }
    if let Some(token) = stamp.progress {
        put(PROGRESS_TOKEN, token.to_string());
    }
    if let Some(trace) = stamp.trace {
        put(TRACE, quoted(trace));
    }
    changed.then(|| meta.write())
}

#[cfg(test)]
mod tests;
