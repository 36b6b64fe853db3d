//! Cuts a stream of server-sent events at the borders of its events, without changing or delaying them.
//!
//! Lines end in LF, CR or CRLF, and any of these may be cut in two by the network. The bytes of an event come out as
//! they went in, but for a byte order mark at the very start and for the LF of a CRLF that was cut right between: a
//! lone CR ends the line just as well, and waiting for the LF would hold the event back.

use bytes::{Bytes, BytesMut};
use std::borrow::Cow;

/// Largest event accepted.
pub(crate) const EVENT_BYTES_MAX: usize = 1 << 20;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// An event, or the beginning of one, is larger than [`EVENT_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

#[derive(Debug)]
pub(crate) struct Splitter {
    buffer: BytesMut,
    /// Where the line under examination begins, and how far it has been examined.
    line: usize,
    seen: usize,
    /// The last chunk ended in CR: an LF at the start of the next one belongs to it.
    skip_lf: bool,
    at_start: bool,
}

impl Splitter {
    pub(crate) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            line: 0,
            seen: 0,
            skip_lf: false,
            at_start: true,
        }
    }

    pub(crate) fn push(&mut self, chunk: &[u8]) {
        let Some(first) = chunk.first() else { return };
        let skip = self.skip_lf && *first == b'\n';
        self.skip_lf = false;
        self.buffer.extend_from_slice(&chunk[usize::from(skip)..]);
    }

    /// The next whole event with the blank line that ends it.
    pub(crate) fn next_event(&mut self) -> Result<Option<Bytes>, TooLarge> {
        while let Some(offset) = memchr::memchr2(b'\n', b'\r', &self.buffer[self.seen..]) {
            let end_of_line = self.seen + offset;
            let mut next = end_of_line + 1;
            if self.buffer[end_of_line] == b'\r' {
                match self.buffer.get(next) {
                    Some(b'\n') => next += 1,
                    Some(_) => {}
                    None => self.skip_lf = true,
                }
            }
            let is_blank = end_of_line == self.line;
            (self.line, self.seen) = (next, next);
            if is_blank {
                return self.cut(next).map(Some);
            }
        }
        self.seen = self.buffer.len();
        if self.buffer.len() > EVENT_BYTES_MAX {
            return Err(TooLarge);
        }
        Ok(None)
    }

    /// What is left when the stream ends: an event that nobody closed.
    pub(crate) fn rest(&mut self) -> Option<Bytes> {
        let length = self.buffer.len();
        (length > 0).then(|| self.cut(length).ok()).flatten()
    }

    fn cut(&mut self, length: usize) -> Result<Bytes, TooLarge> {
        (self.line, self.seen) = (0, 0);
        let mut event = self.buffer.split_to(length).freeze();
        if event.len() > EVENT_BYTES_MAX {
            return Err(TooLarge);
        }
        if std::mem::take(&mut self.at_start) && event.starts_with(BYTE_ORDER_MARK) {
            event = event.slice(BYTE_ORDER_MARK.len()..);
        }
        Ok(event)
    }
}

/// The data of an event: what its `data:` lines say, joined. `None` where it has none (a comment, a blank line).
pub(crate) fn data(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut lines = lines(event).filter_map(|line| field(line, b"data"));
    let first = lines.next()?;
    let Some(second) = lines.next() else {
        return Some(Cow::Borrowed(first));
    };
    let mut joined = first.to_vec();
    for line in std::iter::once(second).chain(lines) {
        joined.push(b'\n');
        joined.extend_from_slice(line);
    }
    Some(Cow::Owned(joined))
}

/// Whether the event has a field of this name.
pub(crate) fn has_field(event: &[u8], name: &[u8]) -> bool {
    lines(event).any(|line| field(line, name).is_some())
}

fn lines(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    event.split(|byte| matches!(byte, b'\n' | b'\r'))
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(name)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Option<String>) {
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let mut splitter = Splitter::new();
        let mut events = Vec::new();
        for chunk in chunks {
            splitter.push(chunk);
            while let Some(event) = splitter.next_event().unwrap() {
                events.push(text(event));
            }
        }
        (events, splitter.rest().map(text))
    }

    #[test]
    fn every_line_end_ends_a_line() {
        let (events, rest) = split([b"data: a\n\ndata: b\r\n\r\ndata: c\r\r: hm\ndata: d\n\r\nda".as_slice()]);
        assert_eq!(
            events,
            ["data: a\n\n", "data: b\r\n\r\n", "data: c\r\r", ": hm\ndata: d\n\r\n"]
        );
        assert_eq!(rest.as_deref(), Some("da"));
    }

    #[test]
    fn an_event_comes_out_as_soon_as_it_is_whole() {
        let mut splitter = Splitter::new();
        splitter.push(b"data: a\r\n\r");
        assert_eq!(splitter.next_event(), Ok(Some(Bytes::from("data: a\r\n\r"))));
        splitter.push(b"\ndata: b\n");
        assert_eq!(splitter.next_event(), Ok(None));
        splitter.push(b"\n");
        assert_eq!(splitter.next_event(), Ok(Some(Bytes::from("data: b\n\n"))));
        assert_eq!(splitter.rest(), None);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_event() {
        let (events, _) = split(["\u{feff}data: \u{feff}\n\n".as_bytes()]);
        assert_eq!(events, ["data: \u{feff}\n\n"]);
        let (events, _) = split([b"\xef".as_slice(), b"\xbb", b"\xbfdata: x\n\ndata: y\n\n"]);
        assert_eq!(events, ["data: x\n\n", "data: y\n\n"]);
    }

    #[test]
    fn an_event_is_bounded() {
        let mut splitter = Splitter::new();
        splitter.push(&vec![b'x'; EVENT_BYTES_MAX]);
        assert_eq!(splitter.next_event(), Ok(None));
        splitter.push(b"x");
        assert_eq!(splitter.next_event(), Err(TooLarge));
        let mut splitter = Splitter::new();
        splitter.push(&[vec![b'x'; EVENT_BYTES_MAX], b"\n\n".to_vec()].concat());
        assert_eq!(splitter.next_event(), Err(TooLarge));
    }

    #[test]
    fn data_lines_are_joined() {
        for (event, expected) in [
            ("data: a\n\n", Some("a")),
            ("data:a\r\n\r\n", Some("a")),
            ("data:  a\n\n", Some(" a")),
            ("event: x\ndata: {\rdata\rdata:}\r\r", Some("{\n\n}")),
            (": ping\n\n", None),
            ("dataset: a\n\n", None),
            ("\n", None),
        ] {
            let data = data(event.as_bytes()).map(|data| String::from_utf8(data.into_owned()).unwrap());
            assert_eq!(data.as_deref(), expected, "{event:?}");
        }
        assert!(has_field(b"error: {}\n\n", b"error"));
        assert!(!has_field(b"data: error\n\n", b"error"));
    }

    proptest! {
        #[test]
        fn where_the_network_cuts_does_not_matter(text in "(data: [ab]|[\n\r:]|é){0,30}", cuts in prop::collection::vec(0usize..200, 0..6)) {
            let bytes = text.as_bytes();
            let (whole, whole_rest) = split([bytes]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut splitter = Splitter::new();
            let mut events = Vec::new();
            for pair in cuts.windows(2) {
                splitter.push(&bytes[pair[0]..pair[1]]);
                while let Some(event) = splitter.next_event().unwrap() {
                    events.push(event);
                }
            }
            let datas = |events: &[Bytes]| events.iter().map(|event| data(event).map(Cow::into_owned)).collect::<Vec<_>>();
            let whole: Vec<Bytes> = whole.into_iter().map(Bytes::from).collect();
            prop_assert_eq!(datas(&whole), datas(&events));
            let rest = |rest: Option<Bytes>| rest.and_then(|rest| data(&rest).map(Cow::into_owned));
            prop_assert_eq!(rest(whole_rest.map(Bytes::from)), rest(splitter.rest()));
        }
    }
}
