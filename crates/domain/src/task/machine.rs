//! The state machine: what happens to a task, and what becomes of it. What a run does stands beside it, with leases.

use super::{Event, Record, Refusal, Stage};

impl Record {
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
            Event::Repeat { run_at_ms } => self.repeat(*run_at_ms, now_ms),
            Event::Lapse { jitter } => self.lapse(*jitter, now_ms),
        }
    }

    /// Whether its time has come. What backs off never does so for longer than its longest wait: where it would, the clock has
    /// gone back since.
    pub fn is_due(&self, now_ms: i64) -> bool {
        let Some(due_at_ms) = self.wake_at_ms else { return false };
        let longest_ms = i64::try_from(self.retry.max.as_millis()).unwrap_or(i64::MAX);
        match self.stage {
            Stage::Scheduled => due_at_ms <= now_ms,
            Stage::Retrying => due_at_ms <= now_ms || due_at_ms > now_ms.saturating_add(longest_ms),
            Stage::Waiting
            | Stage::Pending
            | Stage::Running
            | Stage::Completed
            | Stage::Failed
            | Stage::Cancelled
            | Stage::Dead => false,
        }
    }

    fn due(&self, now_ms: i64) -> Result<Self, Refusal> {
        if !self.is_due(now_ms) {
            return Err(Refusal::NotYet);
        }
        // What is tried again has had its turn in its lane, and keeps it.
        let stage = if self.stage == Stage::Scheduled && self.has_lane {
            Stage::Waiting
        } else {
            Stage::Pending
        };
        let run_at_ms = self.run_at_ms.min(now_ms);
        Ok(Self {
            run_at_ms,
            ..self.ready(stage, run_at_ms)
        })
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
        match self.stage {
            Stage::Failed | Stage::Dead => Ok(self.anew(None, now_ms)),
            _ => Err(Refusal::Unfinished),
        }
    }

    fn repeat(&self, run_at_ms: Option<i64>, now_ms: i64) -> Result<Self, Refusal> {
        if self.may_repeat() {
            Ok(self.anew(run_at_ms, now_ms))
        } else if self.state().is_final() {
            Err(Refusal::Finished)
        } else {
            Err(Refusal::Unfinished)
        }
    }

    /// Whether somebody who sends it again under its name gets it done, and not told once more why it was not: what stood in
    /// its way may be gone by now, and trying again does nothing twice.
    fn may_repeat(&self) -> bool {
        let is_passing = self.error.as_ref().is_some_and(|error| error.is_passing);
        match self.stage {
            Stage::Failed => is_passing,
            // It failed in a way that was worth another attempt, or its worker was lost. What may be begun more than once has
            // its effect once.
            Stage::Dead => is_passing || self.retry.attempts_max > 1,
            Stage::Scheduled
            | Stage::Waiting
            | Stage::Pending
            | Stage::Running
            | Stage::Retrying
            | Stage::Completed
            | Stage::Cancelled => false,
        }
    }

    /// With all its attempts. No run of before may settle it.
    fn anew(&self, run_at_ms: Option<i64>, now_ms: i64) -> Self {
        Self {
            attempts: 0,
            fence: self.fence + 1,
            cancel_wanted: false,
            started_at_ms: None,
            completed_at_ms: None,
            error: None,
            ..self.queued(run_at_ms, now_ms)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Priority,
        task::{Ended, LEASE_MAX_MS, Retry, TaskError, Wanted, WorkerId, rank},
    };
    use bytes::Bytes;
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
    fn a_clock_that_goes_back_keeps_nothing_backing_off_for_ever() {
        let error = TaskError::new("upstream_failed", "It broke.", None);
        let failed = Ended::Failed { error, retryable: true };
        let backs_off = settle(&claimed(&submitted(2)), failed).unwrap();
        let longest_ms = 1_000;
        let due_at_ms = backs_off.wake_at_ms.unwrap();
        assert_eq!((backs_off.stage, due_at_ms), (Stage::Retrying, NOW));
        assert!(!backs_off.is_due(due_at_ms - 1) && !backs_off.is_due(due_at_ms - longest_ms));
        let earlier = due_at_ms - longest_ms - 1;
        let pending = backs_off.after(&Event::Due, earlier).unwrap();
        assert_eq!(
            (pending.stage, pending.rank),
            (Stage::Pending, rank(Priority::Medium, earlier)),
            "it waits since now, and not since a time that is to come"
        );
    }

    #[test]
    fn what_is_sent_again_is_tried_again_where_that_may_help_and_does_nothing_twice() {
        let repeat = Event::Repeat { run_at_ms: None };
        // Its code, whether the run says that another may do better, how often it may be begun; what becomes of the repeat.
        for (code, retryable, attempts_max, is_back) in [
            ("context_limit", false, 5, true),
            ("spending_limit_exceeded", false, 1, true),
            ("rate_limited", true, 1, true),
            ("overloaded", true, 1, true),
            ("store_unavailable", true, 1, true),
            ("upstream_failed", false, 5, false),
            ("invalid_request", false, 1, false),
            ("unknown_context", false, 5, false),
            // Nobody knows what it has done.
            ("call_lost", true, 1, false),
            ("task_timed_out", true, 1, false),
        ] {
            let error = TaskError::new(code, "…", None);
            let ended = settle(&claimed(&submitted(attempts_max)), Ended::Failed { error, retryable });
            let mut record = ended.unwrap();
            while !record.state().is_final() {
                let due = record.after(&Event::Due, i64::MAX).unwrap();
                let error = TaskError::new(code, "…", None);
                record = settle(&claimed(&due), Ended::Failed { error, retryable }).unwrap();
            }
            let after = record.after(&repeat, NOW);
            assert_eq!(after.is_ok(), is_back, "{code} {retryable} {attempts_max}");
        }
        // What may be begun again, and died of what might have passed.
        let error = || TaskError::new("upstream_failed", "…", None);
        let retryable = |record: &Record| {
            settle(
                record,
                Ended::Failed {
                    error: error(),
                    retryable: true,
                },
            )
            .unwrap()
        };
        let tried = retryable(&claimed(&submitted(2)));
        assert_eq!(tried.after(&repeat, NOW), Err(Refusal::Unfinished));
        let dead = retryable(&claimed(&tried.after(&Event::Due, NOW + 1_000).unwrap()));
        assert_eq!(dead.stage, Stage::Dead);
        let later = Event::Repeat {
            run_at_ms: Some(NOW + 5),
        };
        let again = dead.after(&later, NOW).unwrap();
        assert_eq!((again.stage, again.attempts, again.error), (Stage::Scheduled, 0, None));
        assert!(again.fence > dead.fence);
        let done = settle(&claimed(&submitted(1)), done()).unwrap();
        assert_eq!(done.after(&repeat, NOW), Err(Refusal::Finished));
    }
}
