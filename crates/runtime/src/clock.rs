//! The one place that asks the machine for the time.

use jiff::Timestamp;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

/// How often whoever waits for a time of the wall clock looks whether it jumped.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells the time: the machine's, or one that a test moves by hand.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System {
        started: Instant,
    },
    Manual {
        epoch_ms: Arc<AtomicI64>,
        /// By how much the wall clock was set forwards or back: measuring does not notice.
        set_by_ms: Arc<AtomicI64>,
    },
}

impl Clock {
    pub fn system() -> Self {
        Self(Source::System {
            started: Instant::now(),
        })
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual {
            epoch_ms: Arc::new(AtomicI64::new(start.as_millisecond())),
            set_by_ms: Arc::default(),
        })
    }

    /// Wall-clock time, for people and records. It may jump.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that everybody else takes the time from"
    )]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { .. } => Timestamp::now(),
            Source::Manual { epoch_ms, set_by_ms } => {
                let now_ms = epoch_ms.load(Ordering::SeqCst) + set_by_ms.load(Ordering::SeqCst);
                Timestamp::from_millisecond(now_ms).expect("a test stays within the calendar")
            }
        }
    }

    /// Time since some fixed moment, for measuring. It never goes back.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System { started } => started.elapsed(),
            Source::Manual { epoch_ms, .. } => {
                Duration::from_millis(epoch_ms.load(Ordering::SeqCst).max(0).unsigned_abs())
            }
        }
    }

    /// Completes once the wall clock shows that time. It looks again and again, since that clock may jump.
    pub async fn reaches(&self, time: Timestamp) {
        loop {
            let left = Duration::try_from(time.duration_since(self.now())).unwrap_or_default();
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK_EVERY)).await;
        }
    }

    /// Sets a manual wall clock forwards or back, as somebody does whose clock was wrong.
    pub fn set_by(&self, by_ms: i64) {
        if let Source::Manual { set_by_ms, .. } = &self.0 {
            set_by_ms.fetch_add(by_ms, Ordering::SeqCst);
        }
    }

    /// Moves a manual clock. The machine's own clock is not ours to move: there this does nothing.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { epoch_ms, .. } = &self.0 {
            let by_ms = i64::try_from(by.as_millis()).expect("a test moves by less than 292 million years");
            epoch_ms.fetch_add(by_ms, Ordering::SeqCst);
        }
    }
}
