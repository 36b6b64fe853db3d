//! Reads answers within their bounds, and tells what streams on the way.

use super::ANSWER_BYTES_MAX;
use bytes::{Bytes, BytesMut};
use forebay_domain::{Code, Failure};
use forebay_mcp::call::{CallContext, LogLevel, Step};
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};
use std::time::Duration;

const SILENCE_MAX: Duration = Duration::from_mins(2);
/// A piece of a stream as the client is told it.
const PIECE_BYTES_MAX: usize = 16 << 10;
const LOGGER: &str = "proxy_inference_request";

/// An answer, and how much of it came over the wire.
pub(super) struct Answered {
    pub(super) told: Value,
    pub(super) bytes: usize,
}

/// How an answer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Text,
    /// Told piece by piece on the way, too.
    Stream,
}

/// Reads an answer within its bounds. What streams is told on the way, to a client that wants to hear.
pub(super) async fn collect(
    mut chunks: impl Stream<Item = Result<Bytes, Failure>> + Unpin,
    form: Form,
    context: &CallContext,
) -> Result<Bytes, Failure> {
    let mut body = BytesMut::new();
    let mut pieces = 0.0;
    loop {
        let next = tokio::time::timeout(SILENCE_MAX, chunks.next()).await;
        let next = next.map_err(|_| Failure::new(Code::UpstreamTimedOut, "The answer stopped in the middle."))?;
        let Some(chunk) = next.transpose()? else {
            return Ok(body.freeze());
        };
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            let message = format!("The answer has more than {ANSWER_BYTES_MAX} bytes.");
            return Err(Failure::new(Code::UpstreamTruncated, message));
        }
        if form == Form::Stream {
            pieces += 1.0;
            let piece = String::from_utf8_lossy(&chunk[..chunk.len().min(PIECE_BYTES_MAX)]).into_owned();
            context.client.log(LogLevel::Info, LOGGER, &json!({"chunk": piece}));
            context.client.report(Step {
                progress: pieces,
                total: None,
                message: Some(piece),
            });
        }
        body.extend_from_slice(&chunk);
    }
}

/// JSON as it is, text as text; what is neither is told by its size.
pub(super) fn shown(body: &Bytes, form: Form) -> Value {
    if form == Form::Json
        && let Ok(value) = serde_json::from_slice(body)
    {
        return value;
    }
    match str::from_utf8(body) {
        Ok(text) => json!(text),
        Err(_) => json!({"bytes": body.len()}),
    }
}
