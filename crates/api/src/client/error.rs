//! What the gateway refused, or why nobody answered, in one form for all three dialects of errors.

use crate::wire::{PROBLEM_TYPE, Problem};
use forebay_domain::{Code, ErrorKind, Failure};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use std::{error::Error, time::Duration};

/// A failed request: the gateway's own words where it spoke, ours where it did not.
#[derive(Debug, thiserror::Error)]
#[error("{}", problem.detail)]
pub struct ClientError {
    /// With status 0 where no answer came.
    pub problem: Box<Problem>,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ClientError {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        let problem = Problem {
            r#type: format!("{PROBLEM_TYPE}{code}"),
            title: String::new(),
            status: 0,
            detail: detail.into(),
            code: code.as_str().to_owned(),
            hint: None,
            details: None,
            trace_id: None,
            retry_after_s: None,
        };
        Self {
            problem: Box::new(problem),
            source: None,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.problem.hint = Some(hint.into());
        self
    }

    pub(super) fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The connection failed, or broke off.
    pub(super) fn unreached(base: &str, error: reqwest::Error) -> Self {
        let made = if error.is_connect() {
            Self::new(Code::GatewayUnreachable, format!("No gateway answers at {base}."))
                .hint("Start one with `forebay serve`, or say where it is with --url or FOREBAY_URL.")
        } else if error.is_timeout() {
            Self::new(
                Code::UpstreamTimedOut,
                format!("The gateway at {base} did not answer in time."),
            )
            .hint("Try again; `forebay doctor` checks the installation.")
        } else {
            Self::new(
                Code::GatewayUnreachable,
                format!("The gateway at {base} broke off its answer."),
            )
            .hint("It may have been stopped. Try again.")
        };
        made.caused_by(error.without_url())
    }

    /// Something answers there, and it is no gateway of this version.
    pub(super) fn stranger(base: &str, status: StatusCode) -> Self {
        let detail = format!(
            "What answers at {base} (HTTP {}) is not a Forebay gateway of this version.",
            status.as_u16()
        );
        Self::new(Code::GatewayUnreachable, detail).hint("Check the address in --url or FOREBAY_URL.")
    }

    /// Reads an error body in whichever dialect the route speaks; `None` where it is none of ours.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        if let Ok(problem) = serde_json::from_slice::<Problem>(body) {
            return Some(Self {
                problem: Box::new(problem),
                source: None,
            });
        }
        let Foreign { error } = serde_json::from_slice(body).ok()?;
        error.into_client_error()
    }

    /// The code, where this version knows it.
    pub fn code(&self) -> Option<Code> {
        Code::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == self.problem.code)
    }

    pub fn kind(&self) -> ErrorKind {
        self.stand_in().kind()
    }

    /// The code, or the nearest that this version knows, by the status.
    fn stand_in(&self) -> Code {
        self.code().unwrap_or(match self.problem.status {
            401 => Code::InvalidKey,
            402 => Code::SpendingLimitExceeded,
            403 => Code::Forbidden,
            404 => Code::RouteNotFound,
            409 => Code::Conflict,
            429 => Code::RateLimited,
            502 => Code::UpstreamFailed,
            503 => Code::Overloaded,
            504 => Code::UpstreamTimedOut,
            500.. => Code::InternalError,
            _ => Code::InvalidRequest,
        })
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = error.stand_in();
        let ClientError { problem, source } = error;
        let is_callers_own = matches!(
            code.kind(),
            ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Conflict
        );
        // What the caller cannot mend alone is found again under its trace.
        let trace = problem.trace_id.filter(|_| !is_callers_own);
        let trace = trace.map(|id| format!("The gateway recorded it under trace {id}."));
        let hint: Vec<String> = problem.hint.into_iter().chain(trace).collect();
        Self {
            code,
            message: problem.detail,
            hint: (!hint.is_empty()).then(|| hint.join(" ")),
            details: problem.details,
            retry_after: problem.retry_after_s.map(Duration::from_secs),
            source,
        }
    }
}

/// OpenAI's error object, or a JSON-RPC error.
#[derive(Deserialize)]
struct Foreign {
    error: ForeignError,
}

#[derive(Deserialize)]
pub(super) struct ForeignError {
    message: String,
    /// On `/v1`.
    forebay_code: Option<String>,
    /// On the MCP endpoints.
    data: Option<ForeignData>,
}

#[derive(Deserialize)]
struct ForeignData {
    code: Option<String>,
    details: Option<Value>,
}

impl ForeignError {
    /// The sentence has its hint in it already.
    pub(super) fn into_client_error(self) -> Option<ClientError> {
        let (data_code, details) = self.data.map_or((None, None), |data| (data.code, data.details));
        let code = self.forebay_code.or(data_code)?;
        let mut made = ClientError::new(Code::InternalError, self.message);
        made.problem.r#type = format!("{PROBLEM_TYPE}{code}");
        made.problem.code = code;
        made.problem.details = details;
        Some(made)
    }
}
