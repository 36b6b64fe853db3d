//! A model's answer as it is read within the gateway: to its end, and never more of it than somebody has room for.

use super::{Answer, Body};
use crate::{Code, Failure};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sse_stream::{Sse, SseStream};
use std::pin::Pin;

/// What ends the events of an answer.
const END: &str = "[DONE]";

impl Answer {
    /// All of an answer that is one document.
    pub async fn whole(self, bytes_max: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let mut body = bounded(self.into_body(), bytes_max);
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes)
    }

    /// The events of an answer that comes in such.
    pub fn events(self, bytes_max: usize) -> Events {
        let body = bounded(self.into_body(), bytes_max);
        Events(Box::pin(SseStream::from_bytes_stream(body)))
    }
}

/// What the events of an answer say, one after another.
pub struct Events(Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send>>);

impl Events {
    /// What the next event says; nothing after the last. An answer that ends without saying so fails.
    pub async fn next(&mut self) -> Result<Option<String>, Failure> {
        while let Some(event) = self.0.next().await {
            match event.map_err(unwrap)?.data {
                Some(data) if data.trim() == END => return Ok(None),
                Some(data) => return Ok(Some(data)),
                None => {}
            }
        }
        Err(Failure::new(Code::UpstreamTruncated, "The model's answer broke off.").hint("Try again."))
    }
}

fn bounded(body: Body, bytes_max: usize) -> impl Stream<Item = Result<Bytes, Failure>> + Send + Unpin {
    let mut total = 0_usize;
    body.map(move |piece| {
        let piece = piece?;
        total = total.saturating_add(piece.len());
        if total > bytes_max {
            let message = format!("The model's answer is larger than {bytes_max} bytes.");
            return Err(Failure::new(Code::UpstreamTruncated, message).hint("Set `max_tokens`."));
        }
        Ok(piece)
    })
}

/// A failure that came through the event parser comes out again.
fn unwrap(fault: sse_stream::Error) -> Failure {
    let garbled = |fault| Failure::new(Code::UpstreamFailed, "The model's answer is garbled.").caused_by(fault);
    match fault {
        sse_stream::Error::Body(cause) => match cause.downcast::<Failure>() {
            Ok(failure) => *failure,
            Err(other) => garbled(other),
        },
        other => garbled(Box::new(other)),
    }
}
