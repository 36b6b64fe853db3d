//! Streams, event by event: from an upstream into chunks of a chat, and from those into a client's own events.
//!
//! Nothing waits for what comes later, but for the pieces of a call that Anthropic's API cannot say yet. A stream that
//! breaks never looks complete: [`ToClient::finish`] refuses it, and [`ToClient::abort`] says so where the API has
//! words of its own for it.

use super::{
    Asked, Broken, Upstream, completions, delta,
    field::Map,
    frame,
    messages::{self, Incoming},
    responses::{self, Deed},
};
use crate::sse;
use forebay_domain::{Failure, model::Endpoint};
use serde_json::Value;

/// Reads an upstream's events.
#[derive(Debug)]
pub(crate) struct FromUpstream(Reading);

#[derive(Debug)]
enum Reading {
    OpenAi { is_finished: bool, is_done: bool },
    Anthropic(Box<Incoming>),
}

impl FromUpstream {
    /// `created_s` is when the answer began, where the upstream does not tell it.
    pub(crate) fn new(upstream: Upstream, created_s: u64) -> Self {
        Self(match upstream {
            Upstream::OpenAi => Reading::OpenAi {
                is_finished: false,
                is_done: false,
            },
            Upstream::Anthropic => Reading::Anthropic(Box::new(Incoming::new(created_s))),
        })
    }

    /// One event, as [`sse::Splitter`] cuts them. `None` where it holds nothing for the client.
    pub(crate) fn event(&mut self, event: &[u8]) -> Result<Option<Map>, Broken> {
        if self.is_done() {
            return Ok(None);
        }
        let Some(data) = sse::data(event) else {
            return if sse::has_field(event, b"error") {
                Err(Broken::Reported(None))
            } else {
                Ok(None)
            };
        };
        let data = data.trim_ascii();
        match &mut self.0 {
            _ if data.is_empty() => Ok(None),
            Reading::OpenAi { is_done, .. } if data == b"[DONE]" => {
                *is_done = true;
                Ok(None)
            }
            Reading::OpenAi { is_finished, .. } => {
                let chunk: Map = serde_json::from_slice(data).map_err(|_| Broken::Nonsense)?;
                if super::is_error(&chunk) {
                    return Err(super::reported(&chunk.into()));
                }
                let choices = chunk.get("choices").and_then(Value::as_array);
                let mut choices = choices.map_or(&[][..], Vec::as_slice).iter();
                *is_finished |= choices.any(|choice| choice["finish_reason"].is_string());
                Ok(Some(chunk))
            }
            Reading::Anthropic(incoming) => {
                let event = serde_json::from_slice(data).map_err(|_| Broken::Nonsense)?;
                incoming.event(event)
            }
        }
    }

    /// Whether the upstream has said that this was all.
    pub(crate) fn is_done(&self) -> bool {
        match &self.0 {
            Reading::OpenAi { is_done, .. } => *is_done,
            Reading::Anthropic(incoming) => incoming.is_done(),
        }
    }

    /// Whether the answer is complete, should the connection end here: some engines leave out their `[DONE]`.
    pub(crate) fn may_end(&self) -> bool {
        match &self.0 {
            Reading::OpenAi { is_finished, is_done } => *is_finished || *is_done,
            Reading::Anthropic(incoming) => incoming.is_done(),
        }
    }
}

/// Writes a client's events. Each call gives the bytes that may go out now, perhaps none.
#[derive(Debug)]
pub(crate) struct ToClient {
    asked: Asked,
    writing: Writing,
    answer: Option<Map>,
}

#[derive(Debug)]
enum Writing {
    Chat,
    Completions(completions::Stream),
    Responses(Box<responses::Stream>),
    Messages(Box<messages::Stream>),
}

impl ToClient {
    pub(crate) fn new(asked: Asked) -> Self {
        let writing = match asked.endpoint {
            // Embeddings have no stream.
            Endpoint::Chat | Endpoint::Embeddings => Writing::Chat,
            Endpoint::Completions => Writing::Completions(completions::Stream::default()),
            Endpoint::Responses => Writing::Responses(Box::default()),
            Endpoint::Messages => Writing::Messages(Box::default()),
        };
        Self {
            asked,
            writing,
            answer: None,
        }
    }

    /// What tells the client that the work has begun. Comes by itself with the first chunk; may come earlier.
    pub(crate) fn begin(&mut self) -> Vec<u8> {
        match &mut self.writing {
            Writing::Chat | Writing::Completions(_) => Vec::new(),
            Writing::Responses(stream) => stream.begin(&self.asked),
            Writing::Messages(stream) => stream.begin(&self.asked),
        }
    }

    pub(crate) fn chunk(&mut self, mut chunk: Map) -> Result<Vec<u8>, Broken> {
        let asked = &self.asked;
        match &mut self.writing {
            Writing::Chat | Writing::Completions(_) if !asked.include_usage && is_usage_alone(&chunk) => {
                // It may carry more than the usage, such as what the gateway adds.
                chunk.remove("usage");
                let says_more = chunk.iter().any(|(key, value)| delta::is_extension(key, value));
                if says_more { self.write(chunk) } else { Ok(Vec::new()) }
            }
            Writing::Chat | Writing::Completions(_) => self.write(chunk),
            Writing::Responses(stream) => stream.chunk(chunk, asked),
            Writing::Messages(stream) => stream.chunk(chunk, asked),
        }
    }

    /// A chunk of one of OpenAI's older APIs.
    fn write(&mut self, mut chunk: Map) -> Result<Vec<u8>, Broken> {
        let choices = chunk.get("choices").and_then(Value::as_array);
        if !choices.is_some_and(|choices| choices.iter().all(Value::is_object)) {
            return Err(Broken::Nonsense);
        }
        if let Writing::Completions(stream) = &mut self.writing {
            chunk = stream.chunk(chunk, &self.asked);
        } else {
            chunk.insert("id".to_owned(), self.asked.answer_id().into());
            chunk.insert("object".to_owned(), "chat.completion.chunk".into());
            chunk.insert("created".to_owned(), self.asked.created_s.into());
            chunk.insert("model".to_owned(), self.asked.model.as_str().into());
        }
        let mut out = Vec::new();
        frame::plain(&mut out, &chunk.into());
        Ok(out)
    }

    /// What the gateway does of its own, as items of a response. Other APIs have no such thing.
    pub(crate) fn tell(&mut self, deed: Deed) -> Vec<u8> {
        match &mut self.writing {
            Writing::Responses(stream) => stream.tell(deed, &self.asked),
            Writing::Chat | Writing::Completions(_) | Writing::Messages(_) => Vec::new(),
        }
    }

    /// The end, in good order. Refused where the model never said that it had finished. Of a response the last event is
    /// still to come, see [`Self::last_word`].
    pub(crate) fn finish(&mut self) -> Result<Vec<u8>, Broken> {
        match &mut self.writing {
            Writing::Chat | Writing::Completions(_) => Ok(frame::DONE.to_vec()),
            Writing::Responses(stream) => {
                let (events, response) = stream.finish(&self.asked)?;
                self.answer = Some(response);
                Ok(events)
            }
            Writing::Messages(stream) => stream.finish(&self.asked),
        }
    }

    /// The event that holds a whole response, which says whether it is kept.
    pub(crate) fn last_word(&mut self, is_kept: bool) -> Vec<u8> {
        match (&mut self.writing, &mut self.answer) {
            (Writing::Responses(stream), Some(response)) => {
                response.insert("store".to_owned(), is_kept.into());
                stream.end(response)
            }
            _ => Vec::new(),
        }
    }

    /// The end, by a failure. What the edge writes of it in its own dialect follows these bytes.
    pub(crate) fn abort(&mut self, failure: &Failure) -> Vec<u8> {
        match &mut self.writing {
            Writing::Chat | Writing::Completions(_) | Writing::Messages(_) => Vec::new(),
            Writing::Responses(stream) => {
                let (events, response) = stream.abort(failure, &self.asked);
                self.answer = Some(response);
                events
            }
        }
    }

    /// The response as its client has it after the end, for whoever keeps it.
    pub(crate) fn response(&self) -> Option<&Map> {
        self.answer.as_ref()
    }
}

fn is_usage_alone(chunk: &Map) -> bool {
    let has_usage = chunk.get("usage").is_some_and(|usage| !usage.is_null());
    let choices = chunk.get("choices").and_then(Value::as_array);
    has_usage && choices.is_none_or(Vec::is_empty)
}
