//! Flushes activity events in batches.
//!
//! A batch that cannot be written is kept and tried again, while the queue behind it fills up; only a full queue loses
//! events, and on a full disk a half-full one those that tell of nothing spent. Where an answer was lost on its way, a
//! batch may be written twice: activity is counted at least once.

use forebay_domain::{Event, event::Class};
use forebay_runtime::Stop;
use std::{sync::Arc, time::Duration};
use tokio::sync::{Notify, mpsc};
use tracing::{error, warn};

use super::{
    Health,
    coalesce::coalesce,
    insert::insert,
    row::{EventRow, storable},
};
use crate::{StoreError, db::Db};

/// From the first event of a batch to its flush; with the commit this stays within the 100 ms that a crash may lose.
const FLUSH_AFTER: Duration = Duration::from_millis(50);
pub(super) const BATCH_EVENTS_MAX: usize = 1024;
/// Between two attempts to write the same batch.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// The same on a full disk: each attempt takes those along that share its commit.
const RETRY_FULL_AFTER: Duration = Duration::from_secs(1);
/// Attempts to write a batch once the store drains.
const DRAIN_ATTEMPTS_MAX: u32 = 3;

pub(super) struct Flusher {
    pub(super) db: Db,
    pub(super) queue: mpsc::Receiver<Event>,
    pub(super) health: Health,
    pub(super) flushed: Arc<Notify>,
    /// Woken while a whole batch waits.
    pub(super) plenty: Arc<Notify>,
}

impl Flusher {
    /// Flushes until the store drains and the queue is empty.
    pub(super) async fn run(mut self, stop: Stop) {
        loop {
            let batch = self.gather(&stop).await;
            if batch.is_empty() {
                return;
            }
            self.flush(batch, &stop).await;
        }
    }

    /// The next batch; an empty one says that there will be no more.
    async fn gather(&mut self, stop: &Stop) -> Vec<Event> {
        let mut batch = Vec::new();
        while batch.is_empty() {
            tokio::select! {
                taken = self.queue.recv_many(&mut batch, BATCH_EVENTS_MAX) => if taken == 0 {
                    return batch;
                },
                // What is queued is still flushed: a closed queue hands out what it has, then nothing.
                () = stop.draining(), if !self.queue.is_closed() => self.queue.close(),
            }
        }
        // Nobody listens to the queue meanwhile, since each event would wake this task, in the middle of a request.
        if batch.len() + self.queue.len() < BATCH_EVENTS_MAX {
            tokio::select! {
                () = tokio::time::sleep(FLUSH_AFTER) => {}
                () = self.plenty.notified() => {}
                () = stop.draining() => {}
            }
        }
        while batch.len() < BATCH_EVENTS_MAX
            && let Ok(event) = self.queue.try_recv()
        {
            batch.push(event);
        }
        batch
    }

    async fn flush(&self, batch: Vec<Event>, stop: &Stop) {
        let events = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let rows: Vec<EventRow> = coalesce(batch)
            .into_iter()
            .map(|event| EventRow::new(&storable(event)))
            .collect();
        let count = rows.len();
        let rows = Arc::new(rows);
        let mut attempts_draining = 0;
        loop {
            let outcome = self.db.write(rows.clone(), |tx, rows| Box::pin(insert(tx, rows))).await;
            self.health.note(&outcome);
            // Whoever waits for room goes on, or is told that there is none.
            self.flushed.notify_waiters();
            let error = match outcome {
                Ok(()) => return self.db.metrics().written(Class::Activity, count),
                Err(error) => error,
            };
            attempts_draining += u32::from(stop.is_draining());
            if !error.is_unavailable() || attempts_draining >= DRAIN_ATTEMPTS_MAX {
                self.db.metrics().events_dropped.inc_by(events);
                return error!(events, cause = error.chain(), "activity events lost");
            }
            warn!(events, cause = error.chain(), "activity events wait for the database");
            tokio::time::sleep(pause(&error)).await;
        }
    }
}

fn pause(error: &StoreError) -> Duration {
    if matches!(error, StoreError::Full(_)) {
        RETRY_FULL_AFTER
    } else {
        RETRY_AFTER
    }
}
