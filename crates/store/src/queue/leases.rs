//! Which runs are under way in this process, by a clock that nobody sets: a wall clock that is set forward must not take
//! from it what it was heard of for a moment ago.

use forebay_domain::id::TaskId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Cheap to clone; all clones know the same leases.
#[derive(Clone, Default)]
pub(super) struct Leases(Arc<Mutex<HashMap<TaskId, Lease>>>);

struct Lease {
    fence: i64,
    until: Duration,
}

impl Leases {
    /// These runs were heard of, which counts until then.
    pub(super) fn renew<'a>(&self, runs: impl IntoIterator<Item = (&'a TaskId, i64)>, until: Duration) {
        let lease = |(id, fence): (&TaskId, i64)| (id.clone(), Lease { fence, until });
        self.all().extend(runs.into_iter().map(lease));
    }

    /// This run has ended.
    pub(super) fn end(&self, id: &TaskId, fence: i64) {
        let mut leases = self.all();
        if leases.get(id).is_some_and(|lease| lease.fence == fence) {
            leases.remove(id);
        }
    }

    /// Those of the runs that were not heard of here for a lease. A run of before says nothing about one that somebody else has
    /// by now.
    pub(super) fn unheard(&self, runs: Vec<(TaskId, i64)>, now: Duration) -> Vec<TaskId> {
        let mut leases = self.all();
        leases.retain(|_, lease| lease.until > now);
        let is_held = |id: &TaskId, fence: i64| leases.get(id).is_some_and(|lease| lease.fence == fence);
        let unheard = runs.into_iter().filter(|(id, fence)| !is_held(id, *fence));
        unheard.map(|(id, _)| id).collect()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<TaskId, Lease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
