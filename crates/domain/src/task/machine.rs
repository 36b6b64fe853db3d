//! The state machine: what happens to a task, and what becomes of it.

use super::{Retry, Stage, State, TaskError, WorkerId, rank};
use crate::model::Priority;
use bytes::Bytes;

/// The longest lease. One that ends later than this from now was given by a clock that has gone back since.
pub const LEASE_MAX_MS: i64 = 600_000;
/// What died is kept at least so long for somebody to look at.
pub const DEAD_KEPT_MS: i64 = 7 * 24 * 3_600_000;

/// What decides what may happen to a task next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub stage: Stage,
    pub priority: Priority,
    /// Tasks of one lane run one after another.
    pub has_lane: bool,
    pub run_at_ms: i64,
    /// When something happens to it by itself: it is due, its lease ends, or it is forgotten.
    pub wake_at_ms: Option<i64>,
    pub rank: i64,
    /// Runs that were begun.
    pub attempts: u32,
    pub retry: Retry,
    /// Larger with each claim: whoever has an older one has lost the task.
    pub fence: i64,
    pub worker: Option<WorkerId>,
    /// Somebody wants the run to end.
    pub cancel_wanted: bool,
    pub result_ttl_ms: i64,
    pub started_at_ms: Option<i64>,
    pub completed_at_ms: Option<i64>,
    pub error: Option<TaskError>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The output, which is JSON.
    Done(Bytes),
    Failed {
        error: TaskError,
        retryable: bool,
    },
    /// It ended since somebody wanted that.
    Cancelled,
    /// Whoever ran it has to end: somebody else begins again at once, if it may be run again.
    GivenBack,
    /// It was never begun, so that this was no attempt.
    Unbegun,
}

/// What can happen to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its time has come.
    Due,
    /// It is its turn among those of its lane.
    Turn,
    Claim {
        worker: WorkerId,
        lease_ms: i64,
    },
    /// Whoever runs it is still there.
    Beat {
        fence: i64,
        lease_ms: i64,
    },
    Settle {
        fence: i64,
        ended: Ended,
        jitter: u64,
    },
    Cancel,
    /// Somebody wants what failed to be tried again.
    Requeue,
    /// Nobody was heard of for the whole lease.
    Lapse {
        jitter: u64,
    },
}

/// Why nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Somebody else has it by now.
    #[error("the lease on the task was lost")]
    Stale,
    /// The same run was settled before; nothing was changed.
    #[error("the run was settled before")]
    Settled,
    #[error("the task has ended")]
    Finished,
    #[error("the task has not failed")]
    Unfinished,
    #[error("it is not time for that")]
    NotYet,
}

/// What somebody wants to be done, as far as it decides what happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub priority: Priority,
    pub has_lane: bool,
    /// At once where there is none.
    pub run_at_ms: Option<i64>,
    pub retry: Retry,
    pub result_ttl_ms: i64,
}

impl Record {
    /// As it is submitted.
    pub fn new(wanted: Wanted, now_ms: i64) -> Self {
        let run_at_ms = wanted.run_at_ms.unwrap_or(now_ms);
        let is_ahead = run_at_ms > now_ms;
        let stage = match (is_ahead, wanted.has_lane) {
            (true, _) => Stage::Scheduled,
            (false, true) => Stage::Waiting,
            (false, false) => Stage::Pending,
        };
        Self {
            stage,
            priority: wanted.priority,
            has_lane: wanted.has_lane,
            run_at_ms,
            wake_at_ms: is_ahead.then_some(run_at_ms),
            // Nobody comes before those who wait by naming a time long past.
            rank: rank(wanted.priority, run_at_ms.max(now_ms)),
            attempts: 0,
            retry: wanted.retry,
            fence: 0,
            worker: None,
            cancel_wanted: false,
            result_ttl_ms: wanted.result_ttl_ms,
            started_at_ms: None,
            completed_at_ms: None,
            error: None,
        }
    }

    pub fn state(&self) -> State {
        self.stage.state()
    }

    /// What becomes of it.
    pub fn after(&self, event: &Event, now_ms: i64) -> Result<Self, Refusal> {
        match event {
            Event::Due => self.due(now_ms),
            Event::Turn => self.turn(),
            Event::Claim { worker, lease_ms } => self.claim(worker, *lease_ms, now_ms),
            Event::Beat { fence, lease_ms } => self.beat(*fence, *lease_ms, now_ms),
            Event::Settle { fence, ended, jitter } => self.settle(*fence, ended, *jitter, now_ms),
            Event::Cancel => self.cancel(now_ms),
            Event::Requeue => self.requeue(now_ms),
            Event::Lapse { jitter } => self.lapse(*jitter, now_ms),
        }
    }

    /// Whether nobody has been heard of for the whole lease, or the clock has gone back by more than a lease.
    pub fn is_lapsed(&self, now_ms: i64) -> bool {
        let until_ms = self.wake_at_ms.unwrap_or(i64::MIN);
        self.stage == Stage::Running && (until_ms <= now_ms || until_ms > now_ms.saturating_add(LEASE_MAX_MS))
    }

    fn due(&self, now_ms: i64) -> Result<Self, Refusal> {
        if self.wake_at_ms.is_none_or(|due_at_ms| due_at_ms > now_ms) {
            return Err(Refusal::NotYet);
        }
        let stage = match self.stage {
            Stage::Scheduled if self.has_lane => Stage::Waiting,
            // What is tried again has had its turn in its lane, and keeps it.
            Stage::Scheduled | Stage::Retrying => Stage::Pending,
            _ => return Err(Refusal::NotYet),
        };
        Ok(self.ready(stage, self.run_at_ms))
    }

    fn turn(&self) -> Result<Self, Refusal> {
        match self.stage {
            // It has waited since it was due, and its rank says so.
            Stage::Waiting => Ok(Self {
                stage: Stage::Pending,
                ..self.clone()
            }),
            _ => Err(Refusal::NotYet),
        }
    }

    fn claim(&self, worker: &WorkerId, lease_ms: i64, now_ms: i64) -> Result<Self, Refusal> {
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

    fn beat(&self, fence: i64, lease_ms: i64, now_ms: i64) -> Result<Self, Refusal> {
        self.held(fence)?;
        Ok(Self {
            wake_at_ms: Some(lease_end(lease_ms, now_ms)),
            ..self.clone()
        })
    }

    fn settle(&self, fence: i64, ended: &Ended, jitter: u64, now_ms: i64) -> Result<Self, Refusal> {
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

    /// Nothing holds back what is not running. A run hears of it with its next beat.
    fn cancel(&self, now_ms: i64) -> Result<Self, Refusal> {
        match self.stage {
            Stage::Scheduled | Stage::Waiting | Stage::Pending | Stage::Retrying => {
                Ok(self.finished(Stage::Cancelled, None, now_ms))
            }
            Stage::Running => Ok(Self {
                cancel_wanted: true,
                ..self.clone()
            }),
            Stage::Cancelled => Ok(self.clone()),
            Stage::Completed | Stage::Failed | Stage::Dead => Err(Refusal::Finished),
        }
    }

    fn requeue(&self, now_ms: i64) -> Result<Self, Refusal> {
        if !matches!(self.stage, Stage::Failed | Stage::Dead) {
            return Err(Refusal::Unfinished);
        }
        let stage = if self.has_lane { Stage::Waiting } else { Stage::Pending };
        Ok(Self {
            attempts: 0,
            fence: self.fence + 1,
            cancel_wanted: false,
            run_at_ms: now_ms,
            started_at_ms: None,
            completed_at_ms: None,
            error: None,
            ..self.ready(stage, now_ms)
        })
    }

    /// The fence grows, so that whoever was not heard of cannot settle it any more.
    fn lapse(&self, jitter: u64, now_ms: i64) -> Result<Self, Refusal> {
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

    fn ready(&self, stage: Stage, ready_at_ms: i64) -> Self {
        Self {
            stage,
            wake_at_ms: None,
            rank: rank(self.priority, ready_at_ms),
            worker: None,
            ..self.clone()
        }
    }

    fn finished(&self, stage: Stage, error: Option<TaskError>, now_ms: i64) -> Self {
        let kept_ms = if stage == Stage::Dead {
            self.result_ttl_ms.max(DEAD_KEPT_MS)
        } else {
            self.result_ttl_ms
        };
        Self {
            stage,
            wake_at_ms: Some(now_ms.saturating_add(kept_ms)),
            worker: None,
            completed_at_ms: Some(now_ms),
            error,
            ..self.clone()
        }
    }
}

fn lease_end(lease_ms: i64, now_ms: i64) -> i64 {
    now_ms.saturating_add(lease_ms.clamp(1, LEASE_MAX_MS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: i64 = 1_800_000_000_000;
    const LEASE: i64 = 30_000;

    fn submitted(attempts_max: u32) -> Record {
        let wanted = Wanted {
            priority: Priority::Medium,
            has_lane: false,
            run_at_ms: None,
            retry: Retry {
                attempts_max,
                first: Duration::from_secs(1),
                max: Duration::from_secs(1),
            },
            result_ttl_ms: 60_000,
        };
        Record::new(wanted, NOW)
    }

    fn claimed(record: &Record) -> Record {
        let event = Event::Claim {
            worker: WorkerId::try_from("w").unwrap(),
            lease_ms: LEASE,
        };
        record.after(&event, NOW).unwrap()
    }

    fn settle(record: &Record, ended: Ended) -> Result<Record, Refusal> {
        let event = Event::Settle {
            fence: record.fence,
            ended,
            jitter: 0,
        };
        record.after(&event, NOW)
    }

    fn done() -> Ended {
        Ended::Done(Bytes::from_static(b"1"))
    }

    #[test]
    fn no_event_moves_what_has_ended_but_queueing_it_again() {
        let error = TaskError::new("upstream_failed", "It broke.", None);
        let failed = |retryable| Ended::Failed {
            error: error.clone(),
            retryable,
        };
        let running = claimed(&submitted(1));
        for (ended, stage) in [
            (done(), Stage::Completed),
            (failed(false), Stage::Failed),
            (failed(true), Stage::Dead),
            (Ended::Cancelled, Stage::Cancelled),
        ] {
            let record = settle(&running, ended).unwrap();
            assert_eq!(record.stage, stage);
            assert_eq!(settle(&record, done()), Err(Refusal::Settled));
            let fence = record.fence;
            for event in [
                Event::Due,
                Event::Turn,
                Event::Lapse { jitter: 1 },
                Event::Beat { fence, lease_ms: 1 },
            ] {
                assert!(record.after(&event, i64::MAX).is_err(), "{event:?}");
            }
            let is_back = record
                .after(&Event::Requeue, NOW)
                .is_ok_and(|record| record.stage == Stage::Pending);
            assert_eq!(is_back, matches!(stage, Stage::Failed | Stage::Dead));
        }
    }

    #[test]
    fn a_lapse_takes_the_fence_from_whoever_had_it() {
        let running = claimed(&submitted(3));
        let lapse = Event::Lapse { jitter: 1_000 };
        assert_eq!(running.after(&lapse, NOW + LEASE - 1), Err(Refusal::NotYet));
        let lost = running.after(&lapse, NOW + LEASE).unwrap();
        assert_eq!(
            (lost.stage, lost.wake_at_ms),
            (Stage::Retrying, Some(NOW + LEASE + 1_000))
        );
        let late = Event::Settle {
            fence: running.fence,
            ended: done(),
            jitter: 0,
        };
        assert_eq!(lost.after(&late, NOW), Err(Refusal::Stale));
    }

    #[test]
    fn a_clock_that_goes_back_keeps_no_lease_for_ever() {
        let running = claimed(&submitted(1));
        assert!(!running.is_lapsed(NOW - LEASE_MAX_MS + LEASE));
        assert!(running.is_lapsed(NOW - LEASE_MAX_MS + LEASE - 1));
        let event = Event::Beat {
            fence: running.fence,
            lease_ms: i64::MAX,
        };
        assert_eq!(running.after(&event, NOW).unwrap().wake_at_ms, Some(NOW + LEASE_MAX_MS));
    }

    #[test]
    fn nobody_comes_first_by_naming_a_time_long_past() {
        let wanted = Wanted {
            priority: Priority::Low,
            has_lane: false,
            run_at_ms: Some(0),
            retry: Retry::NEVER,
            result_ttl_ms: 0,
        };
        let record = Record::new(wanted, NOW);
        assert_eq!((record.stage, record.rank), (Stage::Pending, rank(Priority::Low, NOW)));
    }
}
