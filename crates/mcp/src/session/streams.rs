//! The streams of one legacy session: those of its calls, and those on which the gateway speaks first.
//!
//! A message goes to one stream only, as the specification wants. What was never read is kept for a while, so that a
//! client whose connection broke finds it when it comes back.

pub(crate) use super::log::Home;
use super::{
    log::{Log, Reader, Weight},
    place::{Place, Stream, Use},
};
use crate::envelope::Id;
use forebay_domain::{Code, Failure};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

/// Streams of calls in one session at most, running or waiting to be fetched.
const CALLS_MAX: usize = 256;
/// Streams on which the gateway speaks first, in one session at most.
const LISTENERS_MAX: usize = 8;
/// Streams that are read from the store in one session at most.
const FOLLOWED_MAX: usize = 256;
/// Bytes of ended streams that wait to be fetched in one session at most.
const UNFETCHED_BYTES_MAX: usize = 32 << 20;
/// How long an ended stream waits to be fetched, and a listener that went is waited for.
const PATIENCE_MS: u64 = 5 * 60 * 1000;

#[derive(Default)]
pub(crate) struct Streams {
    table: Mutex<Table>,
    home: Option<Home>,
}

/// A stream and the event after which to go on.
pub(crate) enum Found {
    Call(Arc<Log>, u64),
    Listener(Arc<Log>, u64),
}

#[derive(Default)]
struct Table {
    next: u64,
    calls: Vec<Arc<Log>>,
    listeners: Vec<Arc<Log>>,
    /// Streams that others drive, and what sends the one away who reads it from the store.
    followed: Vec<(Stream, CancellationToken)>,
}

impl Streams {
    /// The streams of a session that are kept beyond this process.
    pub(crate) fn of(home: Home) -> Self {
        Self {
            table: Mutex::default(),
            home: Some(home),
        }
    }

    /// A stream for the call of that request.
    pub(crate) fn open(&self, request: &Id, now_ms: u64) -> Result<Arc<Log>, Failure> {
        let mut table = self.lock();
        table.sweep(now_ms);
        if table.calls.len() >= CALLS_MAX {
            let message = format!("{CALLS_MAX} streams of this session are open already.");
            return Err(Failure::new(Code::Overloaded, message).hint("Wait until some of its calls have ended."));
        }
        let log = self.create(&mut table, Use::Call, Some(request.clone()), now_ms);
        table.calls.push(log.clone());
        Ok(log)
    }

    /// Begins to read a stream on which the gateway speaks first. Of too many, the oldest ends.
    pub(crate) fn listen(&self, now_ms: u64) -> Reader {
        let mut table = self.lock();
        // A client that begins anew does not come back to what it left.
        table.listeners.retain(|log| log.is_read());
        if table.listeners.len() >= LISTENERS_MAX {
            table.listeners.remove(0).hang_up();
        }
        let log = self.create(&mut table, Use::Listener, None, now_ms);
        // It is read before anybody else can find it, who would take it for one that was left.
        let reader = log.read(0);
        table.listeners.push(log);
        reader
    }

    /// Begins to read a stream that another process drives, or drove. An earlier reader, whose connection is probably
    /// gone, ends: what this returns tells it so. Whoever is done cancels it.
    pub(crate) fn follow(&self, stream: &Stream) -> Result<CancellationToken, Failure> {
        let mut table = self.lock();
        table.followed.retain(|(other, reader)| {
            if other == stream {
                reader.cancel();
            }
            !reader.is_cancelled()
        });
        if table.followed.len() >= FOLLOWED_MAX {
            let message = format!("{FOLLOWED_MAX} streams of this session are taken up again already.");
            return Err(Failure::new(Code::Overloaded, message).hint("Wait until some of them have ended."));
        }
        let reader = CancellationToken::new();
        table.followed.push((stream.clone(), reader.clone()));
        Ok(reader)
    }

    fn create(&self, table: &mut Table, used: Use, request: Option<Id>, now_ms: u64) -> Arc<Log> {
        table.next += 1;
        let (number, writer) = match &self.home {
            Some(home) => (home.shelf.next_number(), home.shelf.writer()),
            None => (table.next, ""),
        };
        let stream = Stream::new(used, number, writer, request.as_ref());
        Log::new(stream, self.home.clone(), request, now_ms)
    }

    /// The stream and the place in it, where it is in memory.
    pub(crate) fn find(&self, place: &Place) -> Option<Found> {
        let table = self.lock();
        let of = |logs: &[Arc<Log>]| logs.iter().find(|log| *log.stream() == place.stream).cloned();
        match place.stream.used() {
            Use::Call => of(&table.calls).map(|log| Found::Call(log, place.seq)),
            Use::Listener => of(&table.listeners).map(|log| Found::Listener(log, place.seq)),
        }
    }

    /// Says something that belongs to no call: to the latest listener, or to the one that is waited for.
    pub(crate) fn tell(&self, message: &[u8], now_ms: u64) {
        let mut table = self.lock();
        table.listeners.retain(|log| !log.is_left(now_ms, PATIENCE_MS));
        let mut latest = table.listeners.iter().rev();
        let log = latest.clone().find(|log| log.is_read()).or_else(|| latest.next());
        if let Some(log) = log
            && !log.ends_with(message)
        {
            log.push(message, Weight::Notification);
        }
    }

    pub(crate) fn sweep(&self, now_ms: u64) {
        self.lock().sweep(now_ms);
    }

    /// The session has ended, and so do its streams.
    pub(crate) fn close(&self, now_ms: u64) {
        let mut table = self.lock();
        for log in table.calls.drain(..) {
            log.end(None, now_ms);
        }
        for log in table.listeners.drain(..) {
            log.end(None, now_ms);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table
            .lock()
            .expect("nobody panics while holding the streams of a session")
    }
}

impl Table {
    fn sweep(&mut self, now_ms: u64) {
        self.calls.retain(|log| !log.is_over(now_ms, PATIENCE_MS));
        let ended = self.calls.iter().filter(|log| log.has_ended());
        let mut size: usize = ended.map(|log| log.size()).sum();
        self.calls.retain(|log| {
            let goes = size > UNFETCHED_BYTES_MAX && log.has_ended() && !log.is_read();
            if goes {
                size -= log.size();
            }
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn request() -> Id {
        Id::parse("7").unwrap()
    }

    fn place(event_id: &str) -> Place {
        Place::parse(event_id).unwrap()
    }

    #[test]
    fn an_event_id_names_a_stream_and_a_place() {
        let streams = Streams::default();
        let (first, second) = (streams.open(&request(), 0).unwrap(), streams.listen(0).log);
        for (id, expected) in [
            ("c1..37-0", Some(("call", "c1..37", 0))),
            ("l2.-17", Some(("listener", "l2.", 17))),
            ("c2.-1", None),
            ("l1.-1", None),
            ("c1.-0", None),
            ("c1.ab.37-1", None),
        ] {
            let found = streams.find(&place(id)).map(|found| match found {
                Found::Call(log, seq) => ("call", log.stream().as_str().to_owned(), seq),
                Found::Listener(log, seq) => ("listener", log.stream().as_str().to_owned(), seq),
            });
            let expected = expected.map(|(used, name, seq)| (used, name.to_owned(), seq));
            assert_eq!(found, expected, "{id}");
        }
        assert_eq!((first.stream().as_str(), second.stream().as_str()), ("c1..37", "l2."));
    }

    #[test]
    fn a_message_goes_to_one_listener_and_waits_for_one_that_broke_off() {
        let streams = Streams::default();
        streams.tell(b"nobody listens", 0);
        let mut old = streams.listen(0);
        let mut new = streams.listen(0);
        streams.tell(b"one", 0);
        assert!(old.next().now_or_never().is_none());
        assert!(new.next().now_or_never().is_some());
        new.leave(10);
        streams.tell(b"two", 10);
        assert!(old.next().now_or_never().is_some(), "whoever still reads is told");
        old.leave(20);
        streams.tell(b"three", 20);
        streams.tell(b"three", 20);
        let Some(Found::Listener(log, place)) = streams.find(&place("l2.-1")) else {
            panic!("it is waited for")
        };
        let mut back = log.read(place);
        assert!(back.next().now_or_never().is_some());
        assert!(back.next().now_or_never().is_none(), "the same news waits once");
    }

    #[test]
    fn a_stream_of_another_process_has_one_reader_and_a_session_so_many() {
        let streams = Streams::default();
        let name = |number| Stream::new(Use::Call, number, "ab", None);
        let (first, other) = (streams.follow(&name(1)).unwrap(), streams.follow(&name(2)).unwrap());
        let second = streams.follow(&name(1)).unwrap();
        assert!(first.is_cancelled() && !second.is_cancelled() && !other.is_cancelled());
        for number in 3.. {
            if let Err(failure) = streams.follow(&name(number)) {
                assert_eq!((failure.code, number), (Code::Overloaded, FOLLOWED_MAX as u64 + 1));
                break;
            }
        }
        other.cancel();
        assert!(streams.follow(&name(1000)).is_ok(), "whoever is done makes room");
    }

    #[test]
    fn what_nobody_fetches_goes() {
        let streams = Streams::default();
        let log = streams.open(&request(), 0).unwrap();
        log.end(Some(b"answer"), 0);
        streams.sweep(PATIENCE_MS - 1);
        assert!(streams.find(&place("c1..37-0")).is_some());
        streams.sweep(PATIENCE_MS);
        assert!(streams.find(&place("c1..37-0")).is_none());
        for _ in 0..5 {
            streams.open(&request(), 0).unwrap().end(Some(&vec![b'x'; 16 << 20]), 0);
        }
        streams.sweep(1);
        let kept = (2..7)
            .filter(|number| streams.find(&place(&format!("c{number}..37-0"))).is_some())
            .count();
        assert_eq!(kept, 1, "within the bound on bytes");
    }
}
