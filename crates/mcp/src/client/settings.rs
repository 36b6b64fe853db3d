//! What goes into a connection and into a request on it.

use super::{heard::Listener, oauth::OAuth};
use crate::call::{Emission, LogLevel};
use forebay_runtime::{Secret, Tasks};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;
use std::{fmt, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use url::Url;

/// Where an upstream is.
pub enum Target {
    /// The two ends of a pipe. Whose they are (a child process, a socket) is somebody else's affair.
    Pipe {
        reader: Box<dyn AsyncRead + Send + Unpin>,
        writer: Box<dyn AsyncWrite + Send + Unpin>,
    },
    Http(Box<HttpTarget>),
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pipe { .. } => f.write_str("Pipe"),
            Self::Http(target) => target.fmt(f),
        }
    }
}

/// An upstream that the operator configured by its URL.
#[derive(Debug, Clone)]
pub struct HttpTarget {
    pub url: Url,
    /// Follows no redirects, so that no credential travels to another host.
    pub client: reqwest::Client,
    pub credential: Credential,
    /// Further headers that the operator wants sent along. They never replace those of the protocol.
    pub headers: HeaderMap,
}

/// What the gateway shows an upstream: always its own, since there is no way to hand in a caller's.
#[derive(Debug, Clone)]
pub enum Credential {
    None,
    Bearer(Secret),
    Header(HeaderName, Secret),
    OAuth(OAuth),
}

/// Which era to open with, and over which transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Find out: `server/discover`, then `initialize`, then HTTP+SSE.
    #[default]
    Auto,
    /// `initialize` only.
    Legacy,
    /// `server/discover` only.
    Modern,
    /// `initialize` over HTTP+SSE, as of 2024-11-05. Over a pipe it is the same as `Legacy`.
    Sse,
}

/// How we introduce ourselves.
#[derive(Debug, Clone)]
pub struct Hello {
    pub mode: Mode,
    /// The raw `Implementation` object.
    pub client_info: Box<RawValue>,
    /// The raw `ClientCapabilities` object; a request may bring its own in the modern era.
    pub capabilities: Box<RawValue>,
}

/// Whose requests share a connection. Over a pipe the older versions do not say which request a question or a log
/// message belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenancy {
    /// All of one caller: such a message goes to the newest request under way.
    OneCaller,
    /// Of several callers: it goes to none of them, so that nobody hears somebody else's.
    ManyCallers,
}

/// What a connection needs beside its target.
#[derive(Debug, Clone)]
pub struct Parts {
    pub tasks: Tasks,
    pub listener: Listener,
    pub tenancy: Tenancy,
    pub limits: Limits,
}

/// Bounds on one connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest message of the upstream.
    pub message_bytes_max: usize,
    /// Requests under way at once; further ones wait.
    pub under_way_max: usize,
    /// How long an upstream may take to answer `server/discover` before it is taken for one that does not know it.
    pub probe_wait: Duration,
    /// How long opening may take as a whole.
    pub opening_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 16 << 20,
            under_way_max: 256,
            probe_wait: Duration::from_secs(10),
            opening_wait: Duration::from_mins(1),
        }
    }
}

/// What goes with one request.
#[derive(Debug)]
pub struct Hooks {
    /// Takes the request back; so does dropping its future.
    pub cancel: CancellationToken,
    /// For the whole of the request.
    pub timeout: Duration,
    /// Where to send what the upstream says on the way. A full queue loses progress and log messages.
    pub emissions: Option<mpsc::Sender<Emission>>,
    /// The token of its progress, where that goes on after the answer; else it is the request's own.
    pub token: Option<u64>,
    /// A W3C `traceparent`.
    pub trace: Option<String>,
    /// The least severe log message wanted, in the modern era.
    pub log_level: Option<LogLevel>,
    /// The capabilities of whoever asks, in the modern era.
    pub caps: Option<Box<RawValue>>,
    /// `Mcp-Param-*`, in the modern era over HTTP.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Hooks {
    pub fn within(timeout: Duration) -> Self {
        Self {
            cancel: CancellationToken::new(),
            timeout,
            emissions: None,
            token: None,
            trace: None,
            log_level: None,
            caps: None,
            headers: Vec::new(),
        }
    }
}
