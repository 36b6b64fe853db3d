//! Reading an answer that has begun: each wait and each size has its limit.

use crate::{
    answer::{self, Said, Whole},
    fault::Place,
    money::Tokens,
    routing::{End, Lease},
    sse::{Splitter, TooLarge},
};
use bytes::{Bytes, BytesMut};
use forebay_domain::{Code, Failure, model::Endpoint};
use forebay_runtime::http::engines::Answer;
use http::header::CONTENT_TYPE;
use std::collections::VecDeque;
use tokio::time::Instant;

/// Largest answer that is not streamed.
const WHOLE_BYTES_MAX: usize = 16 << 20;
const MEDIA_TYPE_BYTES_MAX: usize = 64;

/// A successful answer whose body is still to be read.
pub(crate) struct Begun {
    pub(crate) response: Answer,
    pub(crate) place: Place,
    /// Its place at the backend, which counts until it ends.
    pub(crate) lease: Lease,
    /// When the answer has to be complete.
    pub(crate) deadline: Instant,
    /// An answer in one piece, where it was read already.
    pub(crate) told: Option<Told>,
    /// Of a stream, the pieces that were looked at before anybody reads them.
    pub(crate) ahead: VecDeque<Bytes>,
    /// Whether its body is more than the gateway reads.
    pub(crate) is_too_large: bool,
}

/// A whole answer that makes sense.
pub(crate) struct Told {
    body: Bytes,
    usage: Option<Tokens>,
}

/// Why a whole answer is none, and whether another backend may give a better one.
pub(crate) struct Spoiled {
    pub(crate) failure: Failure,
    pub(crate) is_worth_another: bool,
}

impl Begun {
    /// The media type without its parameters, fit to be shown.
    pub(crate) fn media_type(&self) -> String {
        let header = self.response.headers().get(CONTENT_TYPE);
        let text = header.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = text.split(';').next().unwrap_or_default().trim();
        essence
            .chars()
            .take(MEDIA_TYPE_BYTES_MAX)
            .collect::<String>()
            .to_ascii_lowercase()
    }

    /// The next piece of the body as the network cut it; `None` at its end.
    pub(crate) async fn read(&mut self) -> Result<Option<Bytes>, Failure> {
        match self.ahead.pop_front() {
            Some(piece) => Ok(Some(piece)),
            None => self.read_on().await,
        }
    }

    async fn read_on(&mut self) -> Result<Option<Bytes>, Failure> {
        let read = self.read_in_time().await;
        if read.is_err() {
            self.lease.end(End::Failed);
        }
        read
    }

    async fn read_in_time(&mut self) -> Result<Option<Bytes>, Failure> {
        let idle = self.place.model.timeouts.idle;
        let idle_until = Instant::now() + idle;
        match tokio::time::timeout_at(idle_until.min(self.deadline), self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(self.place.truncated("broke off its answer").caused_by(error)),
            Err(_) if idle_until <= self.deadline => {
                Err(self.place.timed_out("went on with its answer no more", idle, "idle_s"))
            }
            Err(_) => {
                let total = self.place.model.timeouts.total;
                Err(self.place.timed_out("did not end its answer", total, "total_s"))
            }
        }
    }

    /// Looks at the first event of a stream, and leaves it for whoever reads. Where that is an error, or there is none, this
    /// is no answer.
    pub(crate) async fn look_ahead(&mut self, endpoint: Endpoint) -> Result<(), Spoiled> {
        let mut splitter = Splitter::new();
        let first = loop {
            match splitter.next_event() {
                Ok(Some(event)) => break event,
                // Whoever reads it refuses it.
                Err(TooLarge) => return Ok(()),
                Ok(None) => {}
            }
            match self.read_on().await {
                Ok(Some(piece)) => {
                    splitter.push(&piece);
                    self.ahead.push_back(piece);
                }
                Ok(None) => {
                    let rest = splitter.rest().unwrap_or_default();
                    if !answer::is_whole_event(&rest) {
                        return Err(self.spoiled(self.place.truncated("ended its answer before it was complete")));
                    }
                    break rest;
                }
                Err(failure) => {
                    return Err(Spoiled {
                        is_worth_another: self.is_worth_another(&failure),
                        failure,
                    });
                }
            }
        };
        let said = match endpoint {
            Endpoint::Messages => answer::read_message_event(&first),
            Endpoint::Chat | Endpoint::Completions | Endpoint::Embeddings | Endpoint::Responses => {
                answer::read_event(&first)
            }
        };
        match said {
            Said::Error(words) => Err(self.spoiled(self.place.reported(words))),
            Said::Nothing | Said::Done | Said::Chunk(_) | Said::Nonsense => Ok(()),
        }
    }

    fn spoiled(&mut self, failure: Failure) -> Spoiled {
        self.lease.end(End::Failed);
        Spoiled {
            failure,
            is_worth_another: true,
        }
    }

    /// Reads an answer that is not streamed to its end, and looks whether it is one. The lease goes on: what the answer
    /// is worth is for whoever takes it to say.
    pub(crate) async fn read_whole(&mut self, endpoint: Endpoint) -> Result<(), Spoiled> {
        let body = self.body().await.map_err(|failure| Spoiled {
            is_worth_another: self.is_worth_another(&failure),
            failure,
        })?;
        let failure = match answer::read_whole(endpoint, &body) {
            Whole::Answer(usage) => {
                self.told = Some(Told { body, usage });
                return Ok(());
            }
            Whole::Error(words) => self.place.reported(words),
            Whole::Nonsense => self.nonsense(endpoint),
        };
        Err(self.spoiled(failure))
    }

    /// An answer that is too large would be so again, and what is slow would be done twice.
    fn is_worth_another(&self, failure: &Failure) -> bool {
        !self.is_too_large && (failure.code != Code::UpstreamTimedOut || self.place.model.retries_timeouts)
    }

    fn nonsense(&self, endpoint: Endpoint) -> Failure {
        let what = match endpoint {
            Endpoint::Chat => "chat completion",
            Endpoint::Completions => "completion",
            Endpoint::Embeddings => "list of embeddings",
            Endpoint::Responses => "response",
            Endpoint::Messages => "message",
        };
        let how = format!("answered with something that is no {what}");
        let failure = self.place.fails(Code::UpstreamFailed, how);
        failure.hint("Look at the engine's log.")
    }

    /// An answer that is not streamed, with the usage that the engine tells.
    pub(crate) fn whole(mut self) -> (Bytes, Option<Tokens>) {
        self.lease.end(End::Ok);
        let told = self
            .told
            .expect("an answer that is not streamed was read before it was let through");
        (told.body, told.usage)
    }

    /// A JSON document where events were expected.
    pub(crate) async fn error_document(mut self) -> Spoiled {
        let said = self.body().await.map(|body| answer::read_whole(Endpoint::Chat, &body));
        self.lease.end(End::Failed);
        let is_worth_another = said.as_ref().err().is_none_or(|failure| self.is_worth_another(failure));
        let failure = match said {
            Ok(Whole::Error(words)) => self.place.reported(words),
            Ok(Whole::Answer(_) | Whole::Nonsense) => self.place.fails(
                Code::UpstreamFailed,
                "answered with one document where a stream of events was expected",
            ),
            Err(failure) => failure,
        };
        Spoiled {
            failure,
            is_worth_another,
        }
    }

    /// The rest of the body, in one piece.
    pub(crate) async fn body(&mut self) -> Result<Bytes, Failure> {
        if let Some(told) = self.told.take() {
            return Ok(told.body);
        }
        let announced = self.response.content_length().unwrap_or(0);
        if announced > WHOLE_BYTES_MAX as u64 {
            return Err(self.too_large());
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = self.read().await? {
            if body.len() + chunk.len() > WHOLE_BYTES_MAX {
                return Err(self.too_large());
            }
            if body.is_empty() {
                body = BytesMut::from(chunk);
            } else {
                body.extend_from_slice(&chunk);
            }
        }
        Ok(body.freeze())
    }

    fn too_large(&mut self) -> Failure {
        self.is_too_large = true;
        let limit = WHOLE_BYTES_MAX >> 20;
        self.place
            .fails(
                Code::UpstreamTruncated,
                format_args!("answered with more than {limit} MiB"),
            )
            .hint("Ask for a shorter answer, or for a stream.")
    }
}
