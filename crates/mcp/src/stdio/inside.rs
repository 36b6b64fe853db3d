//! Standard input and output for a gateway in the same process: each line is a message of one connection.

use super::{LINE_BYTES_MAX, fault_of, glance::dialect, glance::one_line, write};
use crate::{front::duplex::DuplexHandle, rpc};
use bytes::Bytes;
use forebay_domain::Failure;
use futures_util::{FutureExt, Stream, StreamExt, future::BoxFuture};
use std::{io, pin::pin};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

/// Serves until standard input ends and all answers are out, or until the connection ends.
pub async fn serve<R, W>(
    stdin: R,
    mut stdout: W,
    handle: DuplexHandle,
    messages: impl Stream<Item = Bytes> + Send,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut messages = pin!(messages);
    let mut lines = FramedRead::new(stdin, LinesCodec::new_with_max_length(LINE_BYTES_MAX));
    let mut way = Way {
        handle: Some(handle),
        handing: None,
        refused: false,
    };
    loop {
        tokio::select! {
            biased;
            message = messages.next() => match message {
                Some(message) => write(&mut stdout, &one_line(&message)).await?,
                None => return Ok(()),
            },
            () = way.handed(), if way.handing.is_some() => {}
            read = lines.next(), if way.is_free() => if let Err(failure) = way.take(read) {
                write(&mut stdout, &rpc::failed(None, &failure, dialect()).message).await?;
            }
        }
    }
}

/// The way into the connection. It is dropped when there is nothing more to come, which ends the connection in good
/// order.
struct Way {
    handle: Option<DuplexHandle>,
    /// A message that waits for room.
    handing: Option<BoxFuture<'static, Result<(), Failure>>>,
    /// A line was refused; the reader then says once that it has ended, without meaning it.
    refused: bool,
}

impl Way {
    fn is_free(&self) -> bool {
        self.handle.is_some() && self.handing.is_none()
    }

    async fn handed(&mut self) {
        let Some(handing) = &mut self.handing else { return };
        // A connection that has ended says so by the end of its messages.
        let ended = handing.await.is_err();
        self.handing = None;
        if ended {
            self.handle = None;
        }
    }

    fn take(&mut self, read: Option<Result<String, LinesCodecError>>) -> Result<(), Failure> {
        match read {
            None if self.refused => self.refused = false,
            None => self.handle = None,
            Some(Err(fault)) => match fault_of(&fault) {
                Some(failure) => {
                    self.refused = true;
                    return Err(failure);
                }
                None => self.handle = None,
            },
            Some(Ok(text)) if text.trim().is_empty() => {}
            Some(Ok(text)) => {
                let handle = self.handle.clone();
                self.handing = handle.map(|handle| async move { handle.receive(Bytes::from(text)).await }.boxed());
            }
        }
        Ok(())
    }
}
