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
pub(super) struct Leases(Arc<Mutex<HashMap<TaskId, Duration>>>);

impl Leases {
    /// Heard of until then.
    pub(super) fn renew<'a>(&self, ids: impl IntoIterator<Item = &'a TaskId>, until: Duration) {
        let mut leases = self.all();
        leases.extend(ids.into_iter().map(|id| (id.clone(), until)));
    }

    /// Its run has ended here.
    pub(super) fn end(&self, id: &TaskId) {
        self.all().remove(id);
    }

    /// Leaves those whose leases have ended, and nobody else's.
    pub(super) fn without_held(&self, mut ids: Vec<TaskId>, now: Duration) -> Vec<TaskId> {
        let mut leases = self.all();
        leases.retain(|_, until| *until > now);
        ids.retain(|id| !leases.contains_key(id));
        ids
    }

    fn all(&self) -> MutexGuard<'_, HashMap<TaskId, Duration>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
