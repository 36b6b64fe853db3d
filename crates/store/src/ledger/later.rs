//! What is not waited for: it is done before the store closes, and tried again while the database is away.
//!
//! What was spent is spent, so nothing of it is ever turned away. Where too much waits already, whoever is about to spend
//! more waits: so what waits stays bounded by that, and by what is under way.

use forebay_domain::ledger::Request;
use forebay_runtime::Stop;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tracing::warn;

use super::{Ledger, metrics::Metrics};
use crate::{StoreError, db::PATIENCE};

/// Movements that may wait before whoever wants to spend more has to wait as well.
pub const LATER_MAX: usize = 4_096;
const BATCH_MAX: usize = 256;
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Where movements are left that nobody waits for. Cheap to clone.
#[derive(Clone)]
pub(super) struct Later {
    queue: mpsc::UnboundedSender<Request>,
    waiting: watch::Sender<usize>,
}

/// The other end of it.
pub(super) struct Left {
    queue: mpsc::UnboundedReceiver<Request>,
    waiting: watch::Sender<usize>,
    metrics: Metrics,
}

pub(super) fn queue(metrics: Metrics) -> (Later, Left) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = watch::Sender::new(0);
    let later = Later {
        queue: sender,
        waiting: waiting.clone(),
    };
    let left = Left {
        queue: receiver,
        waiting,
        metrics,
    };
    (later, left)
}

impl Later {
    /// Whether it is still to be done; not once the store has closed.
    pub(super) fn leave(&self, request: Request) -> bool {
        self.waiting.send_modify(|count| *count += 1);
        let is_left = self.queue.send(request).is_ok();
        if !is_left {
            self.waiting.send_modify(|count| *count -= 1);
        }
        is_left
    }

    /// Waits until so little waits that more may be spent, for as long as that is worth it.
    pub(super) async fn room(&self) -> Result<(), StoreError> {
        let mut waiting = self.waiting.subscribe();
        let room = waiting.wait_for(|count| *count < LATER_MAX);
        let found = tokio::time::timeout(PATIENCE, room).await;
        let full = || StoreError::unavailable("too much of what was spent is still to be written");
        found.map(drop).map_err(|_| full())
    }
}

impl Left {
    pub(super) async fn run(mut self, stop: Stop, ledger: Ledger) {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                _ = self.queue.recv_many(&mut batch, BATCH_MAX) => {}
                () = stop.draining(), if !self.queue.is_closed() => {
                    self.queue.close();
                    continue;
                }
            }
            if batch.is_empty() {
                return;
            }
            let done = batch.len();
            insist(&ledger, batch).await;
            self.waiting.send_modify(|count| *count -= done);
        }
    }
}

/// Where the database stays away for longer than the end of the process can wait, that is told.
impl Drop for Left {
    fn drop(&mut self) {
        let waiting = *self.waiting.borrow();
        if waiting > 0 {
            self.metrics.lost.inc_by(u64::try_from(waiting).unwrap_or(u64::MAX));
            warn!(waiting, "movements of money could not be written before the end");
        }
    }
}

/// Returns once all of it is done, or cannot ever be.
async fn insist(ledger: &Ledger, batch: Vec<Request>) {
    let (mut left, mut pause) = (batch, PAUSE_FIRST);
    loop {
        let doing = left.iter().map(|request| ledger.submit(request.clone()));
        let became = futures_util::future::join_all(doing).await;
        let mut again = Vec::new();
        for (request, became) in left.into_iter().zip(became) {
            match became {
                Ok(Ok(_)) => {}
                Err(error) if error.is_unavailable() => again.push(request),
                Ok(Err(refusal)) => give_up(ledger, &request, &refusal.into()),
                Err(error) => give_up(ledger, &request, &error),
            }
        }
        if again.is_empty() {
            return;
        }
        left = again;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn give_up(ledger: &Ledger, request: &Request, error: &StoreError) {
    // A hold whose answer was lost is voided in case that it was made.
    if matches!(request, Request::Void { .. }) && super::is_unknown_hold(error) {
        return;
    }
    ledger.metrics.lost.inc();
    warn!(cause = error.chain(), "a movement of money cannot be written");
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn void() -> Request {
        Request::Void {
            hold: "0123456789abcdef0123456789abcdef".parse().unwrap(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_wants_to_spend_more_waits_and_what_was_spent_is_never_turned_away() {
        let (later, mut left) = queue(Metrics::new());
        for _ in 0..LATER_MAX {
            later.room().await.unwrap();
            assert!(later.leave(void()));
        }
        let mut waiting = Box::pin(later.room());
        assert!(waiting.as_mut().now_or_never().is_none(), "it waits");
        assert!(later.leave(void()), "what was under way has its place all the same");
        for _ in 0..2 {
            left.queue.recv().await.unwrap();
        }
        left.waiting.send_modify(|count| *count -= 2);
        assert!(waiting.await.is_ok(), "until there is room");

        assert!(later.leave(void()));
        let refused = later.room().await.unwrap_err();
        assert!(refused.is_unavailable(), "and not for ever");
        drop(left);
        assert!(!later.leave(void()), "nobody is there any more");
    }
}
