//! Answers of an HTTP upstream, whole or as events, within bounds.

use super::ClientFault;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, header};
use reqwest::Response;
use sse_stream::{Sse, SseStream};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

pub(super) const JSON: &str = "application/json";
pub(super) const EVENTS: &str = "text/event-stream";

/// What form a body has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Events,
    Other,
}

pub(super) fn form(headers: &HeaderMap) -> Form {
    let named = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = named
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim();
    if kind.eq_ignore_ascii_case(JSON) {
        Form::Json
    } else if kind.eq_ignore_ascii_case(EVENTS) {
        Form::Events
    } else {
        Form::Other
    }
}

/// The whole of a body. One that comes in one piece is not copied.
pub(super) async fn whole(mut response: Response, bytes_max: usize) -> Result<Bytes, ClientFault> {
    let too_large = || ClientFault::TooLarge { bytes_max };
    if response
        .content_length()
        .is_some_and(|length| length > bytes_max as u64)
    {
        return Err(too_large());
    }
    let Some(first) = response.chunk().await.map_err(ClientFault::of_http)? else {
        return Ok(Bytes::new());
    };
    let mut rest = BytesMut::new();
    while let Some(piece) = response.chunk().await.map_err(ClientFault::of_http)? {
        if first.len() + rest.len() + piece.len() > bytes_max {
            return Err(too_large());
        }
        rest.extend_from_slice(&piece);
    }
    if rest.is_empty() {
        return if first.len() > bytes_max {
            Err(too_large())
        } else {
            Ok(first)
        };
    }
    let mut all = BytesMut::with_capacity(first.len() + rest.len());
    all.extend_from_slice(&first);
    all.extend_from_slice(&rest);
    Ok(all.freeze())
}

/// A stream of events, each of bounded length.
pub(super) struct Events {
    stream: Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send>>,
    /// Bytes that came since the last event.
    since: Arc<AtomicUsize>,
    bytes_max: usize,
}

/// Why a stream of events ended before its time.
#[derive(Debug)]
pub(super) enum Cut {
    TooLarge,
    Broken,
}

impl Events {
    pub(super) fn of(response: Response, bytes_max: usize) -> Self {
        let since = Arc::new(AtomicUsize::new(0));
        let counter = since.clone();
        let pieces = response.bytes_stream().map(move |piece| {
            let piece: Bytes = piece.map_err(|error| io::Error::other(error.without_url()))?;
            let sum = counter.fetch_add(piece.len(), Ordering::Relaxed) + piece.len();
            if sum > bytes_max {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge));
            }
            Ok(piece)
        });
        Self {
            stream: Box::pin(SseStream::from_bytes_stream(Box::pin(pieces))),
            since,
            bytes_max,
        }
    }

    pub(super) async fn next(&mut self) -> Option<Result<Sse, Cut>> {
        let next = self.stream.next().await?;
        let over = self.since.swap(0, Ordering::Relaxed) > self.bytes_max;
        Some(next.map_err(|_| if over { Cut::TooLarge } else { Cut::Broken }))
    }
}
