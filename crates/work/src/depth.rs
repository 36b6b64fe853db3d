//! What waits, counted every now and then for `/metrics`.

use crate::Metrics;
use arc_swap::ArcSwap;
use forebay_domain::{Failure, model::Priority, task::State};
use forebay_runtime::{Clock, looping::Loop};
use forebay_store::queue::{Depth as Sort, Queue};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};

/// Where something has waited for so long and nothing runs, nobody is there.
const NOBODY_AFTER: Duration = Duration::from_mins(1);

pub(crate) struct Depth {
    queue: Queue,
    clock: Clock,
    metrics: Metrics,
    /// For whoever asks in between.
    seen: Arc<ArcSwap<Vec<Sort>>>,
}

impl Depth {
    pub(crate) fn new(queue: Queue, clock: Clock, metrics: Metrics, seen: Arc<ArcSwap<Vec<Sort>>>) -> Self {
        Self {
            queue,
            clock,
            metrics,
            seen,
        }
    }
}

/// How many tasks of one priority wait, and how long the oldest of them has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    priority: Priority,
    tasks: u32,
    oldest: Duration,
}

impl Loop for Depth {
    type Seen = (Vec<Sort>, Timestamp);
    type Action = Waiting;

    fn name(&self) -> &'static str {
        "tasks_depth"
    }

    async fn observe(&mut self) -> Result<(Vec<Sort>, Timestamp), Failure> {
        let sorts = self.queue.counts().await?;
        self.seen.store(Arc::new(sorts.clone()));
        Ok((sorts, self.clock.now()))
    }

    /// Every priority is told, also one of which nothing waits.
    fn decide(&self, (sorts, now): &(Vec<Sort>, Timestamp)) -> Vec<Waiting> {
        Priority::ALL.map(|priority| waiting(priority, sorts, *now)).into()
    }

    async fn act(&mut self, waiting: Waiting) -> Result<(), Failure> {
        self.metrics.waiting(waiting.priority, waiting.tasks, waiting.oldest);
        Ok(())
    }
}

/// Whether somebody works on tasks, as far as it shows in what there was when it was counted. Of workers elsewhere nothing
/// is known but what they do.
pub(crate) fn is_worked_on(elsewhere: Elsewhere, sorts: &[Sort], now: Timestamp) -> bool {
    match elsewhere {
        Elsewhere::Nobody => false,
        Elsewhere::Maybe => {
            let of = |state| sorts.iter().filter(move |sort| sort.state == state);
            let runs = of(State::Running).any(|sort| sort.count > 0);
            let oldest = of(State::Pending).map(|sort| sort.oldest).min();
            let waited = oldest.and_then(|oldest| Duration::try_from(now.duration_since(oldest)).ok());
            runs || waited.unwrap_or_default() < NOBODY_AFTER
        }
    }
}

/// Whether anybody may work on what is not worked on in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    /// The database is this process's own.
    Nobody,
    Maybe,
}

/// What is put off until later does not wait.
fn waiting(priority: Priority, sorts: &[Sort], now: Timestamp) -> Waiting {
    let waiting = sorts
        .iter()
        .filter(|sort| sort.priority == priority && sort.state == State::Pending);
    let oldest = waiting.clone().map(|sort| sort.oldest).min();
    let age = oldest.and_then(|oldest| Duration::try_from(now.duration_since(oldest)).ok());
    Waiting {
        priority,
        tasks: waiting.map(|sort| sort.count).fold(0, u32::saturating_add),
        oldest: age.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_elsewhere_are_known_by_what_they_do() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let sort = |state, second| Sort {
            task_type: "a".parse().unwrap(),
            priority: Priority::Low,
            state,
            count: 1,
            oldest: at(second),
        };
        let is_worked_on = |sorts: &[Sort]| is_worked_on(Elsewhere::Maybe, sorts, at(100));
        assert!(is_worked_on(&[]), "there is nothing to do");
        assert!(is_worked_on(&[sort(State::Pending, 41), sort(State::Dead, 1)]));
        assert!(!is_worked_on(&[sort(State::Pending, 40), sort(State::Scheduled, 1)]));
        assert!(is_worked_on(&[sort(State::Pending, 1), sort(State::Running, 99)]));
        assert!(!super::is_worked_on(Elsewhere::Nobody, &[], at(100)));
    }

    #[test]
    fn what_waits_is_summed_over_types_and_as_old_as_its_oldest() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let sort = |task_type: &str, priority, state, count, second| Sort {
            task_type: task_type.parse().unwrap(),
            priority,
            state,
            count,
            oldest: at(second),
        };
        let sorts = [
            sort("a", Priority::Low, State::Pending, 2, 100),
            sort("b", Priority::Low, State::Pending, 3, 90),
            sort("b", Priority::Low, State::Running, 7, 10),
            sort("a", Priority::High, State::Scheduled, 1, 1),
        ];
        let expected = |priority, tasks, oldest_s| Waiting {
            priority,
            tasks,
            oldest: Duration::from_secs(oldest_s),
        };
        assert_eq!(waiting(Priority::Low, &sorts, at(120)), expected(Priority::Low, 5, 30));
        assert_eq!(waiting(Priority::High, &sorts, at(120)), expected(Priority::High, 0, 0));
        assert_eq!(
            waiting(Priority::Low, &sorts, at(50)),
            expected(Priority::Low, 5, 0),
            "a clock may go back"
        );
    }
}
