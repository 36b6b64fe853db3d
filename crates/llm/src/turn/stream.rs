//! The body of a streamed answer: what a future says while it runs.

use bytes::Bytes;
use forebay_domain::Failure;
use futures_util::{Stream, StreamExt, stream};
use std::future::Future;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// So many pieces wait for a client that reads slowly; then the turn waits for it.
const WAITING_MAX: usize = 16;

type Piece = Result<Bytes, Failure>;

pub(super) fn pipe() -> (Sender<Piece>, Receiver<Piece>) {
    channel(WAITING_MAX)
}

/// Runs the future as its words are read. Dropping the stream drops the future and all that it waits for.
pub(super) fn body(
    talks: impl Future<Output = ()> + Send + 'static,
    words: Receiver<Piece>,
) -> impl Stream<Item = Piece> + Send {
    let words = stream::unfold(words, |mut words| async {
        words.recv().await.map(|piece| (piece, words))
    });
    let talks = stream::once(talks).filter_map(|()| async { None });
    stream::select(words, talks)
}
