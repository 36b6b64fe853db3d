//! What is known of a task, and how it looks when it comes in, when it may run and when it has ended.

use super::{Retry, Stage, State, TaskError, WorkerId, rank};
use crate::model::Priority;

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
        let blank = Self {
            stage: Stage::Pending,
            priority: wanted.priority,
            has_lane: wanted.has_lane,
            run_at_ms: now_ms,
            wake_at_ms: None,
            rank: 0,
            attempts: 0,
            retry: wanted.retry,
            fence: 0,
            worker: None,
            cancel_wanted: false,
            result_ttl_ms: wanted.result_ttl_ms,
            started_at_ms: None,
            completed_at_ms: None,
            error: None,
        };
        blank.queued(wanted.run_at_ms, now_ms)
    }

    pub fn state(&self) -> State {
        self.stage.state()
    }

    /// As it waits to be begun for the first time: now, or at a time of its own.
    pub(super) fn queued(&self, run_at_ms: Option<i64>, now_ms: i64) -> Self {
        let run_at_ms = run_at_ms.unwrap_or(now_ms);
        let is_ahead = run_at_ms > now_ms;
        let stage = match (is_ahead, self.has_lane) {
            (true, _) => Stage::Scheduled,
            (false, true) => Stage::Waiting,
            (false, false) => Stage::Pending,
        };
        Self {
            run_at_ms,
            wake_at_ms: is_ahead.then_some(run_at_ms),
            // Nobody comes before those who wait by naming a time long past.
            ..self.ready(stage, run_at_ms.max(now_ms))
        }
    }

    pub(super) fn ready(&self, stage: Stage, ready_at_ms: i64) -> Self {
        Self {
            stage,
            wake_at_ms: None,
            rank: rank(self.priority, ready_at_ms),
            worker: None,
            ..self.clone()
        }
    }

    pub(super) fn finished(&self, stage: Stage, error: Option<TaskError>, now_ms: i64) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_comes_first_by_naming_a_time_long_past() {
        let now_ms = 1_800_000_000_000;
        let wanted = Wanted {
            priority: Priority::Low,
            has_lane: false,
            run_at_ms: Some(0),
            retry: Retry::NEVER,
            result_ttl_ms: 0,
        };
        let record = Record::new(wanted, now_ms);
        assert_eq!(
            (record.stage, record.rank),
            (Stage::Pending, rank(Priority::Low, now_ms))
        );
    }
}
