//! The streams of one legacy session: those of its calls, and those on which the gateway speaks first.
//!
//! A message goes to one stream only, as the specification wants. What was never read is kept for a while, so that a
//! client whose connection broke finds it when it comes back.

use super::log::{Log, Weight};
use forebay_domain::{Code, Failure};
use std::sync::{Arc, Mutex, MutexGuard};

/// Streams of calls in one session at most, running or waiting to be fetched.
const CALLS_MAX: usize = 256;
/// Streams on which the gateway speaks first, in one session at most.
const LISTENERS_MAX: usize = 8;
/// Bytes of ended streams that wait to be fetched in one session at most.
const UNFETCHED_BYTES_MAX: usize = 32 << 20;
/// How long an ended stream waits to be fetched, and a listener that went is waited for.
const PATIENCE_MS: u64 = 5 * 60 * 1000;

#[derive(Default)]
pub(crate) struct Streams(Mutex<Table>);

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
}

impl Streams {
    /// A stream for a call.
    pub(crate) fn open(&self, now_ms: u64) -> Result<Arc<Log>, Failure> {
        let mut table = self.lock();
        table.sweep(now_ms);
        if table.calls.len() >= CALLS_MAX {
            let message = format!("{CALLS_MAX} streams of this session are open already.");
            return Err(Failure::new(Code::Overloaded, message).hint("Wait until some of its calls have ended."));
        }
        let log = table.create(now_ms);
        table.calls.push(log.clone());
        Ok(log)
    }

    /// A stream on which the gateway speaks first. Of too many, the oldest ends.
    pub(crate) fn listen(&self, now_ms: u64) -> Arc<Log> {
        let mut table = self.lock();
        // A client that begins anew does not come back to what it left.
        table.listeners.retain(|log| log.is_read());
        if table.listeners.len() >= LISTENERS_MAX {
            table.listeners.remove(0).hang_up();
        }
        let log = table.create(now_ms);
        table.listeners.push(log.clone());
        log
    }

    /// The stream and the place in it that an event id names.
    pub(crate) fn find(&self, event_id: &str) -> Option<Found> {
        let (stream, seq) = event_id.split_once('-')?;
        let (stream, seq): (u64, u64) = (stream.parse().ok()?, seq.parse().ok()?);
        let table = self.lock();
        let of = |logs: &[Arc<Log>]| logs.iter().find(|log| log.number() == stream).cloned();
        let call = of(&table.calls).map(|log| Found::Call(log, seq));
        call.or_else(|| of(&table.listeners).map(|log| Found::Listener(log, seq)))
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
        self.0
            .lock()
            .expect("nobody panics while holding the streams of a session")
    }
}

impl Table {
    fn create(&mut self, now_ms: u64) -> Arc<Log> {
        self.next += 1;
        Log::new(self.next, now_ms)
    }

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

    #[test]
    fn an_event_id_names_a_stream_and_a_place() {
        let streams = Streams::default();
        let (first, second) = (streams.open(0).unwrap(), streams.listen(0));
        for (id, expected) in [
            ("1-0", Some(("call", 1, 0))),
            ("2-17", Some(("listener", 2, 17))),
            ("3-1", None),
            ("1", None),
            ("x-1", None),
            ("1--1", None),
            ("", None),
        ] {
            let found = streams.find(id).map(|found| match found {
                Found::Call(log, seq) => ("call", log.number(), seq),
                Found::Listener(log, seq) => ("listener", log.number(), seq),
            });
            assert_eq!(found, expected, "{id}");
        }
        assert_eq!((first.number(), second.number()), (1, 2));
    }

    #[test]
    fn a_message_goes_to_one_listener_and_waits_for_one_that_broke_off() {
        let streams = Streams::default();
        streams.tell(b"nobody listens", 0);
        let mut old = streams.listen(0).read(0);
        let mut new = streams.listen(0).read(0);
        streams.tell(b"one", 0);
        assert!(old.next().now_or_never().is_none());
        assert!(new.next().now_or_never().is_some());
        new.leave(10);
        streams.tell(b"two", 10);
        assert!(old.next().now_or_never().is_some(), "whoever still reads is told");
        old.leave(20);
        streams.tell(b"three", 20);
        streams.tell(b"three", 20);
        let Some(Found::Listener(log, place)) = streams.find("2-1") else {
            panic!("it is waited for")
        };
        let mut back = log.read(place);
        assert!(back.next().now_or_never().is_some());
        assert!(back.next().now_or_never().is_none(), "the same news waits once");
    }

    #[test]
    fn what_nobody_fetches_goes() {
        let streams = Streams::default();
        let log = streams.open(0).unwrap();
        log.end(Some(b"answer"), 0);
        streams.sweep(PATIENCE_MS - 1);
        assert!(streams.find("1-0").is_some());
        streams.sweep(PATIENCE_MS);
        assert!(streams.find("1-0").is_none());
        for _ in 0..5 {
            streams.open(0).unwrap().end(Some(&vec![b'x'; 16 << 20]), 0);
        }
        streams.sweep(1);
        let kept = (2..7)
            .filter(|number| streams.find(&format!("{number}-0")).is_some())
            .count();
        assert_eq!(kept, 1, "within the bound on bytes");
    }
}
