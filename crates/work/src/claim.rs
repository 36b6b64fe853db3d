//! Which tasks there is room for, and the loop that fetches them.
//!
//! One claim is under way at a time. Whatever happens meanwhile (a task comes in, another ends) is one nudge, and the next
//! claim is about all of it: under load claims come in batches by themselves.
//!
//! A claim may be done although its answer is lost. What was given out by one was never begun, so it is given back as soon
//! as it is seen: its lease alone would end it as a run that nobody heard of again.

use crate::pool::Inner;
use forebay_domain::task::{Ended, Share, TaskType};
use forebay_runtime::Stop;
use forebay_store::{
    StoreError,
    queue::TaskError::{Refused, Store, Unknown},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::sleep;
use tracing::info;

/// The wait after a claim that failed.
const AFTER_FAULT: Duration = Duration::from_secs(1);
/// How often a worker looks for what a lost answer has left behind.
const LOOK_BACK_EVERY: Duration = Duration::from_secs(1);
/// What waits for others leaves one place in so many to what does not.
const FREE_OF: u32 = 4;

/// One type of task, as far as it decides what is claimed.
#[derive(Debug, Clone)]
pub(crate) struct Sort {
    pub(crate) task_type: TaskType,
    /// Runs at once.
    pub(crate) concurrency: u32,
    pub(crate) share: Share,
}

/// How many more may be claimed of each type, and of all together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) types: Vec<(TaskType, u32)>,
    pub(crate) all: u32,
    /// There is room for more than this, and another claim will say for what.
    pub(crate) is_cut: bool,
}

/// What is left of `workers` and of each type's own bound. Types that wait for others have a bound together: however many
/// of them there are, something else can begin.
pub(crate) fn room(workers: u32, sorts: &[Sort], running: &BTreeMap<String, usize>) -> Room {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let runs = |sort: &Sort| count(running.get(sort.task_type.as_str()).copied().unwrap_or_default());
    let waits = |sort: &&Sort| sort.share != Share::Whole;
    let all = workers.saturating_sub(count(running.values().sum()));
    let waiting: u32 = sorts.iter().filter(waits).map(runs).fold(0, u32::saturating_add);
    let for_waiting = most(workers).saturating_sub(waiting).min(all);
    let left = |sort: &Sort| {
        let bound = if waits(&sort) { for_waiting } else { all };
        sort.concurrency.saturating_sub(runs(sort)).min(bound)
    };
    let wanted: u32 = sorts.iter().filter(waits).map(left).fold(0, u32::saturating_add);
    // A claim knows the bounds of single types: so that several do not get together what is left for all of them, it is a
    // small one.
    let is_cut = wanted > for_waiting && for_waiting < all;
    let types = sorts.iter().map(|sort| (sort.task_type.clone(), left(sort)));
    Room {
        types: types.filter(|(_, room)| *room > 0).collect(),
        all: if is_cut { for_waiting } else { all },
        is_cut,
    }
}

/// So many of the places are for what waits for others.
fn most(workers: u32) -> u32 {
    workers.saturating_sub(workers.div_ceil(FREE_OF)).max(1)
}

/// So many places a type may take up that says this of itself.
pub(crate) fn places(share: Share, workers: u32) -> u32 {
    match share {
        Share::Whole => workers,
        Share::Most => most(workers),
        Share::Half => (workers / 2).max(1),
    }
}

/// Claims and begins tasks until draining begins.
pub(crate) async fn keep_claiming(inner: Arc<Inner>, stop: Stop) {
    let mut ready = inner.queue.ready();
    let mut doubt: Option<Doubt> = None;
    while !stop.is_draining() {
        // Before the claim, so that whatever comes after it is news.
        ready.mark_unchanged();
        let claimed = match inner.claim_once(&stop).await {
            Ok(()) => look_back(&inner, &mut doubt).await,
            Err(error) => Err(error),
        };
        let is_faulty = claimed.is_err();
        let wait = match claimed {
            Ok(()) => {
                inner.faults.passed("claim");
                inner.config.load().poll()
            }
            Err(error) => {
                inner.faults.met("claim", &error);
                doubt = Some(Doubt::since(&inner));
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

/// A claim has failed, and may be done all the same: at once, or by a server that nobody hears any more.
struct Doubt {
    /// Its leases are over by then, and others see to what it claimed.
    until: Duration,
    looked: Option<Duration>,
}

impl Doubt {
    fn since(inner: &Inner) -> Self {
        Self {
            until: inner.clock.monotonic() + inner.config.load().lease(),
            looked: None,
        }
    }
}

/// Looks for what a claim has given out whose answer was lost, as long as there may be something.
async fn look_back(inner: &Inner, doubt: &mut Option<Doubt>) -> Result<(), StoreError> {
    let Some(before) = doubt else { return Ok(()) };
    let now = inner.clock.monotonic();
    if before.looked.is_some_and(|looked| now < looked + LOOK_BACK_EVERY) {
        return Ok(());
    }
    let is_last = before.until <= now;
    before.looked = Some(now);
    inner.take_back().await?;
    if is_last {
        *doubt = None;
    }
    Ok(())
}

impl Inner {
    /// Gives back what this worker was given and never heard of.
    async fn take_back(&self) -> Result<(), StoreError> {
        let held: Vec<_> = self.running.leases().into_iter().map(|(id, _)| id).collect();
        for lease in self.queue.left_behind(&self.worker, &held).await? {
            // Of what ran here and was given up nobody knows how far it came.
            if self.running.has_given_up(&lease) {
                continue;
            }
            let (id, fence) = &lease;
            match self.queue.settle(id, *fence, Ended::Unbegun).await {
                Ok(_) => info!(task.id = %id, "a task is given back whose claim was not heard of"),
                // Somebody else has it by now.
                Err(Refused(_) | Unknown) => {}
                Err(Store(error)) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sort(name: &str, concurrency: u32, share: Share) -> Sort {
        Sort {
            task_type: TaskType::try_from(name).unwrap(),
            concurrency,
            share,
        }
    }

    fn check(workers: u32, sorts: &[(&str, u32)], running: &[(&str, usize)], types: &[(&str, u32)], all: u32) {
        let sorts: Vec<Sort> = sorts
            .iter()
            .map(|(name, concurrency)| {
                // The name says what it is.
                let share = if name.starts_with("wait") {
                    Share::Half
                } else {
                    Share::Whole
                };
                sort(name, *concurrency, share)
            })
            .collect();
        let running = running
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect();
        let room = room(workers, &sorts, &running);
        let left: Vec<(&str, u32)> = room.types.iter().map(|(name, room)| (name.as_str(), *room)).collect();
        assert_eq!((&left[..], room.all), (types, all));
    }

    #[test]
    fn room_is_what_is_left_of_both_bounds() {
        check(4, &[("a", 2), ("b", 9)], &[], &[("a", 2), ("b", 4)], 4);
        check(4, &[("a", 2), ("b", 9)], &[("a", 2), ("b", 1)], &[("b", 1)], 1);
        check(4, &[("a", 2)], &[("a", 9)], &[], 0);
        check(0, &[("a", 2)], &[], &[], 0);
    }

    #[test]
    fn what_waits_for_others_leaves_places_to_the_rest() {
        let sorts = [("a", 16), ("wait1", 8), ("wait2", 8)];
        // Both could be claimed to their full: so no more than both may have together.
        check(16, &sorts, &[], &[("a", 16), ("wait1", 8), ("wait2", 8)], 12);
        check(16, &sorts, &[("wait1", 8)], &[("a", 8), ("wait2", 4)], 8);
        check(16, &sorts, &[("wait1", 8), ("wait2", 4)], &[("a", 4)], 4);
        check(16, &sorts, &[("a", 15)], &[("a", 1), ("wait1", 1), ("wait2", 1)], 1);
        // Where there is one place, it is for all of them.
        check(1, &sorts, &[], &[("a", 1), ("wait1", 1), ("wait2", 1)], 1);
        check(2, &sorts, &[("wait2", 1)], &[("a", 1)], 1);
    }

    #[test]
    fn a_share_is_never_nothing() {
        let all = |workers| [Share::Whole, Share::Most, Share::Half].map(|share| places(share, workers));
        assert_eq!(all(16), [16, 12, 8]);
        assert_eq!(all(4), [4, 3, 2]);
        assert_eq!(all(3), [3, 2, 1]);
        assert_eq!(all(1), [1, 1, 1]);
    }
}
