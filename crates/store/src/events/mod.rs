//! The event log: what happened, who did it, and how it ended.
//!
//! Activity is batched: recording it never waits, and a crash may lose the last tenth of a second. Audit events are
//! committed before the caller goes on, and form a hash chain. Nothing here ever holds prompts, arguments, results or
//! secrets, because [`Event`] has no place for them.

mod activity;
mod audit;
mod coalesce;
mod cursor;
mod insert;
mod read;
mod row;
mod verify;

pub use cursor::Cursor;
pub use read::{EVENTS_PAGE_MAX, EventPage, EventQuery, Link, Order, StoredEvent};
pub use verify::{Fault, FaultKind, VerifyReport};

use forebay_domain::Event;
use forebay_runtime::Tasks;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{StoreError, db::Db};

/// Activity events that may wait for the next flush; more are dropped and counted.
const ACTIVITY_QUEUE_MAX: usize = 16_384;
/// Once more wait than this, nothing new is begun, and on a full disk this much is kept for what tells of something spent.
const ACTIVITY_WAITING_MAX: usize = ACTIVITY_QUEUE_MAX / 2;
/// Audit events that may wait for the next commit; whoever comes after them waits for room.
const AUDIT_QUEUE_MAX: usize = 1_024;

/// Cheap to clone; all clones are one log.
#[derive(Clone)]
pub struct EventLog {
    db: Db,
    activity: mpsc::Sender<Event>,
    audit: mpsc::Sender<Audit>,
    health: Health,
    /// Woken after each attempt to write a batch.
    flushed: Arc<Notify>,
    /// Woken while a whole batch waits.
    plenty: Arc<Notify>,
}

/// Whether what a request leaves behind can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    Free,
    /// As much waits as may, and will until somebody makes room on the disk. What only reads need not wait for that.
    DiskFull,
}

/// What became of the last thing that the log tried to write.
#[derive(Clone, Default)]
struct Health(Arc<Troubles>);

#[derive(Default)]
struct Troubles {
    is_away: AtomicBool,
    is_full: AtomicBool,
}

impl Health {
    fn note(&self, outcome: &Result<(), StoreError>) {
        let is_full = matches!(outcome, Err(StoreError::Full(_)));
        self.0.is_full.store(is_full, Ordering::Relaxed);
        self.0.is_away.store(outcome.is_err() && !is_full, Ordering::Relaxed);
    }

    fn is_away(&self) -> bool {
        self.0.is_away.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.0.is_full.load(Ordering::Relaxed)
    }
}

/// An audit event on its way, and whom to tell that it is committed.
struct Audit {
    event: Event,
    committed: oneshot::Sender<Result<(), StoreError>>,
}

/// Starts the two writers of the log.
pub(crate) fn start(tasks: &Tasks, db: Db) -> EventLog {
    let (activity, activity_queue) = mpsc::channel(ACTIVITY_QUEUE_MAX);
    let (audit, audit_queue) = mpsc::channel(AUDIT_QUEUE_MAX);
    let health = Health::default();
    let (wake, plenty) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let flusher = activity::Flusher {
        db: db.clone(),
        queue: activity_queue,
        health: health.clone(),
        flushed: wake.clone(),
        plenty: plenty.clone(),
    };
    tasks.spawn("store.activity", |stop| flusher.run(stop));
    let chain = audit::ChainWriter::new(db.clone(), audit_queue);
    tasks.spawn("store.audit", |stop| chain.run(stop));
    EventLog {
        db,
        activity,
        audit,
        health,
        flushed: wake,
        plenty,
    }
}

impl EventLog {
    /// Takes an activity event, to be written within 100 ms, or once there is room on the disk. Never waits: a full queue
    /// drops it and counts it. Whoever lets requests in asks for [`EventLog::room`] first, so that this happens to nothing
    /// but to reads on a full disk.
    pub fn record(&self, event: Event) {
        let may_be_lost = event.usage.is_none() && event.cost.is_none();
        let is_lost = may_be_lost && self.is_crowded() && self.health.is_full();
        if is_lost || self.activity.try_send(event).is_err() {
            self.db.metrics().events_dropped.inc();
        }
        if self.activity.capacity() <= ACTIVITY_QUEUE_MAX - activity::BATCH_EVENTS_MAX {
            self.plenty.notify_one();
        }
    }

    /// Waits while more than half of the queue is taken: requests then come in as fast as their events can be written. On a
    /// full disk nobody knows for how long that would be, and nobody waits.
    pub async fn room(&self) -> Room {
        while self.is_crowded() {
            let flushed = self.flushed.notified();
            // Between the look and the wait a flush may have come.
            if self.is_crowded() {
                if self.health.is_full() {
                    return Room::DiskFull;
                }
                flushed.await;
            }
        }
        Room::Free
    }

    fn is_crowded(&self) -> bool {
        self.activity.capacity() < ACTIVITY_QUEUE_MAX - ACTIVITY_WAITING_MAX
    }

    /// Writes an audit event and returns once it is committed.
    pub async fn audit(&self, event: Event) -> Result<(), StoreError> {
        let (committed, answer) = oneshot::channel();
        let closing = || StoreError::unavailable("it is closing");
        let audit = Audit { event, committed };
        self.audit.send(audit).await.map_err(|_| closing())?;
        answer.await.unwrap_or_else(|_| Err(closing()))
    }

    /// Reads one page.
    pub async fn read(&self, query: &EventQuery) -> Result<EventPage, StoreError> {
        read::page(&self.db, query).await
    }

    /// Walks every audit chain and says what is wrong with the first that is not whole.
    pub async fn verify(&self) -> Result<VerifyReport, StoreError> {
        verify::walk(&self.db).await
    }

    /// Whether the database answered when it was last asked, and took the last events, or would have but for its full disk.
    pub fn is_healthy(&self) -> bool {
        !self.health.is_away() && self.db.is_reachable()
    }

    /// Whether the last events wait for room on the disk of the database.
    pub fn is_full(&self) -> bool {
        self.health.is_full()
    }
}
