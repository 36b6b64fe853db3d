//! What is not waited for: it is done before the store closes, and tried again while the database is away.

use forebay_domain::ledger::Request;
use forebay_runtime::Stop;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::warn;

use super::Ledger;
use crate::StoreError;

/// Requests that may wait. Where there are more, holds lapse and are posted in full.
pub(super) const LATER_MAX: usize = 65_536;
const BATCH_MAX: usize = 256;
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

pub(super) async fn run(stop: Stop, mut queue: mpsc::Receiver<Request>, ledger: Ledger) {
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            _ = queue.recv_many(&mut batch, BATCH_MAX) => {}
            () = stop.draining(), if !queue.is_closed() => {
                queue.close();
                continue;
            }
        }
        if batch.is_empty() {
            return;
        }
        insist(&ledger, batch).await;
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
