//! The few parameters that the front itself reads; everything else stays raw.

use crate::call::{ClientCaps, LogLevel};
use bytes::Bytes;
use forebay_domain::{Code, Failure, id::TraceId};
use forebay_runtime::telemetry::TraceContext;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{borrow::Cow, sync::Arc};

/// `params._meta`, as far as the front acts on it.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
pub(crate) struct Meta<'a> {
    #[serde(borrow, default, rename = "io.modelcontextprotocol/protocolVersion")]
    pub(crate) protocol_version: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "io.modelcontextprotocol/clientCapabilities")]
    pub(crate) client_capabilities: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "progressToken")]
    pub(crate) progress_token: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "io.modelcontextprotocol/logLevel")]
    pub(crate) log_level: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) traceparent: Option<&'a RawValue>,
    /// What a client of the tasks extension says that will not wait for its call.
    #[serde(borrow, default, rename = "io.forebay/task")]
    pub(crate) task: Option<&'a RawValue>,
}

impl Meta<'_> {
    /// The version that the message names for itself, where it names one at all.
    pub(crate) fn version(&self) -> Option<String> {
        serde_json::from_str(self.protocol_version?.get()).ok()
    }

    pub(crate) fn has_capabilities(&self) -> bool {
        self.client_capabilities.is_some_and(|raw| raw.get().starts_with('{'))
    }

    /// What the client of 2026-07-28 declares.
    pub(crate) fn caps(&self) -> Arc<ClientCaps> {
        declared(self.client_capabilities)
    }

    /// The least severe log message that this request wants.
    pub(crate) fn log_level(&self) -> Result<Option<LogLevel>, Failure> {
        let read = |raw| text("io.modelcontextprotocol/logLevel", Some(raw)).and_then(|level| level.parse());
        self.log_level.map(read).transpose()
    }

    /// The trace in which the client sees this request. What is not well-formed counts as absent.
    pub(crate) fn trace(&self) -> Option<TraceId> {
        let value = text("traceparent", self.traceparent).ok()?;
        TraceContext::parse(&value).map(|place| place.trace)
    }

    /// The token under which progress is reported: a string or a number, as JSON text.
    pub(crate) fn progress_token(&self) -> Option<Box<str>> {
        let raw = self.progress_token?.get();
        let starts = raw.starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit());
        starts.then(|| raw.into())
    }
}

/// The parameters that standard methods name, all of them optional here.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Params<'a> {
    #[serde(borrow, default, rename = "_meta")]
    pub(crate) meta: Option<Meta<'a>>,
    #[serde(borrow, default)]
    pub(crate) name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) uri: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) cursor: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) arguments: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "protocolVersion")]
    pub(crate) protocol_version: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "requestId")]
    pub(crate) request_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) capabilities: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) level: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) notifications: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "inputResponses")]
    pub(crate) input_responses: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "requestState")]
    pub(crate) request_state: Option<&'a RawValue>,
    /// What makes a call a task in 2025-11-25, and nothing in any other version.
    #[serde(borrow, default)]
    pub(crate) task: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "taskId")]
    pub(crate) task_id: Option<&'a RawValue>,
}

impl<'a> Params<'a> {
    pub(crate) fn read(params: Option<&'a Bytes>) -> Result<Self, Failure> {
        let Some(bytes) = params else {
            return Ok(Self::default());
        };
        serde_json::from_slice(bytes).map_err(|error| invalid(format!("The parameters have the wrong shape: {error}.")))
    }

    pub(crate) fn meta(&self) -> Meta<'a> {
        self.meta.unwrap_or_default()
    }
}

/// The capabilities of a client, where it declared any.
pub(crate) fn declared(raw: Option<&RawValue>) -> Arc<ClientCaps> {
    match raw {
        Some(raw) if raw.get() != "{}" => Arc::new(ClientCaps::new(raw)),
        Some(_) | None => Arc::default(),
    }
}

/// The params as they were sent.
pub(crate) fn whole(params: Option<&Bytes>) -> Option<&RawValue> {
    serde_json::from_slice(params?).ok()
}

/// Reads a parameter that has to be a string.
pub(crate) fn text<'a>(name: &str, value: Option<&'a RawValue>) -> Result<Cow<'a, str>, Failure> {
    let raw = value.ok_or_else(|| invalid(format!("`{name}` is required.")))?.get();
    let plain = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match plain {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        _ => serde_json::from_str::<String>(raw)
            .map(Cow::Owned)
            .map_err(|_| invalid(format!("`{name}` must be a string."))),
    }
}

pub(crate) fn invalid(message: String) -> Failure {
    Failure::new(Code::InvalidParams, message)
}
