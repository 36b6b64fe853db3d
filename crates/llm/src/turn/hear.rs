//! Hearing what an engine says, in the canonical form, whichever API it speaks.

use crate::{
    answer,
    dialect::{self, Broken, FromUpstream, Map},
    fault::Place,
    reading::Begun,
    routing::End,
    sse::{self, Splitter},
};
use forebay_domain::{Code, Failure, model::AnswerForm};

/// Largest streamed answer: some hundred thousand chunks.
const STREAM_BYTES_MAX: u64 = 128 << 20;

/// An answer in one piece.
pub(super) async fn whole(mut begun: Begun, now_s: u64) -> Result<Map, Failure> {
    let body = begun.body().await?;
    let read = serde_json::from_slice(&body).map_err(|_| Broken::Nonsense);
    let answer = read.and_then(|answer| dialect::upstream_to_chat(begun.api(), answer, now_s));
    begun.lease.end(if answer.is_ok() { End::Ok } else { End::Failed });
    answer.map_err(|broken| failure(broken, &begun.place))
}

/// An answer in chunks; one in one piece is one chunk.
pub(super) struct Chunks {
    begun: Begun,
    form: AnswerForm,
    now_s: u64,
    splitter: Splitter,
    from: FromUpstream,
    bytes: u64,
    is_closed: bool,
}

impl Chunks {
    pub(super) fn new(begun: Begun, form: AnswerForm, now_s: u64) -> Self {
        Self {
            from: FromUpstream::new(begun.api(), now_s),
            begun,
            form,
            now_s,
            splitter: Splitter::new(),
            bytes: 0,
            is_closed: false,
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.begun.place
    }

    /// The next chunk; `None` once all was said in good order.
    pub(super) async fn next(&mut self) -> Result<Option<Map>, Failure> {
        let next = match self.form {
            AnswerForm::Whole => self.read_whole().await,
            AnswerForm::Events => self.read().await,
        };
        match &next {
            Ok(Some(_)) => {}
            Ok(None) => self.begun.lease.end(End::Ok),
            Err(_) => self.begun.lease.end(End::Failed),
        }
        next
    }

    async fn read(&mut self) -> Result<Option<Map>, Failure> {
        loop {
            if self.from.is_done() {
                return Ok(None);
            }
            let event = self.splitter.next_event();
            let event = event.map_err(|sse::TooLarge| self.endless("one event", sse::EVENT_BYTES_MAX as u64))?;
            if let Some(event) = event {
                if let Some(chunk) = self.take(&event)? {
                    return Ok(Some(chunk));
                }
            } else if self.is_closed {
                return self.close();
            } else {
                self.read_more().await?;
            }
        }
    }

    async fn read_whole(&mut self) -> Result<Option<Map>, Failure> {
        if std::mem::replace(&mut self.is_closed, true) {
            return Ok(None);
        }
        let body = self.begun.body().await?;
        let read = serde_json::from_slice(&body).map_err(|_| Broken::Nonsense);
        let answer = read.and_then(|answer| dialect::upstream_to_chat(self.begun.api(), answer, self.now_s));
        let mut answer = answer.map_err(|broken| failure(broken, &self.begun.place))?;
        // Some engines do not say why an answer is over that is there as a whole.
        if let Some(choice) = answer.get_mut("choices").and_then(|choices| choices.get_mut(0))
            && !choice["finish_reason"].is_string()
        {
            choice["finish_reason"] = "stop".into();
        }
        Ok(Some(answer))
    }

    async fn read_more(&mut self) -> Result<(), Failure> {
        match self.begun.read().await? {
            Some(piece) => {
                self.bytes += piece.len() as u64;
                if self.bytes > STREAM_BYTES_MAX {
                    return Err(self.endless("a stream", STREAM_BYTES_MAX));
                }
                self.splitter.push(&piece);
            }
            None => self.is_closed = true,
        }
        Ok(())
    }

    fn take(&mut self, event: &[u8]) -> Result<Option<Map>, Failure> {
        let place = &self.begun.place;
        self.from.event(event).map_err(|broken| failure(broken, place))
    }

    /// The response ended without its last word. Some engines leave out the last blank line, some the `[DONE]` itself.
    fn close(&mut self) -> Result<Option<Map>, Failure> {
        let rest = self.splitter.rest().unwrap_or_default();
        let is_whole = rest.is_empty() || answer::is_whole_event(&rest);
        if is_whole && let Some(chunk) = self.take(&rest)? {
            return Ok(Some(chunk));
        }
        if is_whole && self.from.may_end() {
            return Ok(None);
        }
        Err(failure(Broken::Unfinished, &self.begun.place))
    }

    fn endless(&self, what: &str, limit_bytes: u64) -> Failure {
        let limit = limit_bytes >> 20;
        self.begun
            .place
            .truncated(format_args!("sent {what} of more than {limit} MiB"))
    }
}

/// Why an answer is none, in the gateway's own words.
pub(super) fn failure(broken: Broken, place: &Place) -> Failure {
    let failed = |how: &str| place.fails(Code::UpstreamFailed, how).hint("Look at the engine's log.");
    match broken {
        Broken::Reported(words) => place.reported(words),
        Broken::Nonsense => failed("said something that is no answer in its API"),
        Broken::Unfinished => place.truncated("ended its answer before it was complete"),
        Broken::Arguments => failed("called a tool with arguments that are no JSON object"),
    }
}
