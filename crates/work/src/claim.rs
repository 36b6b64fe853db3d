//! Which tasks there is room for, and the loop that fetches them.
//!
//! One claim is under way at a time. Whatever happens meanwhile (a task comes in, another ends) is one nudge, and the next
//! claim is about all of it: under load claims come in batches by themselves.

use crate::pool::Inner;
use forebay_domain::task::{TaskType, TypeLimits};
use forebay_runtime::Stop;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::sleep;
use tracing::{info, warn};

/// The wait after a claim that failed.
const AFTER_FAULT: Duration = Duration::from_secs(1);

/// How many more may be claimed of each type, and of all together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) types: Vec<(TaskType, u32)>,
    pub(crate) all: u32,
}

/// What is left of `workers` and of each type's own bound.
pub(crate) fn room(workers: u32, limits: &[(TaskType, TypeLimits)], running: &BTreeMap<String, usize>) -> Room {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let all = workers.saturating_sub(count(running.values().sum()));
    let left = limits.iter().map(|(task_type, limits)| {
        let runs = running.get(task_type.as_str()).copied().unwrap_or_default();
        (
            task_type.clone(),
            limits.concurrency.saturating_sub(count(runs)).min(all),
        )
    });
    Room {
        types: left.filter(|(_, room)| *room > 0).collect(),
        all,
    }
}

/// Claims and begins tasks until draining begins.
pub(crate) async fn keep_claiming(inner: Arc<Inner>, stop: Stop) {
    let mut ready = inner.queue.ready();
    let mut is_faulty = false;
    while !stop.is_draining() {
        // Before the claim, so that whatever comes after it is news.
        ready.mark_unchanged();
        let wait = match inner.claim_once(&stop).await {
            Ok(()) => {
                if is_faulty {
                    info!("tasks can be claimed again");
                }
                is_faulty = false;
                inner.config.load().poll()
            }
            Err(error) => {
                if !is_faulty {
                    warn!(%error, "tasks cannot be claimed");
                }
                is_faulty = true;
                AFTER_FAULT
            }
        };
        tokio::select! {
            () = sleep(wait) => {}
            () = inner.look.notified() => {}
            changed = ready.changed(), if !is_faulty => if changed.is_err() { return },
            () = stop.draining() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_domain::task::Retry;

    fn check(workers: u32, concurrency: &[(&str, u32)], running: &[(&str, usize)], types: &[(&str, u32)], all: u32) {
        let named = |name: &str| TaskType::try_from(name).unwrap();
        let limits: Vec<_> = concurrency
            .iter()
            .map(|(name, concurrency)| {
                let limits = TypeLimits {
                    concurrency: *concurrency,
                    timeout: Duration::from_secs(1),
                    retry: Retry::default(),
                };
                (named(name), limits)
            })
            .collect();
        let running = running
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect();
        let types = types.iter().map(|(name, room)| (named(name), *room)).collect();
        assert_eq!(room(workers, &limits, &running), Room { types, all });
    }

    #[test]
    fn room_is_what_is_left_of_both_bounds() {
        check(4, &[("a", 2), ("b", 9)], &[], &[("a", 2), ("b", 4)], 4);
        check(4, &[("a", 2), ("b", 9)], &[("a", 2), ("b", 1)], &[("b", 1)], 1);
        check(4, &[("a", 2)], &[("a", 9)], &[], 0);
        check(0, &[("a", 2)], &[], &[], 0);
    }
}
