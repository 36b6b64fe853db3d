//! The stdio transport: one message a line, both ways, over a pair of pipe ends.
//!
//! What comes that is no message (a program that greets on its standard output) is counted and skipped. The reader
//! never waits for the writer, so an upstream that stops reading cannot stop us from reading it.

use super::{
    ClientFault, Parts,
    core::{Answer, Core, Gone, UnderWay, Via},
    framing::{Line, Lines},
    wire::id_within,
};
use bytes::Bytes;
use futures_util::StreamExt;
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};
use tokio_util::codec::FramedRead;

/// Messages that wait for an upstream to read them.
const OUT_MAX: usize = 256;

pub(super) struct Pipe;

impl Pipe {
    /// Takes over the two ends.
    pub(super) fn start(
        reader: Box<dyn AsyncRead + Send + Unpin>,
        writer: Box<dyn AsyncWrite + Send + Unpin>,
        parts: Parts,
    ) -> Arc<Core> {
        let (out, messages) = mpsc::channel(OUT_MAX);
        let core = Core::new(parts, out);
        let reading = core.clone();
        core.tasks.spawn("mcp-pipe-read", |_stop| async move {
            tokio::select! {
                biased;
                () = reading.ended.cancelled() => {}
                why = read(reader, &reading) => reading.end(why),
            }
        });
        let writing = core.clone();
        core.tasks.spawn("mcp-pipe-write", |_stop| async move {
            tokio::select! {
                biased;
                () = writing.ended.cancelled() => {}
                outcome = write(writer, messages) => {
                    if let Err(error) = outcome {
                        writing.end(Gone::Broken(format!("its input cannot be written ({})", error.kind())));
                    }
                }
            }
        });
        core
    }

    pub(super) async fn exchange(core: &Core, under_way: &mut UnderWay, message: Bytes) -> Answer {
        core.out.send(message).await.map_err(|_| core.gone())?;
        (&mut under_way.answer).await.unwrap_or_else(|_| Err(core.gone()))
    }

    pub(super) async fn notify(core: &Core, message: Bytes) -> Result<(), ClientFault> {
        core.out.send(message).await.map_err(|_| core.gone())
    }
}

async fn read(reader: Box<dyn AsyncRead + Send + Unpin>, core: &Arc<Core>) -> Gone {
    let mut lines = FramedRead::new(reader, Lines::new(core.limits.message_bytes_max));
    while let Some(line) = lines.next().await {
        match line {
            Ok(Line::Whole(line)) if line.trim_ascii().is_empty() => {}
            Ok(Line::Whole(line)) => core.take(&line, Via::Shared),
            Ok(Line::TooLong { head, tail }) => {
                core.count_junk("a line is too long");
                let fault = ClientFault::TooLarge {
                    bytes_max: core.limits.message_bytes_max,
                };
                core.fail(
                    id_within(&head).or_else(|| id_within(&tail)).or_else(|| core.only()),
                    fault,
                );
            }
            Err(error) => return Gone::Broken(format!("its output cannot be read ({})", error.kind())),
        }
    }
    Gone::Broken("it closed its output".to_owned())
}

async fn write(mut writer: Box<dyn AsyncWrite + Send + Unpin>, mut messages: mpsc::Receiver<Bytes>) -> io::Result<()> {
    while let Some(message) = messages.recv().await {
        let mut line = one_line(&message);
        line.push(b'\n');
        writer.write_all(&line).await?;
        writer.flush().await?;
    }
    Ok(())
}

/// A line break between two tokens means nothing in JSON, and everything here.
fn one_line(message: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(message.len() + 1);
    line.extend(message.iter().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        byte => *byte,
    }));
    line
}
