//! Rate limits: so many requests a window for each key, by GCRA (a leaky bucket without a background task).
//!
//! A key that was idle for a window may use its whole allowance at once; after that it gets one request each
//! `window / requests`. Nothing here knows who a key is, waits, or refuses by itself: it tells, the door refuses.
//!
//! Memory is bounded. Keys whose allowance is whole again are forgotten; once `KEYS_MAX` are in use at the same time,
//! newcomers share one allowance, so that a flood of invented keys neither fills the memory nor escapes the limit.

use crate::Clock;
use arc_swap::ArcSwap;
use governor::{
    clock::Clock as Ticks,
    middleware::StateInformationMiddleware,
    nanos::Nanos,
    state::{
        InMemoryState, NotKeyed, StateStore,
        keyed::{DashMapStateStore, ShrinkableKeyedStateStore},
    },
};
use std::{
    fmt,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Keys that have an allowance of their own at the same time.
const KEYS_MAX: usize = 50_000;
/// After so many new keys the idle ones are forgotten; the cost of a sweep is spread over them.
const SWEEP_EVERY_NEW_KEYS: usize = 4_096;
/// No window is longer than this; it keeps all sums far from overflow.
const WINDOW_MAX: Duration = Duration::from_hours(366 * 24);

/// So many requests a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub requests: NonZeroU32,
    pub window: Duration,
}

/// What the limiter says about one request, and what the answer's headers tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The allowance of a window.
    pub limit: u32,
    /// What is left of it now.
    pub remaining: u32,
    /// Until the allowance is whole again.
    pub reset_after: Duration,
    /// Until the next request is allowed; set only where this one is not.
    pub retry_after: Option<Duration>,
}

impl Verdict {
    pub fn is_allowed(&self) -> bool {
        self.retry_after.is_none()
    }
}

/// Counts requests by key.
pub struct RateLimiter {
    clock: Clock,
    bucket: ArcSwap<Bucket>,
}

impl RateLimiter {
    pub fn new(quota: Quota, clock: &Clock) -> Self {
        Self::with_keys_max(quota, clock, KEYS_MAX)
    }

    fn with_keys_max(quota: Quota, clock: &Clock, keys_max: usize) -> Self {
        Self {
            clock: clock.clone(),
            bucket: ArcSwap::from_pointee(Bucket::new(quota, clock, keys_max)),
        }
    }

    /// Counts one request of this key, and says whether it is allowed. A refused request costs nothing.
    pub fn check(&self, key: &str) -> Verdict {
        let bucket = self.bucket.load();
        let verdict = bucket.check(key, self.clock.monotonic());
        bucket.forget_idle_keys();
        verdict
    }

    /// Puts another quota in force at once. Everybody begins with a whole allowance of it; the same quota changes nothing.
    pub fn set_quota(&self, quota: Quota) {
        let bucket = self.bucket.load();
        if bucket.quota != quota {
            let keys_max = bucket.keys_max;
            self.bucket.store(Arc::new(Bucket::new(quota, &self.clock, keys_max)));
        }
    }
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiter")
            .field("quota", &self.bucket.load().quota)
            .finish_non_exhaustive()
    }
}

type Governor = governor::RateLimiter<String, Cells, MonotonicTicks, StateInformationMiddleware>;

/// One quota and everybody's use of it.
struct Bucket {
    quota: Quota,
    keys_max: usize,
    new_keys: Arc<AtomicUsize>,
    /// Time in which one request's worth of allowance comes back.
    interval: Duration,
    governor: Governor,
}

impl Bucket {
    fn new(quota: Quota, clock: &Clock, keys_max: usize) -> Self {
        let interval = (quota.window.min(WINDOW_MAX) / quota.requests.get()).max(Duration::from_nanos(1));
        let pace = governor::Quota::with_period(interval)
            .expect("the interval is at least a nanosecond")
            .allow_burst(quota.requests);
        let new_keys = Arc::new(AtomicUsize::new(0));
        let cells = Cells {
            own: DashMapStateStore::default(),
            shared: InMemoryState::default(),
            keys_max,
            new_keys: new_keys.clone(),
        };
        let governor = Governor::new(pace, cells, MonotonicTicks(clock.clone()));
        Self {
            quota,
            keys_max,
            new_keys,
            interval,
            governor,
        }
    }

    fn check(&self, key: &str, now: Duration) -> Verdict {
        let limit = self.quota.requests.get();
        match self.governor.check_key(&key.to_owned()) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                Verdict {
                    limit,
                    remaining,
                    reset_after: self.interval * (limit - remaining.min(limit)),
                    retry_after: None,
                }
            }
            Err(until) => {
                let retry_after = until.wait_time_from(now).max(Duration::from_nanos(1));
                Verdict {
                    limit,
                    remaining: 0,
                    reset_after: retry_after + self.interval * (limit - 1),
                    retry_after: Some(retry_after),
                }
            }
        }
    }

    fn forget_idle_keys(&self) {
        if self.new_keys.load(Ordering::Relaxed) >= SWEEP_EVERY_NEW_KEYS.min(self.keys_max)
            && self.new_keys.swap(0, Ordering::Relaxed) > 0
        {
            self.governor.retain_recent();
            self.governor.shrink_to_fit();
        }
    }
}

/// Our clock in governor's words.
struct MonotonicTicks(Clock);

impl Ticks for MonotonicTicks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

/// Each key's use, up to a number of keys; one shared by all further ones.
struct Cells {
    own: DashMapStateStore<String>,
    shared: InMemoryState,
    keys_max: usize,
    new_keys: Arc<AtomicUsize>,
}

impl StateStore for Cells {
    type Key = String;

    fn measure_and_replace<T, F, E>(&self, key: &String, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        if !self.own.contains_key(key) {
            self.new_keys.fetch_add(1, Ordering::Relaxed);
            // Threads that ask at the same moment may overstep by one key each, which is harmless.
            if self.own.len() >= self.keys_max {
                return self.shared.measure_and_replace(&NotKeyed::NonKey, f);
            }
        }
        self.own.measure_and_replace(key, f)
    }
}

impl ShrinkableKeyedStateStore<String> for Cells {
    fn retain_recent(&self, drop_below: Nanos) {
        ShrinkableKeyedStateStore::retain_recent(&self.own, drop_below);
    }

    fn shrink_to_fit(&self) {
        ShrinkableKeyedStateStore::shrink_to_fit(&self.own);
    }

    fn len(&self) -> usize {
        self.own.len()
    }

    fn is_empty(&self) -> bool {
        self.own.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn quota(requests: u32, seconds: u64) -> Quota {
        Quota {
            requests: NonZeroU32::new(requests).unwrap(),
            window: Duration::from_secs(seconds),
        }
    }

    fn clock() -> Clock {
        Clock::manual(Timestamp::from_second(1_700_000_000).unwrap())
    }

    #[test]
    fn a_whole_allowance_then_one_each_interval() {
        let clock = clock();
        let limiter = RateLimiter::new(quota(3, 60), &clock);
        for remaining in [2, 1, 0] {
            let verdict = limiter.check("a");
            assert!(verdict.is_allowed());
            assert_eq!((verdict.limit, verdict.remaining), (3, remaining));
            assert_eq!(
                verdict.reset_after,
                Duration::from_secs(u64::from(20 * (3 - remaining)))
            );
        }
        clock.advance(Duration::from_secs(5));
        let refused = limiter.check("a");
        assert_eq!(refused.retry_after, Some(Duration::from_secs(15)));
        assert_eq!(refused.reset_after, Duration::from_secs(55));
        assert_eq!(refused.remaining, 0);
        assert!(limiter.check("b").is_allowed(), "another key has its own allowance");

        clock.advance(Duration::from_secs(15));
        assert!(limiter.check("a").is_allowed(), "the refused request cost nothing");
        assert!(!limiter.check("a").is_allowed());
        clock.advance(Duration::from_mins(1));
        assert_eq!(limiter.check("a").remaining, 2);
    }

    #[test]
    fn a_new_quota_is_in_force_at_once_and_the_same_one_changes_nothing() {
        let clock = clock();
        let limiter = RateLimiter::new(quota(1, 60), &clock);
        assert!(limiter.check("a").is_allowed());
        limiter.set_quota(quota(1, 60));
        assert!(!limiter.check("a").is_allowed());
        limiter.set_quota(quota(5, 60));
        assert_eq!(limiter.check("a").remaining, 4);
    }

    #[test]
    fn beyond_the_bound_newcomers_share_one_allowance_until_others_are_idle() {
        let clock = clock();
        let limiter = RateLimiter::with_keys_max(quota(2, 60), &clock, 10);
        for n in 0..10 {
            assert!(limiter.check(&format!("early-{n}")).is_allowed());
        }
        let shared: usize = (0..100)
            .filter(|n| limiter.check(&format!("late-{n}")).is_allowed())
            .count();
        assert_eq!(shared, 2);
        assert!(
            limiter.check("early-3").is_allowed(),
            "who was there keeps what is theirs"
        );
        assert_eq!(limiter.bucket.load().governor.len(), 10);

        clock.advance(Duration::from_mins(2));
        for n in 0..10 {
            limiter.check(&format!("later-{n}"));
        }
        assert_eq!(limiter.check("fresh").remaining, 1, "idle keys made room");
        assert!(limiter.bucket.load().governor.len() <= 10);
    }

    #[test]
    fn odd_quotas_neither_panic_nor_stop_everything() {
        let clock = clock();
        for (requests, window) in [
            (u32::MAX, Duration::ZERO),
            (1, Duration::MAX),
            (u32::MAX, Duration::MAX),
        ] {
            let requests = NonZeroU32::new(requests).unwrap();
            let limiter = RateLimiter::new(Quota { requests, window }, &clock);
            assert!(limiter.check("a").is_allowed());
            limiter.check("a");
        }
    }

    #[test]
    fn many_threads_get_exactly_the_allowance() {
        let limiter = Arc::new(RateLimiter::new(quota(100, 60), &clock()));
        let allowed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..100).filter(|_| limiter.check("a").is_allowed()).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(allowed, 100);
    }
}
