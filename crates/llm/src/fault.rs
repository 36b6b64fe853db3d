//! What goes wrong with an engine, in the gateway's own words.
//!
//! A caller learns the model and the position of the backend, never its address or its key. The engine's own words are
//! shown where the request was at fault, and kept to `details` elsewhere: they may repeat what was asked, and messages
//! of our own failures are logged.

use crate::{answer, settings::Model};
use forebay_domain::{Code, Failure, model::Endpoint};
use forebay_runtime::http::engines::{Answer, SendFault};
use http::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use serde_json::{Value, json};
use std::{fmt, sync::Arc, time::Duration};

const ERROR_BODY_BYTES_MAX: usize = 64 << 10;
const ERROR_BODY_WAIT: Duration = Duration::from_secs(5);
const WORDS_BYTES_MAX: usize = 2_000;
const RETRY_AFTER_S_MAX: u64 = 86_400;

/// One backend of one model, as people know it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) model: Arc<Model>,
    /// Its position among the model's backends.
    pub(crate) backend: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Backend {} of model `{}`", self.backend, self.model.name)
    }
}

impl Place {
    /// A failure of this backend: the sentence goes on after its name.
    pub(crate) fn fails(&self, code: Code, how: impl fmt::Display) -> Failure {
        Failure::new(code, format!("{self} {how}.")).details(self.details(None, None))
    }

    fn details(&self, status: Option<StatusCode>, words: Option<&str>) -> Value {
        let mut details = json!({ "model": self.model.name, "backend": self.backend });
        if let Some(status) = status {
            details["status"] = status.as_u16().into();
        }
        if let Some(words) = words {
            details["engine_message"] = words.into();
        }
        details
    }

    /// The connection failed while the engine may have been at work.
    pub(crate) fn lost(&self, error: SendFault) -> Failure {
        let failure = if error.is_timeout() {
            self.fails(Code::UpstreamTimedOut, "did not answer in time")
        } else {
            self.fails(Code::UpstreamFailed, "closed the connection before it answered")
        };
        failure.hint("Try again.").caused_by(error)
    }

    /// The answer had begun, and broke off.
    pub(crate) fn truncated(&self, how: impl fmt::Display) -> Failure {
        self.fails(Code::UpstreamTruncated, how)
            .hint("What came so far is incomplete. Try again.")
    }

    pub(crate) fn timed_out(&self, what: impl fmt::Display, limit: Duration, key: &str) -> Failure {
        self.fails(
            Code::UpstreamTimedOut,
            format_args!("{what} within {} s", limit.as_secs()),
        )
        .hint(format!(
            "Try again, or ask an administrator to raise `models.{}.timeouts.{key}`.",
            self.model.name
        ))
    }

    /// Status 200, and an error inside.
    pub(crate) fn reported(&self, words: Option<String>) -> Failure {
        let words = words.map(|words| self.presentable(&words));
        self.fails(Code::UpstreamFailed, "reported an error instead of an answer")
            .hint("Try again; if it stays so, look at the engine's log.")
            .details(self.details(None, words.as_deref()))
    }

    /// The engine's words without control characters, of bounded length, and without our key should it repeat it.
    fn presentable(&self, words: &str) -> String {
        let credential = self.model.backends[self.backend].credential.as_ref();
        let mut words = match credential {
            Some(credential) => words.replace(credential.secret.expose(), "[redacted]"),
            None => words.to_owned(),
        };
        words.truncate(words.floor_char_boundary(WORDS_BYTES_MAX));
        words.replace(char::is_control, " ")
    }

    /// An answer with a status that is no success.
    pub(crate) async fn refused(&self, response: Answer, endpoint: Endpoint) -> Failure {
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let words = match status {
            // An engine that rejects our key may well repeat it in part.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => None,
            _ => read_words(response).await.map(|words| self.presentable(&words)),
        };
        let mut failure = if lacks(status, endpoint) {
            self.cannot(status, endpoint)
        } else {
            self.explain(status, words.as_deref())
        };
        failure.details = Some(self.details(Some(status), words.as_deref()));
        match retry_after {
            Some(after) => failure.retry_after(after),
            None => failure,
        }
    }

    /// Asking again changes nothing, so it has to look like the request's fault: clients repeat what failed upstream.
    fn cannot(&self, status: StatusCode, endpoint: Endpoint) -> Failure {
        let name = &self.model.name;
        let what = match endpoint {
            Endpoint::Embeddings => "makes no embeddings",
            Endpoint::Chat | Endpoint::Completions | Endpoint::Responses | Endpoint::Messages => {
                "cannot do what the request asks for"
            }
        };
        Failure::new(
            Code::InvalidRequest,
            format!("The model `{name}` {what}: its engine answered with status {}.", status.as_u16()),
        )
        .hint(format!(
            "Ask another model. If its engine should, an administrator has to check `models.{name}.backends[{}]` and how \
             the engine was started.",
            self.backend
        ))
    }

    fn explain(&self, status: StatusCode, words: Option<&str>) -> Failure {
        let config = format!("models.{}.backends[{}]", self.model.name, self.backend);
        match status.as_u16() {
            400 | 413 | 422 => {
                let words = words.unwrap_or("it gave no reason");
                Failure::new(
                    Code::InvalidRequest,
                    format!("The model `{}` refused the request: {words}", self.model.name),
                )
                .hint("Change the request as the message says.")
            }
            401 | 403 => self
                .fails(
                    Code::UpstreamFailed,
                    format_args!("rejected the gateway's own credentials (status {status})"),
                )
                .hint(format!("An administrator has to set `{config}.api_key`.")),
            404 => self
                .fails(
                    Code::UpstreamFailed,
                    "does not know the model, or has no chat completions at its address",
                )
                .hint(format!(
                    "An administrator has to check `{config}.model` and `{config}.url`."
                )),
            408 | 504 => self
                .fails(
                    Code::UpstreamTimedOut,
                    format_args!("gave up waiting (status {status})"),
                )
                .hint("Try again."),
            429 => self
                .fails(Code::RateLimited, "takes no more requests for now")
                .hint("Try again later."),
            _ => self
                .fails(Code::UpstreamFailed, format_args!("answered with status {status}"))
                .hint("Try again; if it stays so, look at the engine's log."),
        }
    }
}

/// Whether the engine says that it has nothing of the kind, as one does that was started for chat alone.
pub(crate) fn lacks(status: StatusCode, endpoint: Endpoint) -> bool {
    match status.as_u16() {
        501 => true,
        404 | 405 => endpoint == Endpoint::Embeddings,
        _ => false,
    }
}

pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(RETRY_AFTER_S_MAX)))
}

/// The engine's message in an error's body. A body that is too large, too slow or not JSON has none.
async fn read_words(mut response: Answer) -> Option<String> {
    let read = async {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.ok()? {
            if body.len() + chunk.len() > ERROR_BODY_BYTES_MAX {
                return None;
            }
            body.extend_from_slice(&chunk);
        }
        Some(body)
    };
    let body = tokio::time::timeout(ERROR_BODY_WAIT, read).await.ok()??;
    answer::engine_message(str::from_utf8(&body).ok()?)
}
