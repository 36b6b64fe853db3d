//! The names of streams and of places in them, which clients send back as `Last-Event-ID`, and the form in which
//! messages are kept.
//!
//! A name says which process drives the stream, so that no two processes write to one, and whoever finds it later can
//! tell whether anybody still may. What a client sends as a name is believed only as far as it is one.

use std::sync::Arc;

/// The longest event id that is looked at, in bytes.
const EVENT_ID_BYTES_MAX: usize = 80;

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// A call, which ends with its answer.
    Call,
    /// The gateway's own words.
    Listener,
}

/// The name of a stream: its use, its number, and who writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Stream(Arc<str>);

impl Stream {
    pub(crate) fn new(used: Use, number: u64, writer: &str) -> Self {
        let letter = match used {
            Use::Call => 'c',
            Use::Listener => 'l',
        };
        Self(format!("{letter}{number}.{writer}").into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn used(&self) -> Use {
        if self.0.starts_with('c') {
            Use::Call
        } else {
            Use::Listener
        }
    }

    pub(crate) fn writer(&self) -> &str {
        self.0.split_once('.').map_or("", |(_, writer)| writer)
    }

    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(['c', 'l'])?;
        let (number, writer) = rest.split_once('.')?;
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let hex = writer.bytes().all(|b| b.is_ascii_hexdigit());
        (digits && hex).then(|| Self(text.into()))
    }
}

/// An event of a stream. Number 0 is its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) stream: Stream,
    pub(crate) seq: u64,
}

impl Place {
    pub(crate) fn parse(event_id: &str) -> Option<Self> {
        if event_id.len() > EVENT_ID_BYTES_MAX {
            return None;
        }
        let (stream, seq) = event_id.split_once('-')?;
        Some(Self {
            stream: Stream::parse(stream)?,
            seq: seq.parse().ok()?,
        })
    }

    /// As an event bears it.
    pub(crate) fn event_id(&self) -> String {
        format!("{}-{}", self.stream.as_str(), self.seq)
    }
}

/// What a kept message is: its first byte in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No message, but a sign that somebody drives the stream: the id of the request that it answers.
    Alive,
    Message,
    /// The last one: the answer, or nothing where the request was taken back.
    End,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Alive, Self::Message, Self::End];

    fn byte(self) -> u8 {
        match self {
            Self::Alive => b'A',
            Self::Message => b'M',
            Self::End => b'E',
        }
    }

    pub(crate) fn wrap(self, message: &[u8]) -> Vec<u8> {
        let mut kept = Vec::with_capacity(message.len() + 1);
        kept.push(self.byte());
        kept.extend_from_slice(message);
        kept
    }

    /// Nothing where the store holds something that was never written here.
    pub(crate) fn unwrap(kept: &[u8]) -> Option<(Self, &[u8])> {
        let (first, message) = kept.split_first()?;
        let kind = Self::ALL.into_iter().find(|kind| kind.byte() == *first)?;
        Some((kind, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_is_read_as_it_was_written_and_nothing_else_is() {
        for (used, number, seq) in [(Use::Call, 1, 0), (Use::Listener, u64::MAX, u64::MAX)] {
            let stream = Stream::new(used, number, "00ff");
            let place = Place { stream, seq };
            let read = Place::parse(&place.event_id()).unwrap();
            assert_eq!(read, place);
            assert_eq!((read.stream.used(), read.stream.writer()), (used, "00ff"));
        }
        let long = format!("c1.{}-1", "a".repeat(EVENT_ID_BYTES_MAX));
        for text in [
            "",
            "c1.00ff",
            "x1.00ff-1",
            "c.00ff-1",
            "c1-1",
            "c1.00fg-1",
            "c1.00ff--1",
            "c1.00ff-x",
            &long,
        ] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_kept_message_says_what_it_is() {
        for kind in Kind::ALL {
            assert_eq!(Kind::unwrap(&kind.wrap(b"{}")), Some((kind, &b"{}"[..])));
        }
        assert_eq!(Kind::unwrap(b""), None);
        assert_eq!(Kind::unwrap(b"X{}"), None);
    }
}
