//! Lines of bounded length. One that is too long is skipped, and its two ends are kept: they tell whose answer it was.

use bytes::{Buf, Bytes, BytesMut};
use std::io;
use tokio_util::codec::Decoder;

/// What is kept of either end of a line that is too long.
const END_BYTES: usize = 512;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Whole(Bytes),
    TooLong { head: Bytes, tail: Bytes },
}

#[derive(Debug)]
pub(super) struct Lines {
    bytes_max: usize,
    /// Up to here the buffer holds no line break.
    searched: usize,
    /// The ends of a line that is being skipped.
    skipped: Option<(Bytes, BytesMut)>,
}

impl Lines {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            searched: 0,
            skipped: None,
        }
    }

    /// Keeps no more of a line that is too long than its ends.
    fn skip(&mut self, piece: &[u8]) {
        let (_, tail) = self.skipped.get_or_insert_with(|| {
            (
                Bytes::copy_from_slice(&piece[..piece.len().min(END_BYTES)]),
                BytesMut::new(),
            )
        });
        tail.extend_from_slice(&piece[piece.len().saturating_sub(END_BYTES)..]);
        let surplus = tail.len().saturating_sub(END_BYTES);
        tail.advance(surplus);
    }
}

impl Decoder for Lines {
    type Item = Line;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Line>> {
        let end = buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| self.searched + end) else {
            if self.skipped.is_some() || buffer.len() > self.bytes_max {
                let piece = buffer.split();
                self.skip(&piece);
            }
            self.searched = buffer.len();
            return Ok(None);
        };
        self.searched = 0;
        let line = buffer.split_to(end);
        buffer.advance(1);
        if self.skipped.is_some() || line.len() > self.bytes_max {
            self.skip(&line);
        }
        Ok(Some(match self.skipped.take() {
            Some((head, tail)) => Line::TooLong {
                head,
                tail: tail.freeze(),
            },
            None => Line::Whole(line.freeze()),
        }))
    }

    /// A last line may lack its line break.
    fn decode_eof(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Line>> {
        match self.decode(buffer)? {
            Some(line) => Ok(Some(line)),
            None if buffer.is_empty() => Ok(None),
            None => {
                self.searched = 0;
                Ok(Some(Line::Whole(buffer.split().freeze())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&str], bytes_max: usize) -> Vec<String> {
        let mut lines = Lines::new(bytes_max);
        let mut buffer = BytesMut::new();
        let mut seen = Vec::new();
        let mut note = |line: Line| {
            seen.push(match line {
                Line::Whole(line) => String::from_utf8_lossy(&line).into_owned(),
                Line::TooLong { head, tail } => format!(
                    "{}…{}",
                    String::from_utf8_lossy(&head[..2]),
                    String::from_utf8_lossy(&tail[tail.len() - 2..])
                ),
            });
        };
        for piece in pieces {
            buffer.extend_from_slice(piece.as_bytes());
            while let Some(line) = lines.decode(&mut buffer).unwrap() {
                note(line);
            }
        }
        while let Some(line) = lines.decode_eof(&mut buffer).unwrap() {
            note(line);
        }
        seen
    }

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        assert_eq!(check(&["a\nb", "c\n\r\n", "d"], 10), ["a", "bc", "\r", "d"]);
        assert_eq!(check(&["1234567890\n"], 10), ["1234567890"]);
    }

    #[test]
    fn a_line_that_is_too_long_leaves_its_ends_and_the_next_line_is_read() {
        assert_eq!(check(&["12345678901\nnext\n"], 10), ["12…01", "next"]);
        let long = "x".repeat(5000);
        assert_eq!(check(&["ab", &long, &long, "yz", "\nnext\n"], 10), ["ab…yz", "next"]);
        assert_eq!(check(&["abcdefghijkl", "m\n"], 10), ["ab…lm"]);
    }
}
