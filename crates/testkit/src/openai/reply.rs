//! How the fake engine answers: politely, or in any way that a real one ever did.

use bytes::Bytes;
use serde_json::{Value, json};

/// What the polite engine says.
pub const ANSWER: &str = "The capital of France is Paris.";
/// What the polite engine says that it used.
pub const PROMPT_TOKENS: u64 = 11;
pub const COMPLETION_TOKENS: u64 = 7;

/// How to answer one request.
#[derive(Debug, Clone)]
pub struct Reply {
    pub(super) head: String,
    pub(super) framing: Framing,
    pub(super) steps: Vec<Step>,
    pub(super) end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Chunked,
    /// `Content-Length` stands in the head.
    Length,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Head,
    Piece(Bytes),
    Gate,
}

/// How a reply ends.
#[derive(Debug, Clone)]
pub enum End {
    Properly,
    /// The connection is closed in mid-answer.
    Cut,
    /// The connection is reset in mid-answer.
    Reset,
    /// This piece is sent again and again.
    Never(Bytes),
}

impl Reply {
    /// A reply whose pieces follow, each in an HTTP chunk of its own.
    pub fn begin(status: u16, content_type: &str) -> Self {
        Self {
            head: format!("HTTP/1.1 {status} Status\r\ncontent-type: {content_type}\r\n"),
            framing: Framing::Chunked,
            steps: vec![Step::Head],
            end: End::Properly,
        }
    }

    /// A stream of events.
    pub fn events() -> Self {
        Self::begin(200, "text/event-stream; charset=utf-8")
    }

    /// A whole body in one piece.
    pub fn whole(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let length = body.len();
        Self::begin(status, content_type).announcing(length).piece(body)
    }

    pub fn json(status: u16, body: &Value) -> Self {
        Self::whole(status, "application/json", body.to_string())
    }

    /// The answer of a kind engine, of the form that the request asks for.
    pub fn polite(request: &Value) -> Self {
        let model = request["model"].as_str().unwrap_or_default();
        if request["stream"] == true {
            let wants_usage = request["stream_options"]["include_usage"] == true;
            polite_events(model, wants_usage)
                .into_iter()
                .fold(Self::events(), Self::piece)
        } else {
            Self::json(200, &polite_whole(model))
        }
    }

    /// No reply at all: the connection ends in this way.
    pub fn silent(end: End) -> Self {
        Self {
            steps: Vec::new(),
            ..Self::events().end(end)
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head.extend([name, ": ", value, "\r\n"]);
        self
    }

    /// Announces so many bytes, whatever is then sent.
    pub fn announcing(mut self, length: usize) -> Self {
        self.framing = Framing::Length;
        self.header("content-length", &length.to_string())
    }

    pub fn piece(mut self, bytes: impl Into<Bytes>) -> Self {
        self.steps.push(Step::Piece(bytes.into()));
        self
    }

    /// Waits here until [`Engine::open_gate`].
    pub fn gate(mut self) -> Self {
        self.steps.push(Step::Gate);
        self
    }

    /// Waits for [`Engine::open_gate`] before anything at all.
    pub fn hold_head(mut self) -> Self {
        self.steps.insert(0, Step::Gate);
        self
    }

    pub fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }
}

/// An event with this data.
pub fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// A chunk of a streamed answer with one choice.
pub fn chunk(model: &str, delta: &Value, finish_reason: Option<&str>) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model,
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish_reason }],
    })
}

/// The closing chunk that tells the usage.
pub fn usage_chunk(model: &str) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model,
        "choices": [], "usage": usage(),
    })
}

/// The events of a polite stream.
pub fn polite_events(model: &str, with_usage: bool) -> Vec<String> {
    let mut events = vec![event(&chunk(
        model,
        &json!({ "role": "assistant", "content": "" }),
        None,
    ))];
    events.extend(
        ANSWER
            .split_inclusive(' ')
            .map(|word| event(&chunk(model, &json!({ "content": word }), None))),
    );
    events.push(event(&chunk(model, &json!({}), Some("stop"))));
    if with_usage {
        events.push(event(&usage_chunk(model)));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn polite_whole(model: &str) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": model,
        "choices": [{
            "index": 0, "message": { "role": "assistant", "content": ANSWER }, "finish_reason": "stop",
        }],
        "usage": usage(),
    })
}

fn usage() -> Value {
    json!({
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": COMPLETION_TOKENS,
        "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
    })
}
