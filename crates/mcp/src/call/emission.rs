//! What a call says to its client on the way.

use super::{RpcError, raw};
use forebay_domain::{Code, Failure};
use serde_json::{json, value::RawValue};
use std::{fmt, str::FromStr};
use tokio::sync::oneshot;

/// One thing that a call in progress says to its client.
#[derive(Debug)]
pub enum Emission {
    /// The params of `notifications/progress`; the front puts the client's own token in.
    Progress(Box<RawValue>),
    /// The params of `notifications/message`.
    Log(Box<RawValue>),
    /// Any other notification, as it came.
    Notification { method: String, params: Box<RawValue> },
    /// A request to the client: `sampling/createMessage`, `elicitation/create`, `roots/list`.
    Question(Question),
    /// The connection may be closed for now: a client of 2025-11-25 comes back for the rest by itself.
    Hangup,
}

/// A request that waits for the client's answer. Dropping it answers that nobody will.
#[derive(Debug)]
pub struct Question {
    pub method: String,
    pub params: Option<Box<RawValue>>,
    pub reply: oneshot::Sender<Result<Box<RawValue>, RpcError>>,
}

/// The severity of a log message, after RFC 5424.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl LogLevel {
    pub const ALL: [Self; 8] = [
        Self::Debug,
        Self::Info,
        Self::Notice,
        Self::Warning,
        Self::Error,
        Self::Critical,
        Self::Alert,
        Self::Emergency,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Alert => "alert",
            Self::Emergency => "emergency",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogLevel {
    type Err = Failure;
    fn from_str(text: &str) -> Result<Self, Failure> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| {
                let known = Self::ALL.map(Self::as_str).join(", ");
                Failure::new(Code::InvalidParams, format!("`level` must be one of {known}."))
            })
    }
}

/// One report of progress.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Grows with every report.
    pub progress: f64,
    pub total: Option<f64>,
    pub message: Option<String>,
}

impl Step {
    pub(super) fn into_raw(self) -> Box<RawValue> {
        let mut params = json!({"progress": self.progress});
        if let Some(total) = self.total {
            params["total"] = json!(total);
        }
        if let Some(message) = self.message {
            params["message"] = json!(message);
        }
        raw(&params)
    }
}
