//! How often a route of a provider may be asked: what it allows, and what it asked for with its last 429.
//!
//! A request takes its turn before it is sent. Whoever would have to wait longer than it has time is told so at once,
//! and nothing is sent.

use super::MarketFault;
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// So many requests in any such span of time, and how long to stay away after a refusal that does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub requests: usize,
    pub per: Duration,
    /// Doubles with every further refusal.
    pub back_off: Duration,
    pub back_off_max: Duration,
}

impl Limit {
    /// One request in so much time.
    pub const fn every(per: Duration) -> Self {
        Self {
            requests: 1,
            per,
            back_off: per.saturating_mul(2),
            back_off_max: Duration::from_mins(2),
        }
    }

    pub const fn many(requests: usize, per: Duration) -> Self {
        Self {
            requests,
            ..Self::every(per)
        }
    }

    #[must_use]
    pub const fn backing_off(self, back_off: Duration) -> Self {
        Self { back_off, ..self }
    }
}

/// The pace of one route.
#[derive(Debug)]
pub struct Pace {
    limit: Limit,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the last requests were, or will be, sent; no more than the limit.
    turns: VecDeque<Instant>,
    /// Nothing is sent before.
    closed_until: Option<Instant>,
    /// Refusals in a row.
    refusals: u32,
}

impl Pace {
    pub fn new(limit: Limit) -> Self {
        Self {
            limit,
            state: Mutex::default(),
        }
    }

    /// Waits for a turn, at most so long. A turn that was taken and not used is gone.
    pub async fn turn(&self, wait_max: Duration) -> Result<(), MarketFault> {
        let at = self.take(wait_max)?;
        sleep_until(at).await;
        Ok(())
    }

    fn take(&self, wait_max: Duration) -> Result<Instant, MarketFault> {
        let now = Instant::now();
        let mut state = self.lock();
        let mut at = state.closed_until.map_or(now, |until| until.max(now));
        if state.turns.len() >= self.limit.requests {
            at = at.max(state.turns[state.turns.len() - self.limit.requests] + self.limit.per);
        }
        // Turns are handed out in their order.
        at = at.max(state.turns.back().copied().unwrap_or(at));
        if at.duration_since(now) > wait_max {
            let retry_after = Some(at.duration_since(now));
            return Err(MarketFault::RateLimited { retry_after });
        }
        state.turns.push_back(at);
        if state.turns.len() > self.limit.requests {
            state.turns.pop_front();
        }
        Ok(at)
    }

    /// It was refused: nothing more for so long as the provider says, or for the back-off. Gives how long that is.
    pub fn refused(&self, retry_after: Option<Duration>) -> Duration {
        let mut state = self.lock();
        let doubled = self.limit.back_off.saturating_mul(1_u32 << state.refusals.min(16));
        let wait = retry_after.unwrap_or(doubled.min(self.limit.back_off_max));
        state.refusals = state.refusals.saturating_add(1);
        let until = Instant::now() + wait;
        state.closed_until = Some(state.closed_until.map_or(until, |known| known.max(until)));
        wait
    }

    /// It was answered.
    pub fn answered(&self) {
        self.lock().refusals = 0;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while taking turns")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn no_span_has_more_requests_than_its_limit() {
        let pace = Pace::new(Limit::many(3, 10 * SECOND));
        let mut sent = Vec::new();
        for _ in 0..8 {
            pace.turn(60 * SECOND).await.unwrap();
            sent.push(Instant::now());
        }
        for window in sent.windows(4) {
            assert!(window[3] - window[0] >= 10 * SECOND, "{sent:?}");
        }
        assert_eq!(sent[2], sent[0], "a burst within the limit does not wait");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_no_time_to_wait_is_told_so_at_once() {
        let pace = Pace::new(Limit::every(4 * SECOND));
        pace.turn(SECOND).await.unwrap();
        let began = Instant::now();
        let fault = pace.turn(SECOND).await.unwrap_err();
        assert_eq!(
            fault,
            MarketFault::RateLimited {
                retry_after: Some(4 * SECOND)
            }
        );
        assert_eq!(Instant::now(), began);
        pace.turn(4 * SECOND).await.unwrap();
        assert_eq!(began.elapsed(), 4 * SECOND, "being told cost no turn");
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_close_the_route_longer_and_longer() {
        let pace = Pace::new(Limit::every(SECOND).backing_off(15 * SECOND));
        let waits = [(); 5].map(|()| pace.refused(None).as_secs());
        assert_eq!(waits, [15, 30, 60, 120, 120]);
        pace.answered();
        assert_eq!(pace.refused(None).as_secs(), 15);
        assert_eq!(pace.refused(Some(3 * SECOND)).as_secs(), 3, "who says when is believed");
        let fault = pace.turn(SECOND).await.unwrap_err();
        assert_eq!(
            fault,
            MarketFault::RateLimited {
                retry_after: Some(120 * SECOND)
            }
        );
    }
}
