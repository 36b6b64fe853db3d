//! The tasks that this process holds a lease of, and how long it may believe that.

use forebay_domain::task::TaskId;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// One task and the fencing token of its lease.
pub(crate) type Lease = (TaskId, i64);

/// What runs here. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running {
    held: Arc<Mutex<HashMap<Lease, Held>>>,
    /// Woken when something has ended.
    ended: Arc<Notify>,
}

#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) task_type: String,
    /// Its owner wants it cancelled.
    pub(crate) cancel: CancellationToken,
    /// The lease is another's, or may be: what goes on here counts for nothing any more.
    pub(crate) lost: CancellationToken,
    /// Until when, on the clock that never goes back, nobody else can have it.
    until: Duration,
}

impl Running {
    fn map(&self) -> MutexGuard<'_, HashMap<Lease, Held>> {
        self.held.lock().expect("nobody panics while holding it")
    }

    /// Takes note of a claimed task; when that is let go, it runs here no more.
    pub(crate) fn begin(&self, lease: Lease, task_type: &str, until: Duration) -> Begun {
        let held = Held {
            task_type: task_type.to_owned(),
            cancel: CancellationToken::new(),
            lost: CancellationToken::new(),
            until,
        };
        self.map().insert(lease.clone(), held.clone());
        Begun {
            running: self.clone(),
            lease,
            held,
        }
    }

    pub(crate) fn leases(&self) -> Vec<Lease> {
        self.map().keys().cloned().collect()
    }

    pub(crate) fn holds(&self, id: &TaskId) -> bool {
        self.map().keys().any(|(held, _)| held == id)
    }

    /// Completes once nothing runs.
    pub(crate) async fn idle(&self) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.map().is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// How many of each type run.
    pub(crate) fn by_type(&self) -> BTreeMap<String, usize> {
        let map = self.map();
        map.values().fold(BTreeMap::new(), |mut counts, held| {
            *counts.entry(held.task_type.clone()).or_default() += 1;
            counts
        })
    }

    /// The store says that this lease goes on.
    pub(crate) fn renewed(&self, lease: &Lease, until: Duration) {
        if let Some(held) = self.map().get_mut(lease) {
            held.until = until;
        }
    }

    pub(crate) fn cancel(&self, lease: &Lease) {
        if let Some(held) = self.map().get(lease) {
            held.cancel.cancel();
        }
    }

    pub(crate) fn lost(&self, lease: &Lease) {
        if let Some(held) = self.map().get(lease) {
            held.lost.cancel();
        }
    }

    /// Gives up those whose lease may have passed to somebody else by now.
    pub(crate) fn give_up_overdue(&self, now: Duration) {
        for held in self.map().values().filter(|held| held.until <= now) {
            held.lost.cancel();
        }
    }
}

/// A task that runs here for as long as this is kept.
#[derive(Debug)]
pub(crate) struct Begun {
    running: Running,
    lease: Lease,
    pub(crate) held: Held,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.running.map().remove(&self.lease);
        self.running.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_renewed_in_time_is_given_up() {
        let running = Running::default();
        let lease = |name: &str| (TaskId::try_from(name).unwrap(), 1);
        let early = running.begin(lease("a"), "x", Duration::from_secs(10));
        let renewed = running.begin(lease("b"), "x", Duration::from_secs(10));
        running.renewed(&lease("b"), Duration::from_secs(20));
        running.give_up_overdue(Duration::from_secs(10));
        assert!(early.held.lost.is_cancelled());
        assert!(!renewed.held.lost.is_cancelled());
        assert_eq!(running.by_type(), BTreeMap::from([("x".to_owned(), 2)]));
        drop((early, renewed));
        assert!(running.leases().is_empty());
    }
}
