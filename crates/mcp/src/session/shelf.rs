//! Where sessions and the messages of their streams are kept beyond this process.
//!
//! What has to be there before somebody is answered (a new session, the end of one) is awaited; everything else is
//! handed to one writer and never waited for, in bounded numbers. What the store cannot take in time is lost to whoever
//! would have come back for it after a restart, and to nobody else: who is connected is served from memory.

use super::{
    Session,
    log::Weight,
    place::{Kind, Place, Stream},
};
use forebay_domain::{Failure, id::SessionId};
use forebay_runtime::{Clock, Entropy};
use forebay_store::{
    Store, StoreError,
    mcp::{
        McpSessions, McpStreams,
        sessions::McpSession,
        streams::{MESSAGE_BYTES_MAX, Replay, SESSION_EVENTS_MAX, StreamEvent, Worth},
    },
};
use jiff::{SignedDuration, Timestamp};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// What waits to be written at most.
const JOBS_MAX: usize = 8192;
/// Bytes of messages that wait to be written at most.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Random bytes of the name by which the streams of one process are told from those of another.
const WRITER_BYTES: usize = 8;
/// How much longer a session lives in the store than in memory: its use is noted there about each minute.
pub(super) const SLACK: Duration = Duration::from_mins(3);

/// The largest message that is kept, beside the one byte that says what it is.
pub(super) const KEPT_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 1;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shelf(Arc<Inner>);

struct Inner {
    sessions: McpSessions,
    streams: McpStreams,
    clock: Clock,
    /// Names this process in the names of its streams.
    writer: String,
    /// Numbers its streams, over all sessions: one that ends here and comes back from the store never uses a name twice.
    numbers: AtomicU64,
    /// Whether no other gateway can be using this database.
    alone: bool,
    jobs: mpsc::Sender<Job>,
    queue: Mutex<Option<mpsc::Receiver<Job>>>,
    waiting_bytes: AtomicUsize,
    /// Calls whose answers are still to be written.
    calls: TaskTracker,
    /// Something could not be written, which is told once until it works again.
    failing: AtomicBool,
}

/// Something for the writer.
pub(super) enum Job {
    Append {
        session: SessionId,
        stream: Stream,
        event: StreamEvent,
    },
    /// The level or the subscriptions of a session have changed; what is written is how they are by then.
    Describe(Arc<Session>),
    Remove(SessionId),
}

impl Shelf {
    pub(super) fn new(store: &Store, clock: Clock, entropy: &Entropy) -> Self {
        let (jobs, queue) = mpsc::channel(JOBS_MAX);
        Self(Arc::new(Inner {
            sessions: store.mcp_sessions(),
            streams: store.mcp_streams(),
            clock,
            writer: hex::encode(entropy.bytes::<WRITER_BYTES>()),
            numbers: AtomicU64::new(0),
            alone: store.engine() == "sqlite",
            jobs,
            queue: Mutex::new(Some(queue)),
            waiting_bytes: AtomicUsize::new(0),
            calls: TaskTracker::new(),
            failing: AtomicBool::new(false),
        }))
    }

    pub(crate) fn writer(&self) -> &str {
        &self.0.writer
    }

    /// The number of a new stream, which no other one of this process has.
    pub(super) fn next_number(&self) -> u64 {
        self.0.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether whoever drives this stream is surely gone, where it is not this process's memory that has it.
    pub(crate) fn is_lost(&self, stream: &Stream) -> bool {
        self.0.alone || stream.writer() == self.0.writer
    }

    pub(super) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    // What asks the store is boxed: the path of a request that needs nothing from it stays small.

    pub(super) async fn put(&self, id: &SessionId, session: &McpSession) -> Result<(), StoreError> {
        Box::pin(self.0.sessions.put(id, session)).await
    }

    pub(super) async fn find(&self, id: &SessionId) -> Result<Option<McpSession>, StoreError> {
        Box::pin(self.0.sessions.find(id, self.now())).await
    }

    pub(super) async fn remove(&self, id: &SessionId) -> Result<bool, StoreError> {
        Box::pin(self.0.sessions.remove(id)).await
    }

    /// Notes that these sessions are in use, and says for how many that was news.
    pub(super) async fn touch(&self, ids: &[SessionId], idle: Duration) -> Result<u64, StoreError> {
        let now = self.now();
        Box::pin(self.0.sessions.touch(ids, now, expiry(now, idle))).await
    }

    /// Everything that is kept of a stream, in its order.
    pub(crate) async fn whole(&self, session: &SessionId, stream: &Stream) -> Result<Replay, Failure> {
        let replay = self.0.streams.after(session, stream.as_str(), 0, SESSION_EVENTS_MAX);
        Box::pin(replay).await.map_err(Failure::from)
    }

    /// What has come since a place of a stream.
    pub(crate) async fn since(&self, session: &SessionId, place: &Place) -> Result<Replay, Failure> {
        let replay = self
            .0
            .streams
            .after(session, place.stream.as_str(), place.seq, SESSION_EVENTS_MAX);
        Box::pin(replay).await.map_err(Failure::from)
    }

    /// To be held until a call has said all it has to say: a gateway that drains writes that down before it ends.
    pub(crate) fn holds(&self) -> TaskTrackerToken {
        self.0.calls.token()
    }

    /// Hands a message of a stream to the writer. When much waits already, reports of progress are not kept.
    pub(super) fn append(&self, session: &SessionId, place: Place, kind: Kind, message: &[u8], weight: Weight) {
        let bytes = message.len() + 1;
        let waiting = self.0.waiting_bytes.load(Ordering::Relaxed);
        let crowded = waiting > WAITING_BYTES_MAX / 2 || self.0.jobs.capacity() < JOBS_MAX / 2;
        if crowded && weight == Weight::Progress || bytes > MESSAGE_BYTES_MAX {
            return;
        }
        if waiting + bytes > WAITING_BYTES_MAX {
            return self.tell_lost("too much waits to be written");
        }
        self.0.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let job = Job::Append {
            session: session.clone(),
            stream: place.stream,
            event: StreamEvent {
                seq: place.seq,
                message: kind.wrap(message),
                worth: match weight {
                    Weight::Progress => Worth::Passing,
                    Weight::Notification | Weight::Vital => Worth::Lasting,
                },
            },
        };
        if !self.hand(job) {
            self.0.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// What its client has told this session is to be known after a restart as well.
    pub(crate) fn describe(&self, session: &Arc<Session>) {
        if session.is_kept() {
            self.hand(Job::Describe(session.clone()));
        }
    }

    /// A session is no more, and nobody waits to hear that this is written down: until it is, or where it cannot be, the
    /// session's own expiry ends it.
    pub(super) fn forget(&self, session: &Session) {
        if session.is_kept() {
            self.hand(Job::Remove(session.id.clone()));
        }
    }

    fn hand(&self, job: Job) -> bool {
        let taken = self.0.jobs.try_send(job).is_ok();
        if !taken {
            self.tell_lost("too much waits to be written");
        }
        taken
    }

    pub(super) fn tell_lost(&self, why: &str) {
        if !self.0.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                why,
                "messages of sessions are not kept for those who come back after a restart"
            );
        }
    }

    pub(super) fn tell_kept(&self) {
        if self.0.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("messages of sessions are kept again");
        }
    }

    pub(super) fn is_failing(&self) -> bool {
        self.0.failing.load(Ordering::Relaxed)
    }

    pub(super) fn take_queue(&self) -> Option<mpsc::Receiver<Job>> {
        self.0
            .queue
            .lock()
            .expect("nobody panics while holding the queue")
            .take()
    }

    pub(super) fn taken(&self, event: &StreamEvent) {
        self.0.waiting_bytes.fetch_sub(event.message.len(), Ordering::Relaxed);
    }

    pub(super) fn sessions(&self) -> &McpSessions {
        &self.0.sessions
    }

    pub(super) fn streams(&self) -> &McpStreams {
        &self.0.streams
    }

    /// Completes once every call has said all it has to say, which it will when no new ones come.
    pub(super) async fn all_said(&self) {
        self.0.calls.close();
        self.0.calls.wait().await;
    }
}

/// When a session that is used now ends in the store.
pub(super) fn expiry(now: Timestamp, idle: Duration) -> Timestamp {
    let lasts = SignedDuration::try_from(idle + SLACK).unwrap_or(SignedDuration::MAX);
    now.checked_add(lasts).unwrap_or(Timestamp::MAX)
}
