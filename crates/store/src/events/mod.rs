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
/// Audit events that may wait for the next commit; whoever comes after them waits for room.
const AUDIT_QUEUE_MAX: usize = 1_024;

/// Cheap to clone; all clones are one log.
#[derive(Clone)]
pub struct EventLog {
    db: Db,
    activity: mpsc::Sender<Event>,
    audit: mpsc::Sender<Audit>,
    health: Health,
    /// Woken after each batch.
    flushed: Arc<Notify>,
    /// Woken while a whole batch waits.
    plenty: Arc<Notify>,
}

/// Whether the last thing that the log tried to write was written.
#[derive(Clone)]
struct Health(Arc<AtomicBool>);

impl Health {
    fn note(&self, good: bool) {
        self.0.store(good, Ordering::Relaxed);
    }

    fn is_good(&self) -> bool {
        self.0.load(Ordering::Relaxed)
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
    let health = Health(Arc::new(AtomicBool::new(true)));
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
    /// Takes an activity event, to be written within 100 ms. Never waits: a full queue drops it and counts it. Whoever
    /// lets requests in waits for [`EventLog::room`] first, so that this does not happen.
    pub fn record(&self, event: Event) {
        if self.activity.try_send(event).is_err() {
            self.db.metrics().events_dropped.inc();
        }
        if self.activity.capacity() <= ACTIVITY_QUEUE_MAX - activity::BATCH_EVENTS_MAX {
            self.plenty.notify_one();
        }
    }

    /// Waits while more than half of the queue is taken: requests then come in as fast as their events can be written.
    pub async fn room(&self) {
        while self.activity.capacity() < ACTIVITY_QUEUE_MAX / 2 {
            let flushed = self.flushed.notified();
            // Between the look and the wait a flush may have come.
            if self.activity.capacity() >= ACTIVITY_QUEUE_MAX / 2 {
                return;
            }
            flushed.await;
        }
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

    /// Whether the database answered when it was last asked, and took the last events.
    pub fn is_healthy(&self) -> bool {
        self.health.is_good() && self.db.is_reachable()
    }
}
