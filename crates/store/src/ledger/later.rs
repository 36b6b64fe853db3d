//! What is not waited for: it is done before the store closes, and tried again while the database is away.
//!
//! What was spent is spent, so nothing of it is ever turned away. Where too much waits already, whoever is about to spend
//! more waits: so what waits stays bounded by that, and by what is under way.

use forebay_domain::ledger::Request;
use forebay_runtime::Stop;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tracing::warn;

use super::{Ledger, error::is_unknown_hold, metrics::Metrics};
use crate::{StoreError, db::PATIENCE};

/// Movements that may wait before whoever wants to spend more has to wait as well.
pub const LATER_MAX: u64 = 4_096;
const BATCH_MAX: usize = 256;
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Where movements are left that nobody waits for. Cheap to clone.
#[derive(Clone)]
pub(super) struct Later {
    queue: mpsc::UnboundedSender<Request>,
    progress: watch::Sender<Progress>,
}

/// They are done in the order in which they were left.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    left: u64,
    done: u64,
}

impl Progress {
    fn waiting(self) -> u64 {
        self.left - self.done
    }
}

/// The other end of it.
pub(super) struct Left {
    queue: mpsc::UnboundedReceiver<Request>,
    progress: watch::Sender<Progress>,
    metrics: Metrics,
}

pub(super) fn queue(metrics: Metrics) -> (Later, Left) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let progress = watch::Sender::new(Progress::default());
    let later = Later {
        queue: sender,
        progress: progress.clone(),
    };
    let left = Left {
        queue: receiver,
        progress,
        metrics,
    };
    (later, left)
}

impl Later {
    /// Whether it is still to be done; not once the store has closed.
    pub(super) fn leave(&self, request: Request) -> bool {
        self.progress.send_modify(|progress| progress.left += 1);
        let is_left = self.queue.send(request).is_ok();
        if !is_left {
            self.progress.send_modify(|progress| progress.left -= 1);
        }
        is_left
    }

    /// Waits until so little waits that more may be spent, for as long as that is worth it.
    pub(super) async fn room(&self) -> Result<(), StoreError> {
        let mut progress = self.progress.subscribe();
        let room = progress.wait_for(|progress| progress.waiting() < LATER_MAX);
        let found = tokio::time::timeout(PATIENCE, room).await;
        let full = || StoreError::unavailable("too much of what was spent is still to be written");
        found.map(drop).map_err(|_| full())
    }

    /// Waits until all that was left so far is done, for as long as that is worth it.
    pub(super) async fn caught_up(&self) {
        let mut progress = self.progress.subscribe();
        let left = progress.borrow().left;
        let done = progress.wait_for(|progress| progress.done >= left);
        tokio::time::timeout(PATIENCE, done).await.ok();
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
            let done = batch.len() as u64;
            insist(&ledger, batch).await;
            self.progress.send_modify(|progress| progress.done += done);
        }
    }
}

/// Where the database stays away for longer than the end of the process can wait, that is told.
impl Drop for Left {
    fn drop(&mut self) {
        let waiting = self.progress.borrow().waiting();
        if waiting > 0 {
            self.metrics.lost.inc_by(waiting);
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
    if matches!(request, Request::Void { .. }) && is_unknown_hold(error) {
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
        left.progress.send_modify(|progress| progress.done += 2);
        assert!(waiting.await.is_ok(), "until there is room");

        assert!(later.leave(void()));
        let refused = later.room().await.unwrap_err();
        assert!(refused.is_unavailable(), "and not for ever");
        drop(left);
        assert!(!later.leave(void()), "nobody is there any more");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_until_all_is_done_waits_for_what_came_before() {
        let (later, left) = queue(Metrics::new());
        later.caught_up().now_or_never().expect("nothing was left");
        assert!(later.leave(void()) && later.leave(void()));
        let mut waiting = Box::pin(later.caught_up());
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(later.leave(void()));
        left.progress.send_modify(|progress| progress.done += 1);
        assert!(waiting.as_mut().now_or_never().is_none(), "one of two is done");
        left.progress.send_modify(|progress| progress.done += 1);
        waiting.now_or_never().expect("what came afterwards is not waited for");
        // The database stays away: not for ever.
        later.caught_up().await;
    }
}
