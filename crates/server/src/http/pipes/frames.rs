//! What is said over a WebSocket: messages both ways, pings that find out whether anybody is still there, and the code
//! with which it ends.
//!
//! Reading and writing do not wait for one another. A client that takes nothing, or says nothing at all, is hung up on.

use bytes::Bytes;
use forebay_domain::Failure;
use forebay_runtime::Stop;
use futures_util::{
    SinkExt, Stream, StreamExt,
    stream::{SplitSink, SplitStream},
};
use std::{
    future::pending,
    pin::{Pin, pin},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message, Utf8Bytes,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

const PING_EVERY: Duration = Duration::from_secs(30);
/// A client of which nothing is heard for so long, not even the answer to a ping, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// A client that does not take a message in this time is gone.
const WRITE_MAX: Duration = Duration::from_mins(1);
/// How long the farewell may take.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goodbye {
    /// The client closed it.
    Theirs,
    /// Nobody is there to be told.
    Gone,
    Draining,
    /// The connection was ended from inside: its key was revoked, or its session closed.
    Ended,
    Silent,
    Binary,
    TooLarge,
    NotText,
    NoFrame,
}

impl Goodbye {
    fn frame(self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Theirs | Self::Gone => return None,
            Self::Draining => (CloseCode::Away, "the gateway is going down"),
            Self::Ended => (CloseCode::Policy, "the key or the session has ended"),
            Self::Silent => (CloseCode::Error, "nothing was heard for 90 s"),
            Self::Binary => (CloseCode::Unsupported, "messages are text frames"),
            Self::TooLarge => (CloseCode::Size, "the message is too large"),
            Self::NotText => (CloseCode::Invalid, "a text frame is UTF-8"),
            Self::NoFrame => (CloseCode::Protocol, "that was no frame"),
        };
        Some(CloseFrame {
            code,
            reason: Utf8Bytes::from_static(reason),
        })
    }

    fn because_of(error: &Error) -> Self {
        match error {
            Error::Capacity(_) => Self::TooLarge,
            Error::Utf8(_) => Self::NotText,
            Error::Protocol(_) | Error::AttackAttempt => Self::NoFrame,
            Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Io(_)
            | Error::Tls(_)
            | Error::WriteBufferFull(_)
            | Error::Url(_)
            | Error::Http(_)
            | Error::HttpFormat(_) => Self::Gone,
        }
    }
}

/// Serves a connection to its end. What the client says is given to `take`, one message after another.
pub(super) async fn talk<S, F, Fut>(
    socket: WebSocketStream<S>,
    messages: impl Stream<Item = Bytes> + Send,
    take: F,
    stop: Stop,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Bytes) -> Fut,
    Fut: Future<Output = Result<(), Failure>>,
{
    let (mut sink, mut stream) = socket.split();
    let mut messages = pin!(messages);
    let goodbye = tokio::select! {
        goodbye = hear(&mut stream, &take) => goodbye,
        goodbye = say(&mut sink, messages.as_mut(), &stop) => goodbye,
    };
    if let Ok(socket) = sink.reunite(stream) {
        // Whoever does not take the farewell is left without it.
        let _untold = timeout(FAREWELL_MAX, part(socket, goodbye)).await;
    }
}

/// Takes what the client says.
async fn hear<S, F, Fut>(stream: &mut SplitStream<WebSocketStream<S>>, take: &F) -> Goodbye
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Bytes) -> Fut,
    Fut: Future<Output = Result<(), Failure>>,
{
    loop {
        let Ok(heard) = timeout(SILENCE_MAX, stream.next()).await else {
            return Goodbye::Silent;
        };
        match heard {
            Some(Ok(Message::Text(text))) => {
                if take(text.into()).await.is_err() {
                    // It has ended, and what is still to be said on it says how.
                    return pending().await;
                }
            }
            Some(Ok(Message::Binary(_))) => return Goodbye::Binary,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(_))) => return Goodbye::Theirs,
            Some(Err(error)) => return Goodbye::because_of(&error),
            None => return Goodbye::Gone,
        }
    }
}

/// Tells the client what there is, and pings it.
async fn say<S>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    mut messages: Pin<&mut (impl Stream<Item = Bytes> + Send)>,
    stop: &Stop,
) -> Goodbye
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let frame = tokio::select! {
            biased;
            message = messages.next() => match message.map(Utf8Bytes::try_from) {
                Some(Ok(text)) => Message::Text(text),
                // JSON is text; what is not came from nowhere that may speak here.
                Some(Err(_)) => continue,
                None if stop.is_draining() => return Goodbye::Draining,
                None => return Goodbye::Ended,
            },
            _ = ping.tick() => Message::Ping(Bytes::new()),
        };
        match timeout(WRITE_MAX, sink.send(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Goodbye::Gone,
        }
    }
}

/// Says why it ends, and waits for the client's own farewell: what lies unread when a connection is dropped resets it,
/// and the client would never read why.
async fn part<S>(mut socket: WebSocketStream<S>, goodbye: Goodbye)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if socket.close(goodbye.frame()).await.is_err() {
        return;
    }
    if goodbye == Goodbye::TooLarge || goodbye == Goodbye::NoFrame {
        // Frames can no longer be told apart, so the bytes are read as they come.
        let mut rest = vec![0; 16 << 10];
        while socket.get_mut().read(&mut rest).await.is_ok_and(|count| count > 0) {}
    } else {
        while socket.next().await.is_some_and(|frame| frame.is_ok()) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use tokio::io::{DuplexStream, duplex};
    use tokio_tungstenite::tungstenite::protocol::Role;

    async fn pair() -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (ours, theirs) = duplex(1 << 10);
        tokio::join!(
            WebSocketStream::from_raw_socket(ours, Role::Server, None),
            WebSocketStream::from_raw_socket(theirs, Role::Client, None)
        )
    }

    async fn serve(socket: WebSocketStream<DuplexStream>, messages: impl Stream<Item = Bytes> + Send) {
        talk(socket, messages, |_| async { Ok(()) }, Stop::new()).await;
    }

    /// The frames that a client is sent, and when, in seconds.
    async fn frames(mut client: WebSocketStream<DuplexStream>) -> Vec<(u64, Message)> {
        let begun = Instant::now();
        let mut frames = Vec::new();
        while let Some(Ok(frame)) = client.next().await {
            frames.push((begun.elapsed().as_secs(), frame));
        }
        frames
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_pings_stays_for_as_long_as_it_likes() {
        let (server, client) = pair().await;
        let an_hour = timeout(Duration::from_hours(1), async {
            tokio::join!(serve(server, stream::pending()), frames(client))
        });
        assert!(an_hour.await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_hung_up_on() {
        let (server, mut client) = pair().await;
        let begun = Instant::now();
        serve(server, stream::pending()).await;
        let took = begun.elapsed();
        assert!(
            took >= SILENCE_MAX && took <= SILENCE_MAX + FAREWELL_MAX,
            "after {took:?}"
        );
        // Read as bytes: a client of the protocol would answer pings on a connection that is gone.
        let mut heard = Vec::new();
        client.get_mut().read_to_end(&mut heard).await.unwrap();
        let close = heard.iter().position(|byte| *byte == 0x88).expect("a close frame");
        let code = u16::from_be_bytes([heard[close + 2], heard[close + 3]]);
        assert_eq!(code, 1011, "{heard:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_hung_up_on() {
        let (server, _client) = pair().await;
        let flood = stream::repeat(Bytes::from(vec![b'1'; 1 << 10]));
        let begun = Instant::now();
        serve(server, flood).await;
        assert!(begun.elapsed() <= WRITE_MAX + FAREWELL_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_messages_is_told_with_its_reason() {
        for (draining, code) in [(true, CloseCode::Away), (false, CloseCode::Policy)] {
            let (server, client) = pair().await;
            let stop = Stop::new();
            if draining {
                stop.drain();
            }
            let messages = stream::iter([Bytes::from_static(b"{}")]);
            let take = |_| async { Ok(()) };
            let ((), heard) = tokio::join!(talk(server, messages, take, stop), frames(client));
            assert_eq!(heard[0].1, Message::text("{}"));
            let Message::Close(Some(frame)) = &heard[1].1 else {
                panic!("{heard:?}");
            };
            assert_eq!(frame.code, code);
        }
    }
}
