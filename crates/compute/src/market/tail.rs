//! The last lines of a log that a provider streams and never ends.
//!
//! Streams of events and plain text are both read. What is read is bounded in bytes and time, what is kept in lines and
//! in the length of each; a stream that has gone quiet has said what it had to say.

use super::{MarketFault, wire::Answer};
use bytes::BytesMut;
use http::{HeaderValue, header::CONTENT_TYPE};
use serde_json::Value;
use std::{collections::VecDeque, time::Duration};
use tokio::time::{Instant, timeout};

const LINE_BYTES_MAX: usize = 8 << 10;
const READ_BYTES_MAX: usize = 16 << 20;
const KEPT_BYTES_MAX: usize = 1 << 20;
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// How long it may take to begin.
const BEGIN_MAX: Duration = Duration::from_secs(8);
/// How long nothing may come before that is taken for the end.
const QUIET_MAX: Duration = Duration::from_secs(1);
const WHOLE_MAX: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `text/event-stream`
    Events,
    Text,
}

/// Reads until the stream ends, goes quiet or has had its time. What is no success is given back as an answer.
pub(super) async fn read(mut opened: reqwest::Response, lines_max: u32) -> Result<Result<String, Answer>, MarketFault> {
    if !opened.status().is_success() {
        return refusal(opened).await.map(Err);
    }
    let kind = opened.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let form = match kind {
        Some(kind) if kind.starts_with(b"text/event-stream") => Form::Events,
        _ => Form::Text,
    };
    let mut tail = Tail::new(form, lines_max);
    let end = Instant::now() + WHOLE_MAX;
    let (mut patience, mut read_bytes) = (BEGIN_MAX, 0);
    while read_bytes < READ_BYTES_MAX {
        let wait = patience.min(end.saturating_duration_since(Instant::now()));
        match timeout(wait, opened.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                read_bytes += chunk.len();
                tail.push(&chunk);
            }
            Ok(Ok(None)) | Err(_) => break,
            Ok(Err(_)) if read_bytes > 0 => break,
            Ok(Err(error)) => return Err(MarketFault::Unreachable(error.without_url().to_string())),
        }
        patience = QUIET_MAX;
    }
    Ok(Ok(tail.finish()))
}

async fn refusal(mut opened: reqwest::Response) -> Result<Answer, MarketFault> {
    let mut body = BytesMut::new();
    let read = async {
        while let Ok(Some(chunk)) = opened.chunk().await {
            if body.len() + chunk.len() > REFUSAL_BYTES_MAX {
                break;
            }
            body.extend_from_slice(&chunk);
        }
    };
    let late = |_| MarketFault::Unreachable("it did not end its answer in time".to_owned());
    timeout(BEGIN_MAX, read).await.map_err(late)?;
    Ok(Answer {
        status: opened.status(),
        headers: opened.headers().clone(),
        body: body.freeze(),
    })
}

struct Tail {
    form: Form,
    lines_max: usize,
    lines: VecDeque<String>,
    kept_bytes: usize,
    /// A line that has not ended yet.
    open: Vec<u8>,
}

impl Tail {
    fn new(form: Form, lines_max: u32) -> Self {
        Self {
            form,
            lines_max: usize::try_from(lines_max).unwrap_or(usize::MAX),
            lines: VecDeque::new(),
            kept_bytes: 0,
            open: Vec::new(),
        }
    }

    fn push(&mut self, chunk: &[u8]) {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            let (piece, is_whole) = match piece.split_last() {
                Some((b'\n', rest)) => (rest, true),
                _ => (piece, false),
            };
            let room = LINE_BYTES_MAX - self.open.len();
            self.open.extend_from_slice(&piece[..piece.len().min(room)]);
            if is_whole {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.open).into_owned();
        self.open.clear();
        let line = line.trim_end_matches('\r');
        let said = match self.form {
            Form::Text => Some(line.to_owned()),
            Form::Events => line.strip_prefix("data:").map(|data| said(data.trim_start())),
        };
        let Some(said) = said else { return };
        self.kept_bytes += said.len();
        self.lines.push_back(said);
        while self.lines.len() > self.lines_max || self.kept_bytes > KEPT_BYTES_MAX {
            let Some(first) = self.lines.pop_front() else { return };
            self.kept_bytes -= first.len();
        }
    }

    fn finish(mut self) -> String {
        if !self.open.is_empty() {
            self.end_line();
        }
        let lines: Vec<String> = self.lines.into();
        lines.join("\n")
    }
}

/// The line that an event carries: itself, or within `{"line": …}`.
fn said(data: &str) -> String {
    let line = serde_json::from_str(data)
        .ok()
        .and_then(|event: Value| Some(event.get("line")?.as_str()?.to_owned()));
    line.unwrap_or_else(|| data.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt, stream};
    use proptest::prelude::*;
    use std::io;
    use tokio::time::sleep;

    fn tail(form: Form, lines_max: u32, chunks: &[&str]) -> String {
        let mut tail = Tail::new(form, lines_max);
        for chunk in chunks {
            tail.push(chunk.as_bytes());
        }
        tail.finish()
    }

    #[test]
    fn the_last_lines_of_a_text() {
        assert_eq!(tail(Form::Text, 2, &["one\ntw", "o\r\nthr", "ee"]), "two\nthree");
        assert_eq!(tail(Form::Text, 0, &["one\n"]), "");
        assert_eq!(tail(Form::Text, 5, &[]), "");
    }

    #[test]
    fn events_are_read_for_what_they_carry() {
        let events = [
            ": hello\n\nid: 2026-11-21T01:00:00Z\nevent: log\ndata: {\"source\":\"container\",\"li",
            "ne\":\"Started\",\"ts\":\"x\"}\n\ndata: plain\r\n\r\ndata:{\"no\":1}\n\n",
        ];
        assert_eq!(tail(Form::Events, 9, &events), "Started\nplain\n{\"no\":1}");
    }

    const PAUSE: Duration = Duration::from_millis(700);

    /// A line after each pause, and then a silence without an end.
    fn opened(status: u16, lines: usize) -> reqwest::Response {
        let lines = stream::iter(0..lines).then(async |line| {
            sleep(PAUSE).await;
            Ok::<_, io::Error>(format!("line {line}\n"))
        });
        let body = reqwest::Body::wrap_stream(lines.chain(stream::pending()).boxed());
        let response = http::Response::builder().status(status).body(body);
        response.unwrap().into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_goes_quiet_has_said_all() {
        let began = Instant::now();
        assert_eq!(read(opened(200, 3), 2).await.unwrap().unwrap(), "line 1\nline 2");
        assert_eq!(began.elapsed(), PAUSE * 3 + QUIET_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_never_begins_or_never_stops_has_its_time() {
        let began = Instant::now();
        assert_eq!(read(opened(200, 0), 2).await.unwrap().unwrap(), "");
        assert_eq!(began.elapsed(), BEGIN_MAX);
        let began = Instant::now();
        assert_eq!(read(opened(200, 1_000), 1).await.unwrap().unwrap(), "line 20");
        assert_eq!(began.elapsed(), WHOLE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_without_an_end_is_none() {
        let began = Instant::now();
        assert!(read(opened(500, 1), 2).await.unwrap_err().is_blind());
        assert_eq!(began.elapsed(), BEGIN_MAX);
    }

    #[test]
    fn a_log_without_an_end_costs_no_more_than_its_bound() {
        let mut tail = Tail::new(Form::Text, u32::MAX);
        for _ in 0..300 {
            tail.push(&vec![b'x'; 100 << 10]);
            tail.push(b"\n");
        }
        let text = tail.finish();
        assert!(text.len() <= KEPT_BYTES_MAX + 300, "{}", text.len());
        assert_eq!(text.lines().map(str::len).max(), Some(LINE_BYTES_MAX));
    }

    proptest! {
        #[test]
        fn it_is_the_same_however_it_is_cut(text in "[a-z\r\n:{}\"]{0,80}", at in 0_usize..80, lines in 0_u32..6) {
            for form in [Form::Text, Form::Events] {
                let at = at.min(text.len());
                prop_assert_eq!(tail(form, lines, &[&text[..at], &text[at..]]), tail(form, lines, &[&text]));
            }
        }
    }
}
