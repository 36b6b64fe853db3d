//! An HTTP answer, free of any web framework, and the framing of server-sent events.

use bytes::Bytes;
use forebay_domain::Code;
use futures_util::{StreamExt, stream::BoxStream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// What goes back over HTTP.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: ReplyBody,
    /// Where this is one refusal or failure: which, for the record of the request.
    pub failed: Option<Code>,
}

pub enum ReplyBody {
    Empty,
    Json(Bytes),
    /// Server-sent events. Dropping the stream cancels the call that feeds it.
    Events(BoxStream<'static, Bytes>),
}

impl std::fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Json(bytes) => write!(f, "Json({} bytes)", bytes.len()),
            Self::Events(_) => f.write_str("Events"),
        }
    }
}

impl Reply {
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: ReplyBody::Empty,
            failed: None,
        }
    }

    pub(crate) fn json(status: StatusCode, body: Bytes) -> Self {
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self {
            status,
            headers,
            body: ReplyBody::Json(body),
            failed: None,
        }
    }

    pub(crate) fn events(stream: impl futures_util::Stream<Item = Bytes> + Send + 'static) -> Self {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // Tells proxies such as nginx to hand each event on at once.
        headers.insert(
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        );
        Self {
            status: StatusCode::OK,
            headers,
            body: ReplyBody::Events(stream.boxed()),
            failed: None,
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }
}

/// A comment: it keeps the connection alive, and every client ignores it.
pub(crate) const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// The first bytes of a stream that cannot be resumed. A comment and not an event with an id: an id would promise that
/// it can.
pub(crate) const OPENING: Bytes = Bytes::from_static(b": stream\n\n");

/// How soon a client whose connection ended is to come back, in milliseconds.
const RETRY_MS: u32 = 1000;

/// The first event of a stream of 2025-11-25: it names the place from which the stream can be resumed, and nothing else.
pub(crate) fn priming(id: &str) -> Bytes {
    format!("id: {id}\nretry: {RETRY_MS}\ndata: \n\n").into()
}

/// One JSON-RPC message as one event, in one piece, so that it leaves in one write.
pub(crate) fn event(message: &[u8]) -> Bytes {
    write_event(None, message)
}

/// The same with the place from which the stream can be resumed.
pub(crate) fn numbered_event(id: &str, message: &[u8]) -> Bytes {
    write_event(Some(id), message)
}

fn write_event(id: Option<&str>, message: &[u8]) -> Bytes {
    let mut event = Vec::with_capacity(message.len() + 48);
    if let Some(id) = id {
        event.extend_from_slice(b"id: ");
        event.extend_from_slice(id.as_bytes());
        event.push(b'\n');
    }
    event.extend_from_slice(b"event: message\n");
    // Raw JSON may hold line breaks between its tokens, and a line break ends a field.
    for line in message.split(|b| *b == b'\n' || *b == b'\r') {
        event.extend_from_slice(b"data: ");
        event.extend_from_slice(line);
        event.push(b'\n');
    }
    event.push(b'\n');
    event.into()
}
