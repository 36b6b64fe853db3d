//! What a program writes to standard error: the last lines of it, each of bounded length.
//!
//! It is always read to its end, so that a program never stands still because nobody reads. It may say anything, so it
//! reaches the gateway's own log at level debug only, and control characters never reach a terminal.

use crate::Clock;
use jiff::Timestamp;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::io::{AsyncRead, AsyncReadExt};
use tracing::debug;

/// How many lines are kept.
pub(super) const LINES_MAX: usize = 200;
/// How much of one line is kept.
pub(super) const LINE_BYTES_MAX: usize = 4 * 1024;
/// How much is read at once.
const CHUNK_BYTES: usize = 8 * 1024;

/// One line that a program wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub at: Timestamp,
    /// Without its end; control characters and what is no UTF-8 are replaced.
    pub text: String,
    /// The line was longer than what is kept of it.
    pub cut: bool,
}

/// The last lines of one child, or of all that one supervisor started. Clones show the same lines.
#[derive(Debug, Clone, Default)]
pub struct Logs(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
    seen: u64,
}

impl Logs {
    pub fn new() -> Self {
        Self::default()
    }

    /// The lines that are kept, oldest first.
    pub fn lines(&self) -> Vec<Line> {
        self.kept().lines.iter().cloned().collect()
    }

    /// How many lines were written, kept or not.
    pub fn seen(&self) -> u64 {
        self.kept().seen
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("nobody panics while keeping a line")
    }

    fn keep(&self, line: Line) {
        let mut kept = self.kept();
        if kept.lines.len() == LINES_MAX {
            kept.lines.pop_front();
        }
        kept.lines.push_back(line);
        kept.seen += 1;
    }

    /// Reads to the end. Never fails: what cannot be read is at its end.
    pub(super) async fn read(&self, name: &str, mut from: impl AsyncRead + Unpin, clock: &Clock) {
        let mut chunk = [0; CHUNK_BYTES];
        let mut splitter = Splitter::default();
        loop {
            let count = from.read(&mut chunk).await.unwrap_or(0);
            let mut tell = |text: String, cut| {
                debug!(child.name = name, child.line = text, "child says");
                let at = clock.now();
                self.keep(Line { at, text, cut });
            };
            if count == 0 {
                splitter.finish(&mut tell);
                return;
            }
            splitter.take(&chunk[..count], &mut tell);
        }
    }
}

/// Splits bytes into lines, and keeps no more than the bound of the line that is being read.
#[derive(Default)]
struct Splitter {
    begun: Vec<u8>,
    cut: bool,
}

impl Splitter {
    fn take(&mut self, bytes: &[u8], tell: &mut impl FnMut(String, bool)) {
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let room = LINE_BYTES_MAX - self.begun.len();
            self.begun.extend_from_slice(&piece[..piece.len().min(room)]);
            self.cut |= piece.len() > room;
            if pieces.peek().is_some() {
                self.tell(tell);
            }
        }
    }

    fn finish(&mut self, tell: &mut impl FnMut(String, bool)) {
        if !self.begun.is_empty() {
            self.tell(tell);
        }
    }

    fn tell(&mut self, tell: &mut impl FnMut(String, bool)) {
        let line = self.begun.strip_suffix(b"\r").unwrap_or(&self.begun);
        let text = String::from_utf8_lossy(line)
            .chars()
            .map(|c| {
                if c.is_control() && c != '\t' {
                    char::REPLACEMENT_CHARACTER
                } else {
                    c
                }
            })
            .collect();
        tell(text, self.cut);
        self.begun.clear();
        self.cut = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Logs {
        let logs = Logs::new();
        logs.read("test", bytes, &Clock::manual(Timestamp::UNIX_EPOCH)).await;
        logs
    }

    #[tokio::test]
    async fn lines_are_told_apart_whatever_their_ends() {
        let table: &[(&[u8], &[&str])] = &[
            (b"", &[]),
            (b"one\ntwo\n", &["one", "two"]),
            (b"one\r\n\ntwo", &["one", "", "two"]),
            (b"\x1b[31mred\x1b[0m\ttab\n", &["\u{fffd}[31mred\u{fffd}[0m\ttab"]),
            (b"\xc3\xa9t\xc3\xa9 \xff\n", &["été \u{fffd}"]),
        ];
        for (bytes, expected) in table {
            let texts: Vec<String> = read(bytes).await.lines().into_iter().map(|line| line.text).collect();
            assert_eq!(texts, *expected);
        }
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_says_so() {
        for (length, cut) in [(LINE_BYTES_MAX, false), (LINE_BYTES_MAX + 1, true), (1 << 20, true)] {
            let mut bytes = vec![b'x'; length];
            bytes.extend_from_slice(b"\nnext\n");
            let lines = read(&bytes).await.lines();
            assert_eq!(lines.len(), 2);
            assert_eq!((lines[0].text.len(), lines[0].cut), (length.min(LINE_BYTES_MAX), cut));
            assert_eq!((lines[1].text.as_str(), lines[1].cut), ("next", false));
        }
    }

    #[tokio::test]
    async fn only_the_last_lines_are_kept_and_all_are_counted() {
        let bytes: Vec<u8> = (0..1000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        let logs = read(&bytes).await;
        let lines = logs.lines();
        assert_eq!((lines.len(), logs.seen()), (LINES_MAX, 1000));
        assert_eq!(
            (lines[0].text.as_str(), lines[199].text.as_str()),
            ("line 800", "line 999")
        );
    }
}
