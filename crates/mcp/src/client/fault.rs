//! Why something with an upstream failed: one variant for each thing that a caller may act on.
//!
//! An error that the upstream itself answered is kept as it came, so that it can be handed on untouched. What an
//! upstream says beside that is shown only in part: status codes and our own words, never its bodies.

use crate::call::RpcError;
use forebay_domain::{Code, Failure};
use serde_json::json;
use std::time::Duration;

type Cause = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum ClientFault {
    /// It answered with a JSON-RPC error, which can be handed on as it is.
    #[error("it answered with the error {}: {}", .0.code, .0.message)]
    Refused(RpcError),
    /// It has forgotten the session: open another connection and ask again.
    #[error("it has forgotten the session")]
    SessionExpired,
    /// It wants other credentials than it got.
    #[error("it refused the gateway's credentials: {0}")]
    Unauthorized(String),
    /// It asks to be left alone for a while.
    #[error("it takes no requests for now (status {status})")]
    Busy { status: u16, retry_after: Option<Duration> },
    #[error("it did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// A message of it is longer than the bound. The connection goes on where that is possible.
    #[error("it sent a message of more than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    /// No connection came about: nothing was sent, so asking again does no harm.
    #[error("it cannot be reached: {what}")]
    Unreachable {
        what: String,
        #[source]
        source: Option<Cause>,
    },
    /// The connection broke: the request may have run.
    #[error("the connection broke: {what}")]
    Broken {
        what: String,
        #[source]
        source: Option<Cause>,
    },
    /// It does not keep to the protocol.
    #[error("it breaks the protocol: {0}")]
    Protocol(String),
    /// There is no protocol version that both sides speak.
    #[error("it speaks `{0}`, which is no version of the protocol that is spoken here")]
    Version(String),
    /// The caller took the request back.
    #[error("the request was taken back")]
    Cancelled,
    /// It ended when it was asked which versions it speaks. Start it again and open with [`super::Mode::Legacy`].
    #[error("it ended when it was asked for its protocol versions")]
    EndedOnProbe,
    /// What the operator configured for it cannot be used.
    #[error("its configuration cannot be used: {0}")]
    Misconfigured(String),
}

impl ClientFault {
    pub(super) fn broken(what: impl Into<String>) -> Self {
        Self::Broken {
            what: what.into(),
            source: None,
        }
    }

    /// Sorts what the HTTP client says: only a failed connect proves that nothing was sent.
    pub(super) fn of_http(error: reqwest::Error) -> Self {
        let (connect, timeout) = (error.is_connect(), error.is_timeout());
        let source = Some(Cause::from(error.without_url()));
        match (connect, timeout) {
            (true, true) => Self::Unreachable {
                what: "no connection in time".to_owned(),
                source,
            },
            (true, false) => Self::Unreachable {
                what: "no connection".to_owned(),
                source,
            },
            (false, _) => Self::Broken {
                what: "the exchange broke off".to_owned(),
                source,
            },
        }
    }

    /// As the failure of a call, naming the server by what people call it.
    pub fn into_failure(self, server: &str) -> Failure {
        let message = format!("The MCP server `{server}` failed: {self}.");
        let failure = Failure::new(self.code(), message);
        match self {
            Self::Refused(error) => failure.details(json!({"code": error.code, "message": error.message})),
            Self::Busy { retry_after, .. } => match retry_after {
                Some(after) => failure.retry_after(after),
                None => failure.hint("Try again later."),
            },
            Self::TimedOut(_) => failure.hint("It may have run all the same. Try again, or allow it more time."),
            Self::TooLarge { .. } => failure.hint("Ask for less at a time."),
            Self::Unreachable { source, .. } => with_cause(failure, source).hint("Nothing was sent. Try again."),
            Self::Broken { source, .. } => with_cause(failure, source).hint("The request may have run. Try again."),
            Self::SessionExpired => failure.hint("Try again."),
            Self::Unauthorized(_) | Self::Misconfigured(_) => {
                failure.hint("An administrator has to check this server's `auth` and `url` in the configuration.")
            }
            Self::Protocol(_) | Self::Version(_) | Self::EndedOnProbe => {
                failure.hint("An administrator has to look at this server.")
            }
            Self::Cancelled => failure,
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::TimedOut(_) => Code::UpstreamTimedOut,
            Self::TooLarge { .. } => Code::ResultTooLarge,
            Self::Cancelled => Code::Cancelled,
            Self::Refused(_)
            | Self::SessionExpired
            | Self::Unauthorized(_)
            | Self::Busy { .. }
            | Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::Protocol(_)
            | Self::Version(_)
            | Self::EndedOnProbe
            | Self::Misconfigured(_) => Code::UpstreamFailed,
        }
    }
}

fn with_cause(failure: Failure, source: Option<Cause>) -> Failure {
    match source {
        Some(source) => failure.caused_by(source),
        None => failure,
    }
}
