//! The names of streams and of places in them, which clients send back as `Last-Event-ID`, and the form in which
//! messages are kept.
//!
//! A name says which process drives the stream, so that no two processes write to one, and whoever finds it later can
//! tell whether anybody still may. That of a call says which request it answers as well: whoever comes back for a call of
//! which nothing is known any more can be told so. What a client sends as a name is believed only as far as it is one.

use crate::envelope::Id;
use std::sync::Arc;

/// The longest event id that is looked at, in bytes.
const EVENT_ID_BYTES_MAX: usize = 160;
/// The longest id of a request that stands in the name of its stream, in bytes of JSON: room for a UUID.
const REQUEST_BYTES_MAX: usize = 40;

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// A call, which ends with its answer.
    Call,
    /// The gateway's own words.
    Listener,
}

/// The name of a stream: its use, its number, who writes it, and the request that it answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Stream(Arc<str>);

impl Stream {
    pub(crate) fn new(used: Use, number: u64, writer: &str, request: Option<&Id>) -> Self {
        let letter = match used {
            Use::Call => 'c',
            Use::Listener => 'l',
        };
        let request = request.map(Id::as_json).filter(|json| json.len() <= REQUEST_BYTES_MAX);
        let request = request.map_or_else(String::new, |json| format!(".{}", hex::encode(json)));
        Self(format!("{letter}{number}.{writer}{request}").into())
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
        self.0.split('.').nth(1).unwrap_or_default()
    }

    /// The request that it answers, where its name says so.
    pub(crate) fn request(&self) -> Option<Id> {
        let json = hex::decode(self.0.split('.').nth(2)?).ok()?;
        Id::parse(std::str::from_utf8(&json).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(['c', 'l'])?;
        let (number, rest) = rest.split_once('.')?;
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let (writer, request) = rest.split_once('.').unwrap_or((rest, ""));
        let hex = writer.bytes().chain(request.bytes()).all(|b| b.is_ascii_hexdigit());
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
    use forebay_store::mcp::streams::STREAM_NAME_BYTES_MAX;

    #[test]
    fn an_event_id_is_read_as_it_was_written_and_nothing_else_is() {
        let longest = format!("\"{}\"", "x".repeat(REQUEST_BYTES_MAX - 2));
        for (used, number, seq, request) in [
            (Use::Call, 1, 0, Some("-7")),
            (Use::Call, u64::MAX, u64::MAX, Some(longest.as_str())),
            (Use::Listener, u64::MAX, u64::MAX, None),
        ] {
            let request = request.map(|json| Id::parse(json).unwrap());
            let stream = Stream::new(used, number, "00ff00ff00ff00ff", request.as_ref());
            assert!(stream.as_str().len() <= STREAM_NAME_BYTES_MAX);
            let place = Place { stream, seq };
            let read = Place::parse(&place.event_id()).unwrap();
            assert_eq!(read, place);
            assert_eq!((read.stream.used(), read.stream.writer()), (used, "00ff00ff00ff00ff"));
            assert_eq!(read.stream.request(), request);
        }
        let long = Id::parse(&format!("\"{}\"", "x".repeat(REQUEST_BYTES_MAX))).unwrap();
        assert_eq!(Stream::new(Use::Call, 1, "ab", Some(&long)).as_str(), "c1.ab");
        for name in ["c1.ab.7-0", "c1.ab.7b7d-0"] {
            let read = Place::parse(name).expect("a name like others");
            assert_eq!(read.stream.request(), None, "{name}: no id of a request");
        }
        let long = format!("c1.{}-1", "a".repeat(EVENT_ID_BYTES_MAX));
        for text in [
            "",
            "c1.00ff",
            "x1.00ff-1",
            "c.00ff-1",
            "c1-1",
            "c1.00fg-1",
            "c1.00ff.zz-1",
            "c1.00ff.33.33-1",
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
