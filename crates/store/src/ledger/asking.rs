//! Whoever waits for the ledger: how long at most, and what becomes of a hold that nobody hears of.

use forebay_domain::{id::HoldId, ledger::Request};
use tokio::sync::{mpsc, oneshot};

use super::{
    Ledger,
    writer::{Became, Job},
};
use crate::{StoreError, db::PATIENCE};

/// Hands a request to the one that moves money, and waits for what became of it.
pub(super) async fn submit(jobs: &mpsc::Sender<Job>, request: Request) -> Result<Became, StoreError> {
    let (answer, became) = oneshot::channel();
    let closing = || StoreError::unavailable("it is closing");
    jobs.send(Job { request, answer }).await.map_err(|_| closing())?;
    became.await.unwrap_or_else(|_| Err(closing()))
}

/// The same, for so long as it is worth waiting. It may be done all the same.
pub(super) async fn submit_in_time(jobs: &mpsc::Sender<Job>, request: Request) -> Result<Became, StoreError> {
    tokio::time::timeout(PATIENCE, submit(jobs, request))
        .await
        .unwrap_or_else(|_| Err(StoreError::unavailable("the ledger did not answer in time")))
}

/// Voids a hold unless its owner has heard of it, at whatever moment that one stops waiting.
pub(super) struct Unheard<'a> {
    ledger: &'a Ledger,
    hold: Option<HoldId>,
}

impl<'a> Unheard<'a> {
    pub(super) fn new(ledger: &'a Ledger, hold: Option<HoldId>) -> Self {
        Self { ledger, hold }
    }

    pub(super) fn heard(mut self) {
        self.hold = None;
    }
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if let Some(hold) = self.hold.take() {
            self.ledger.void_soon(hold);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        // Somebody holds the queue, and takes nothing from it.
        let (jobs, _queue) = mpsc::channel(1);
        let request = || Request::Void {
            hold: HoldId::try_from("0123456789abcdef0123456789abcdef".to_owned()).unwrap(),
        };
        for place in ["in the queue", "before the queue"] {
            let waiting = tokio::time::timeout(Duration::from_hours(1), submit_in_time(&jobs, request()));
            let error = waiting.await.expect(place).unwrap_err();
            assert!(error.is_unavailable(), "{place}");
        }
    }
}
