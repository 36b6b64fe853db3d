//! What goes into a call and what comes out of it, whoever calls: the client as a tool sees it, and how a call ends.
//!
//! A call tells its client things on the way (progress, log messages) and may ask it something. Both travel as
//! [`Emission`]s in one bounded queue, so that their order is kept; how they reach the client is the front's affair.

mod capabilities;
mod client;
mod emission;

pub use capabilities::{Capability, ClientCaps};
pub use client::{AskFault, Client, Thinking};
pub use emission::{Emission, LogLevel, Question, Step};

use forebay_domain::{Code, Failure, port::Via, tool::CallCost};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json, value::RawValue};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Everything about a call but who, what and with which arguments.
#[derive(Debug, Clone)]
pub struct CallContext {
    pub via: Via,
    /// Fires when the caller takes the call back.
    pub cancel: CancellationToken,
    /// How long it may take at most; the tool's own limit where `None`.
    pub deadline: Option<Duration>,
    /// Who is to be told and may be asked.
    pub client: Client,
    /// What a client brings along that was asked before (2026-07-28, multi-round-trip requests).
    pub retry: Option<Retry>,
    /// Where what it costs is told, together with what the calls cost that it is handed on to.
    pub cost: Option<Arc<CallCost>>,
}

/// The answers to what an earlier round asked, and the state it left with the client.
#[derive(Debug, Clone, Default)]
pub struct Retry {
    /// The raw object `inputResponses`.
    pub input_responses: Option<Box<RawValue>>,
    /// The source's own state, checked and unwrapped.
    pub request_state: Option<String>,
}

/// How a call ended, unless it failed.
#[derive(Debug)]
pub enum Outcome {
    Complete(Complete),
    /// It cannot go on without input: a raw `InputRequiredResult`, with the source's own `requestState`.
    InputRequired(Box<RawValue>),
    /// A source that speaks JSON-RPC itself answered with an error, which goes to the client as it is.
    Refused(RpcError),
    /// The caller took it back.
    Cancelled,
}

/// A finished result as the protocol writes it.
#[derive(Debug, Clone)]
pub struct Complete {
    pub raw: Box<RawValue>,
    /// The tool ran and said that it failed.
    pub is_error: bool,
    /// Where it failed beyond what a caller could mend: why, for the record.
    pub failed: Option<Code>,
}

/// The longest message of an error that is passed on, in bytes.
const ERROR_MESSAGE_BYTES_MAX: usize = 8 << 10;

/// A JSON-RPC error object of somebody else's making.
#[derive(Debug, Clone, Deserialize)]
pub struct RpcError {
    pub code: i64,
    #[serde(default, deserialize_with = "bounded")]
    pub message: String,
    #[serde(default)]
    pub data: Option<Box<RawValue>>,
}

/// As much of an error's message as is passed on. It is a sentence; whoever writes more has something else in mind.
fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let mut message = String::deserialize(deserializer)?;
    if message.len() > ERROR_MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(ERROR_MESSAGE_BYTES_MAX));
        message.push('…');
    }
    Ok(message)
}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Self {
        let mut details = json!({"rpcCode": error.code});
        if let Some(data) = error.data {
            details["data"] = serde_json::from_str(data.get()).unwrap_or_default();
        }
        Self::new(Code::UpstreamFailed, error.message).details(details)
    }
}

/// A value as the protocol's raw JSON.
pub fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("a JSON value is JSON")
}
