//! The messages of one stream, kept for as long as somebody may come back for them.
//!
//! Whoever writes never waits: at the bound the oldest report of progress goes first, then the oldest other
//! notification. Questions and answers stay. Readers come and go; the latest one is the stream's reader. Whatever is
//! written here is handed on to be kept beyond this process as well.

use super::{
    place::{Kind, Place, Stream},
    shelf::{KEPT_BYTES_MAX, Shelf},
};
use crate::{
    envelope::Id,
    era::Version,
    reply::{numbered_event, priming},
    rpc::{self, Dialect},
};
use bytes::Bytes;
use forebay_domain::{Code, Failure, id::SessionId};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::watch;

/// Messages that one stream keeps at most, questions and answers aside.
const EVENTS_MAX: usize = 256;
/// Bytes that one stream keeps at most, questions and answers aside.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// What is lost first when there is too much to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    Progress,
    Notification,
    /// A question or an answer: never lost.
    Vital,
}

/// Where the messages of a stream are kept beyond this process.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) shelf: Shelf,
    pub(crate) session: SessionId,
}

pub(crate) struct Log {
    stream: Stream,
    home: Option<Home>,
    /// The request that it answers, where it answers one.
    request: Option<Id>,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    bytes: usize,
    /// The number of the latest event. The priming event is number 0.
    last: u64,
    ended: bool,
    /// How often somebody began to read: only the latest reader goes on.
    readers: u64,
    reading: bool,
    fetched: bool,
    /// When the last reader left, or the stream ended without one.
    idle_since_ms: u64,
}

struct Event {
    seq: u64,
    weight: Weight,
    frame: Bytes,
}

impl Log {
    pub(crate) fn new(stream: Stream, home: Option<Home>, request: Option<Id>, now_ms: u64) -> Arc<Self> {
        let state = State {
            idle_since_ms: now_ms,
            ..State::default()
        };
        let log = Arc::new(Self {
            stream,
            home,
            request,
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
        });
        log.show_life();
        log
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The event that names this stream's beginning.
    pub(crate) fn priming(&self) -> Bytes {
        priming(&self.place(0).event_id())
    }

    fn place(&self, seq: u64) -> Place {
        Place {
            stream: self.stream.clone(),
            seq,
        }
    }

    /// Says to whoever may come back elsewhere that the call is still being driven. Nobody is sent this.
    pub(crate) fn show_life(&self) {
        let mut state = self.lock();
        if let Some(request) = &self.request
            && !state.ended
        {
            state.last += 1;
            self.keep(state.last, Kind::Alive, request.as_json().as_bytes(), Weight::Vital);
        }
    }

    pub(crate) fn push(&self, message: &[u8], weight: Weight) {
        let mut state = self.lock();
        if state.ended {
            return;
        }
        self.add(&mut state, Kind::Message, message, weight);
        drop(state);
        self.changed.send_replace(());
    }

    /// There will be no more; the last message is the answer, where there is one.
    pub(crate) fn end(&self, answer: Option<&[u8]>, now_ms: u64) {
        let mut state = self.lock();
        if !state.ended {
            if let Some(answer) = answer {
                self.add(&mut state, Kind::End, answer, Weight::Vital);
            } else {
                state.last += 1;
                self.keep(state.last, Kind::End, b"", Weight::Vital);
            }
        }
        state.ended = true;
        state.idle_since_ms = now_ms;
        drop(state);
        self.changed.send_replace(());
    }

    fn add(&self, state: &mut State, kind: Kind, message: &[u8], weight: Weight) {
        state.last += 1;
        self.keep(state.last, kind, message, weight);
        let frame = numbered_event(&self.place(state.last).event_id(), message);
        state.add(frame, weight);
    }

    fn keep(&self, seq: u64, kind: Kind, message: &[u8], weight: Weight) {
        let Some(Home { shelf, session }) = &self.home else {
            return;
        };
        if kind == Kind::End && message.len() > KEPT_BYTES_MAX {
            let told = self.told_too_large(message.len());
            return shelf.append(session, self.place(seq), kind, &told, weight);
        }
        shelf.append(session, self.place(seq), kind, message, weight);
    }

    /// What stands in the store instead of an answer that is too large for it.
    fn told_too_large(&self, bytes: usize) -> Bytes {
        let message =
            format!("The answer has {bytes} bytes; at most {KEPT_BYTES_MAX} are kept for a later connection.");
        let failure = Failure::new(Code::ResultTooLarge, message).hint("Ask for less, or stay connected.");
        rpc::failed(
            self.request.as_ref(),
            &failure,
            Dialect::Streamable(Version::LEGACY_NEWEST),
        )
        .message
    }

    /// Sends the present reader away; it comes back for the rest.
    pub(crate) fn hang_up(&self) {
        let mut state = self.lock();
        state.readers += 1;
        state.reading = false;
        drop(state);
        self.changed.send_replace(());
    }

    /// Reads what came after an event. An earlier reader, whose connection is probably gone, ends.
    pub(crate) fn read(self: &Arc<Self>, after: u64) -> Reader {
        let mut state = self.lock();
        state.readers += 1;
        state.reading = true;
        let turn = state.readers;
        drop(state);
        self.changed.send_replace(());
        Reader {
            changed: self.changed.subscribe(),
            log: self.clone(),
            after,
            turn,
        }
    }

    pub(crate) fn is_read(&self) -> bool {
        self.lock().reading
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Bytes kept here.
    pub(crate) fn size(&self) -> usize {
        self.lock().events.iter().map(|event| event.frame.len()).sum()
    }

    /// Whether nobody will come for this any more.
    pub(crate) fn is_over(&self, now_ms: u64, patience_ms: u64) -> bool {
        let state = self.lock();
        let waited = now_ms.saturating_sub(state.idle_since_ms) >= patience_ms;
        state.fetched || (state.ended && !state.reading && waited)
    }

    /// Whether a listener went and has not come back for so long.
    pub(crate) fn is_left(&self, now_ms: u64, patience_ms: u64) -> bool {
        let state = self.lock();
        !state.reading && now_ms.saturating_sub(state.idle_since_ms) >= patience_ms
    }

    /// Whether this very message is the last that waits to be read.
    pub(crate) fn ends_with(&self, message: &[u8]) -> bool {
        let state = self.lock();
        let frame = numbered_event(&self.place(state.last).event_id(), message);
        state.events.back().is_some_and(|event| event.frame == frame) && !state.reading
    }

    pub(crate) fn leave(&self, turn: u64, now_ms: u64) {
        let mut state = self.lock();
        // A reader that was replaced has left nothing.
        if state.readers == turn {
            state.reading = false;
            state.idle_since_ms = now_ms;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding a stream")
    }
}

impl State {
    /// Takes the event whose number is the latest.
    fn add(&mut self, frame: Bytes, weight: Weight) {
        if weight != Weight::Vital {
            self.bytes += frame.len();
        }
        self.events.push_back(Event {
            seq: self.last,
            weight,
            frame,
        });
        while self.bytes > EVENT_BYTES_MAX || self.events.len() > EVENTS_MAX {
            let oldest = |weight| self.events.iter().position(|event| event.weight == weight);
            let Some(lost) = oldest(Weight::Progress).or_else(|| oldest(Weight::Notification)) else {
                return;
            };
            let lost = self.events.remove(lost).expect("found at that place");
            self.bytes -= lost.frame.len();
        }
    }
}

/// Reads a stream from some place on.
pub(crate) struct Reader {
    pub(crate) log: Arc<Log>,
    changed: watch::Receiver<()>,
    after: u64,
    turn: u64,
}

enum Found {
    Frame(Bytes),
    Nothing,
    End,
}

impl Reader {
    /// The next event; nothing once the stream has ended, or where another reader has taken over.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.changed.mark_unchanged();
            match self.look() {
                Found::Frame(frame) => return Some(frame),
                Found::End => return None,
                Found::Nothing => self.changed.changed().await.ok()?,
            }
        }
    }

    fn look(&mut self) -> Found {
        let mut state = self.log.lock();
        if state.readers != self.turn {
            return Found::End;
        }
        let next = state.events.partition_point(|event| event.seq <= self.after);
        if let Some(event) = state.events.get(next) {
            self.after = event.seq;
            return Found::Frame(event.frame.clone());
        }
        if state.ended {
            state.fetched = true;
            return Found::End;
        }
        Found::Nothing
    }

    pub(crate) fn leave(&self, now_ms: u64) {
        self.log.leave(self.turn, now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::place::Use, *};
    use futures_util::FutureExt;

    fn fresh() -> Arc<Log> {
        Log::new(Stream::new(Use::Call, 3, "ab", None), None, None, 0)
    }

    fn read(reader: &mut Reader) -> Vec<String> {
        let mut frames = Vec::new();
        while let Some(Some(frame)) = reader.next().now_or_never() {
            frames.push(String::from_utf8(frame.to_vec()).unwrap());
        }
        frames
    }

    #[test]
    fn a_reader_gets_what_came_after_the_place_it_names() {
        let log = fresh();
        let mut first = log.read(0);
        log.push(b"{1}", Weight::Progress);
        log.push(b"{2}", Weight::Notification);
        assert_eq!(read(&mut first)[0], "id: c3.ab-1\nevent: message\ndata: {1}\n\n");
        log.end(Some(b"{3}"), 5);
        let mut second = log.read(1);
        assert_eq!(first.next().now_or_never(), Some(None), "another took over");
        assert_eq!(read(&mut second).len(), 2);
        assert!(log.is_over(5, 1000), "fetched to its end");
    }

    #[test]
    fn progress_is_lost_first_and_answers_never() {
        let log = fresh();
        log.push(b"question", Weight::Vital);
        log.push(b"note", Weight::Notification);
        for _ in 0..EVENTS_MAX * 2 {
            log.push(b"step", Weight::Progress);
        }
        log.end(Some(b"answer"), 0);
        let kept = read(&mut log.read(0));
        assert_eq!(kept.len(), EVENTS_MAX);
        for vital in ["question", "note", "answer"] {
            assert!(kept.iter().any(|frame| frame.contains(vital)), "{vital}");
        }
        let log = fresh();
        let large = vec![b'x'; EVENT_BYTES_MAX / 2];
        for _ in 0..5 {
            log.push(&large, Weight::Notification);
        }
        assert!(log.size() <= EVENT_BYTES_MAX);
    }

    #[test]
    fn an_ended_stream_waits_for_its_reader_for_so_long() {
        let log = fresh();
        let reader = log.read(0);
        log.end(Some(b"answer"), 10);
        assert!(!log.is_over(2000, 1000), "somebody reads");
        reader.leave(2000);
        assert!(!log.is_over(2999, 1000));
        assert!(log.is_over(3000, 1000));
    }

    #[test]
    fn hanging_up_sends_the_reader_away_and_not_the_stream() {
        let log = fresh();
        let mut reader = log.read(0);
        log.hang_up();
        assert_eq!(reader.next().now_or_never(), Some(None));
        log.push(b"later", Weight::Notification);
        assert_eq!(read(&mut log.read(0)).len(), 1);
    }
}
