//! A streamed answer on its way from the engine to the client: event by event, as it comes, and not a byte later.
//!
//! The relay withholds one thing, the closing chunk with the usage where the client did not ask for it. It adds one
//! thing, the `[DONE]` of an engine that ended in good order without saying so. A stream that breaks off ends in an
//! error and never in `[DONE]`.

use crate::{
    answer::{self, Chunk, Said},
    reading::Begun,
    record::Record,
    request::Streams,
    routing::End,
    sse::{self, Splitter},
};
use bytes::Bytes;
use forebay_domain::{Code, Failure, event::Outcome, model::Endpoint};
use futures_util::{Stream, stream};
use std::time::Duration;

/// Largest streamed answer: some hundred thousand chunks.
const STREAM_BYTES_MAX: u64 = 128 << 20;
/// How long to wait, after `[DONE]`, for the engine to end its response, so that the connection can be used again.
const LINGER: Duration = Duration::from_millis(250);

pub(crate) struct Relay {
    begun: Begun,
    record: Record,
    streams: Streams,
    endpoint: Endpoint,
    splitter: Splitter,
    state: State,
    bytes: u64,
    /// Whether the last chunk that had output ended it.
    is_finished: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// The engine closed its response without `[DONE]`; what it sent last is still to be looked at.
    Closed,
    /// `[DONE]` went out.
    Done,
}

impl Relay {
    pub(crate) fn new(begun: Begun, record: Record, streams: Streams, endpoint: Endpoint) -> Self {
        Self {
            begun,
            record,
            streams,
            endpoint,
            splitter: Splitter::new(),
            state: State::Reading,
            bytes: 0,
            is_finished: false,
        }
    }

    /// The body of the answer. Dropping it drops the connection to the engine and records the call as cancelled.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Result<Bytes, Failure>> + Send {
        stream::unfold(Some(self), |relay| async {
            let mut relay = relay?;
            match relay.next().await {
                Ok(event) => event.map(|event| (Ok(event), Some(relay))),
                Err(failure) => {
                    relay.begun.lease.end(End::Failed);
                    relay.record.finish(Outcome::Failed(failure.code));
                    Some((Err(failure), None))
                }
            }
        })
    }

    /// The next event for the client; `None` after the last.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if self.state == State::Done {
                self.linger().await;
                return Ok(None);
            }
            let event = self.splitter.next_event();
            let event = event.map_err(|sse::TooLarge| self.endless("one event", sse::EVENT_BYTES_MAX as u64))?;
            let passes = match (event, self.state) {
                (Some(event), _) => self.take(event)?,
                (None, State::Closed) => self.close()?,
                (None, State::Reading | State::Done) => {
                    self.read_more().await?;
                    None
                }
            };
            if passes.is_some() {
                return Ok(passes);
            }
        }
    }

    async fn read_more(&mut self) -> Result<(), Failure> {
        self.record.waits(true);
        match self.begun.read().await? {
            Some(chunk) => {
                self.record.waits(false);
                self.bytes += chunk.len() as u64;
                if self.bytes > STREAM_BYTES_MAX {
                    return Err(self.endless("a stream", STREAM_BYTES_MAX));
                }
                self.splitter.push(&chunk);
            }
            None => self.state = State::Closed,
        }
        Ok(())
    }

    /// Looks at one event, and hands it back if the client is to have it.
    fn take(&mut self, event: Bytes) -> Result<Option<Bytes>, Failure> {
        let said = match self.endpoint {
            Endpoint::Messages => answer::read_message_event(&event),
            Endpoint::Chat | Endpoint::Completions | Endpoint::Embeddings | Endpoint::Responses => {
                answer::read_event(&event)
            }
        };
        match said {
            Said::Nothing => {}
            Said::Done => return Ok(Some(self.done(event))),
            Said::Chunk(chunk) => {
                if self.note(&chunk) {
                    return Ok(None);
                }
            }
            Said::Error(words) => return Err(self.begun.place.reported(words)),
            Said::Nonsense => {
                let failure = self
                    .begun
                    .place
                    .fails(Code::UpstreamFailed, "sent an event that is no chunk of an answer");
                return Err(failure.hint("Look at the engine's log."));
            }
        }
        self.record.passed(event.len());
        self.record.said(|| answer::said(&event));
        Ok(Some(event))
    }

    /// Keeps what a chunk tells. True where the chunk is for the gateway alone.
    fn note(&mut self, chunk: &Chunk) -> bool {
        if let Some(usage) = chunk.usage {
            match self.endpoint {
                Endpoint::Messages => self.record.used_at_least(usage),
                // Some send such chunks on the way, too.
                _ if chunk.is_usage_alone && self.is_finished => self.record.used_in_all(usage),
                Endpoint::Chat | Endpoint::Completions | Endpoint::Embeddings | Endpoint::Responses => {
                    self.record.used(usage);
                }
            }
        }
        if let Some(finishes) = chunk.finishes {
            self.is_finished = finishes;
        }
        if chunk.is_usage_alone {
            return self.streams != Streams::WithUsage;
        }
        self.record.chunk();
        false
    }

    /// The record closes here and not at the end of the connection: a client that has `[DONE]` has everything, and many
    /// hang up at once.
    fn done(&mut self, event: Bytes) -> Bytes {
        self.state = State::Done;
        self.begun.lease.end(End::Ok);
        self.record.passed(event.len());
        self.record.finish(Outcome::Ok);
        event
    }

    /// The response ended without `[DONE]`. Some engines leave out the last blank line, some the `[DONE]` itself.
    fn close(&mut self) -> Result<Option<Bytes>, Failure> {
        let rest = self.splitter.rest().unwrap_or_default();
        if answer::is_whole_event(&rest) {
            return self.take([&rest, &b"\n\n"[..]].concat().into());
        }
        if rest.is_empty() && self.is_finished {
            return Ok(Some(self.done(Bytes::from_static(b"data: [DONE]\n\n"))));
        }
        Err(self.begun.place.truncated("ended its answer before it was complete"))
    }

    async fn linger(&mut self) {
        let rest = async { while let Ok(Some(_)) = self.begun.response.chunk().await {} };
        // Past the wait the connection is dropped; that costs a new one and nothing else.
        let _ = tokio::time::timeout(LINGER, rest).await;
    }

    fn endless(&self, what: &str, limit_bytes: u64) -> Failure {
        let limit = limit_bytes >> 20;
        self.begun
            .place
            .truncated(format_args!("sent {what} of more than {limit} MiB"))
    }
}
