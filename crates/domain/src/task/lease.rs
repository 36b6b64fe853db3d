//! Who runs a task, for how long that is believed, and what becomes of it when the run has ended.

use super::{Ended, Record, Refusal, Stage, TaskError, WorkerId};

/// The longest lease. One that ends later than this from now was given by a clock that has gone back since.
pub const LEASE_MAX_MS: i64 = 600_000;

impl Record {
    /// Whether nobody has been heard of for the whole lease, or the clock has gone back by more than a lease.
    pub fn is_lapsed(&self, now_ms: i64) -> bool {
        let until_ms = self.wake_at_ms.unwrap_or(i64::MIN);
        self.stage == Stage::Running && (until_ms <= now_ms || until_ms > now_ms.saturating_add(LEASE_MAX_MS))
    }

    pub(super) fn claim(&self, worker: &WorkerId, lease_ms: i64, now_ms: i64) -> Result<Self, Refusal> {
        if self.stage != Stage::Pending {
            return Err(Refusal::NotYet);
        }
        Ok(Self {
            stage: Stage::Running,
            wake_at_ms: Some(lease_end(lease_ms, now_ms)),
            attempts: self.attempts.saturating_add(1),
            fence: self.fence + 1,
            worker: Some(worker.clone()),
            started_at_ms: self.started_at_ms.or(Some(now_ms)),
            ..self.clone()
        })
    }

    /// The holder of this fence, and nobody else, may go on.
    fn held(&self, fence: i64) -> Result<(), Refusal> {
        match (self.fence == fence, self.stage) {
            (true, Stage::Running) => Ok(()),
            (true, _) => Err(Refusal::Settled),
            (false, _) => Err(Refusal::Stale),
        }
    }

    pub(super) fn beat(&self, fence: i64, lease_ms: i64, now_ms: i64) -> Result<Self, Refusal> {
        self.held(fence)?;
        Ok(Self {
            wake_at_ms: Some(lease_end(lease_ms, now_ms)),
            ..self.clone()
        })
    }

    pub(super) fn settle(&self, fence: i64, ended: &Ended, jitter: u64, now_ms: i64) -> Result<Self, Refusal> {
        self.held(fence)?;
        Ok(match ended {
            Ended::Done(_) => self.finished(Stage::Completed, None, now_ms),
            _ if self.cancel_wanted => self.finished(Stage::Cancelled, None, now_ms),
            Ended::Cancelled => self.finished(Stage::Cancelled, None, now_ms),
            Ended::Failed {
                error,
                retryable: false,
            } => self.finished(Stage::Failed, Some(error.clone()), now_ms),
            Ended::Failed { error, .. } => self.again(error.clone(), Some(jitter), now_ms),
            Ended::GivenBack => self.again(TaskError::given_back(), None, now_ms),
            Ended::Unbegun => {
                let attempts = self.attempts.saturating_sub(1);
                Self {
                    attempts,
                    started_at_ms: self.started_at_ms.filter(|_| attempts > 0),
                    ..self.ready(Stage::Pending, self.run_at_ms)
                }
            }
        })
    }

    /// The fence grows, so that whoever was not heard of cannot settle it any more.
    pub(super) fn lapse(&self, jitter: u64, now_ms: i64) -> Result<Self, Refusal> {
        if !self.is_lapsed(now_ms) {
            return Err(Refusal::NotYet);
        }
        let lost = Self {
            fence: self.fence + 1,
            ..self.clone()
        };
        Ok(if self.cancel_wanted {
            lost.finished(Stage::Cancelled, None, now_ms)
        } else {
            lost.again(TaskError::lost(), Some(jitter), now_ms)
        })
    }

    /// Tried again after a while, or at once, or no more.
    fn again(&self, error: TaskError, jitter: Option<u64>, now_ms: i64) -> Self {
        if self.attempts >= self.retry.attempts_max {
            return self.finished(Stage::Dead, Some(error), now_ms);
        }
        let Some(jitter) = jitter else {
            return self.ready(Stage::Pending, now_ms);
        };
        let wait = self.retry.next(self.attempts, jitter);
        let due_at_ms = now_ms.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        Self {
            stage: Stage::Retrying,
            run_at_ms: due_at_ms,
            wake_at_ms: Some(due_at_ms),
            worker: None,
            error: Some(error),
            ..self.clone()
        }
    }
}

fn lease_end(lease_ms: i64, now_ms: i64) -> i64 {
    now_ms.saturating_add(lease_ms.clamp(1, LEASE_MAX_MS))
}
