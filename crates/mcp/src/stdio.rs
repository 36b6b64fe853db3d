//! An MCP server on standard input and output: the bridge to a running gateway's `/mcp`, and the way into one that runs
//! in this process.
//!
//! One message a line, both ways; nothing else is ever written. The bridge understands only the envelope: what a client and
//! the gateway say to each other passes through as it is. A gateway that is gone is an error of the request, and never
//! the end of the bridge.

mod glance;
mod inside;
mod link;
mod marks;
mod relay;
mod standing;

pub use inside::serve;

use bytes::Bytes;
use forebay_domain::{Code, Failure};
use forebay_runtime::{Secret, Stop};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use link::{Link, Sent};
use std::{collections::VecDeque, io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use url::Url;

/// The longest message, either way.
const LINE_BYTES_MAX: usize = 16 << 20;
/// Requests under way at once; further ones wait here.
const UNDER_WAY_MAX: usize = 64;
/// Requests that wait here at most; what comes behind them waits unread. Answers to the gateway's questions are among
/// what comes, so reading must not stop as long as that can be helped.
const WAITING_MAX: usize = 1024;
/// Lines that wait for a slow reader of standard output.
const LINES_MAX: usize = 64;
/// How long the farewell to the gateway may take.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// Where the bridge leads.
pub struct BridgeTo {
    /// The gateway's `/mcp`.
    pub url: Url,
    pub key: Secret,
    /// Without a limit on the whole of a request: a call may last, and the gateway sends a sign of life.
    pub client: reqwest::Client,
}

/// Serves until standard input ends and all answers are out, or until `stop` drains.
pub async fn bridge<R, W>(stdin: R, mut stdout: W, to: BridgeTo, stop: Stop) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (out, mut outgoing) = mpsc::channel(LINES_MAX);
    let link = Link::new(to, out);
    let mut stdin = FramedRead::new(stdin, LinesCodec::new_with_max_length(LINE_BYTES_MAX));
    let mut work = Work::default();
    let mut listening: Option<BoxFuture<'_, ()>> = None;
    loop {
        if work.is_finished() {
            break;
        }
        tokio::select! {
            biased;
            () = stop.draining() => break,
            Some(message) = outgoing.recv() => write(&mut stdout, &message).await?,
            Some(sent) = work.running.next() => {
                if sent == Sent::Opening {
                    work.opening = false;
                    listening = Some(link.listen().boxed());
                }
                work.next();
            }
            () = async { listening.as_mut().expect("checked by the condition").await }, if listening.is_some() => {
                listening = None;
            }
            read = stdin.next(), if work.has_room() => work.take(read, &link),
        }
    }
    while let Ok(message) = outgoing.try_recv() {
        write(&mut stdout, &message).await?;
    }
    // The gateway forgets an idle session by itself, so a farewell that fails costs nothing.
    let _unheard = tokio::time::timeout(FAREWELL_MAX, link.close()).await;
    Ok(())
}

/// The messages under way.
#[derive(Default)]
struct Work<'a> {
    running: FuturesUnordered<BoxFuture<'a, Sent>>,
    /// Requests that nobody has begun to send.
    waiting: VecDeque<BoxFuture<'a, Sent>>,
    /// An `initialize` is under way: what follows needs its session, so it waits.
    opening: bool,
    /// A line was refused; the reader then says once that it has ended, without meaning it.
    refused: bool,
    ended: bool,
}

impl<'a> Work<'a> {
    fn has_room(&self) -> bool {
        !self.ended && !self.opening && self.waiting.len() < WAITING_MAX
    }

    fn is_finished(&self) -> bool {
        self.ended && self.running.is_empty()
    }

    /// Begins the request that has waited longest, where one is to begin.
    fn next(&mut self) {
        if self.running.len() < UNDER_WAY_MAX {
            self.running.extend(self.waiting.pop_front());
        }
    }

    fn end(&mut self, link: &Link) {
        self.ended = true;
        link.hang_up();
    }

    fn take(&mut self, read: Option<Result<String, LinesCodecError>>, link: &'a Link) {
        match read {
            None if self.refused => self.refused = false,
            None => self.end(link),
            Some(Err(fault)) => self.refuse(&fault, link),
            Some(Ok(text)) if text.trim().is_empty() => {}
            Some(Ok(text)) => {
                let sending = link.send(Bytes::from(text));
                self.opening |= sending.what == Sent::Opening;
                if sending.what == Sent::Request && self.running.len() >= UNDER_WAY_MAX {
                    self.waiting.push_back(sending.done);
                } else {
                    self.running.push(sending.done);
                }
            }
        }
    }

    fn refuse(&mut self, fault: &LinesCodecError, link: &'a Link) {
        match fault_of(fault) {
            Some(failure) => {
                self.refused = true;
                self.running.push(link.refuse(failure).boxed());
            }
            None => self.end(link),
        }
    }
}

/// Why a line that is none was refused; `None` where standard input itself is at fault.
fn fault_of(fault: &LinesCodecError) -> Option<Failure> {
    match fault {
        LinesCodecError::MaxLineLengthExceeded => {
            let message = format!("A line has at most {LINE_BYTES_MAX} bytes.");
            Some(Failure::new(Code::BodyTooLarge, message))
        }
        LinesCodecError::Io(fault) if fault.kind() == io::ErrorKind::InvalidData => {
            Some(Failure::new(Code::MalformedJson, "A line is not UTF-8 text."))
        }
        LinesCodecError::Io(_) => None,
    }
}

async fn write<W: AsyncWrite + Unpin>(stdout: &mut W, line: &[u8]) -> io::Result<()> {
    stdout.write_all(line).await?;
    stdout.write_all(b"\n").await?;
    stdout.flush().await
}
