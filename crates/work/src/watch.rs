//! Waiting for a task: until it is over, or for as long as whoever waits has patience.
//!
//! What changes in this process wakes those who wait for it at once. What other processes do is seen by looking, soon at
//! first and then every poll. A wait that ends early costs nothing but the wait: the task goes on.

use crate::{Deltas, hub::Hub, shared::Shared};
use forebay_domain::task::TaskId;
use forebay_store::{
    StoreError,
    queue::{Body, Queue, Scope, Task},
};
use std::time::Duration;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

/// How soon a task of another process is looked at again at first.
const LOOK_FIRST: Duration = Duration::from_millis(25);

/// Watches tasks from this process. Cheap to clone.
#[derive(Clone)]
pub struct Watch {
    queue: Queue,
    hub: Hub,
    waiters: Waiters,
    poll: Duration,
}

impl Watch {
    pub(crate) fn new(queue: Queue, hub: Hub, waiters: Waiters, poll: Duration) -> Self {
        Self {
            queue,
            hub,
            waiters,
            poll,
        }
    }

    /// The task once it is over, or as it is after so long. Nothing where this scope has none of that id.
    pub async fn wait(&self, scope: &Scope, id: &TaskId, longest: Duration) -> Result<Option<Task>, StoreError> {
        let until = Instant::now() + longest;
        let mut again = LOOK_FIRST.min(self.poll);
        let changed = self.waiters.0.of(id);
        loop {
            // Before the look, so that nothing comes between the two.
            let mut changed = std::pin::pin!(changed.notified());
            changed.as_mut().enable();
            let task = self.queue.get(scope, id, Body::Output).await?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || task.as_ref().is_none_or(|task| task.state.is_final()) {
                return Ok(task);
            }
            if timeout(again.min(left), changed).await.is_err() {
                again = (again * 2).min(self.poll);
            }
        }
    }

    /// What a task tells while it runs in this process.
    pub fn deltas(&self, id: &TaskId) -> Deltas {
        self.hub.watch(id)
    }
}

/// Those who wait, by what they wait for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiters(Shared<Notify>);

impl Waiters {
    /// Something became of this task.
    pub(crate) fn wake(&self, id: &TaskId) {
        if let Some(changed) = self.0.get(id) {
            changed.notify_waiters();
        }
    }

    /// Something became of tasks, and nobody knows of which.
    pub(crate) fn wake_all(&self) {
        for changed in self.0.all() {
            changed.notify_waiters();
        }
    }
}
