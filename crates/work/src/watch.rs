//! Waiting for a task: until it is over, or for as long as whoever waits has patience.
//!
//! What changes in this process wakes those who wait for it at once. What other processes do is seen by looking, soon at
//! first and then every poll. A wait that ends early costs nothing but the wait: the task goes on. So a database that is
//! away for a while ends no wait, and a process that is to end holds nobody up.

use crate::{Deltas, hub::Hub, running::Running, shared::Shared};
use forebay_domain::{Code, Failure, task::TaskId};
use forebay_runtime::Stop;
use forebay_store::queue::{Body, Queue, Scope, Task};
use std::time::Duration;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

/// How soon a task of another process is looked at again at first.
const LOOK_FIRST: Duration = Duration::from_millis(25);
/// The longest that whoever has no patience left, or is to leave, waits for one look.
const LOOK_LONGEST: Duration = Duration::from_secs(2);

/// Watches tasks from this process. Cheap to clone.
#[derive(Clone)]
pub struct Watch {
    pub(crate) queue: Queue,
    pub(crate) hub: Hub,
    pub(crate) waiters: Waiters,
    pub(crate) running: Running,
    pub(crate) stop: Stop,
    pub(crate) poll: Duration,
}

/// What was seen of a task by somebody who waits for it.
struct Sight {
    task: Option<Task>,
    /// Why the last look saw nothing, and since when none has.
    blind: Option<(Failure, Instant)>,
}

impl Sight {
    fn blinded(&mut self, fault: Failure) {
        let since = self.blind.take().map_or_else(Instant::now, |(_, since)| since);
        self.blind = Some((fault, since));
    }

    /// The task as it was seen last.
    fn told(self) -> Result<Option<Task>, Failure> {
        match (self.task, self.blind) {
            (None, Some((fault, _))) => Err(fault),
            (task, _) => Ok(task),
        }
    }
}

impl Watch {
    /// The task once it is over, or as it was seen last: after so long, or when this process begins to end. Nothing where
    /// this scope has none of that id. Fails where it could not be seen at all.
    pub async fn wait(&self, scope: &Scope, id: &TaskId, longest: Duration) -> Result<Option<Task>, Failure> {
        let until = Instant::now() + longest;
        let is_up = |_: &Sight| until <= Instant::now() || self.stop.is_draining();
        let left = || until.saturating_duration_since(Instant::now());
        self.watched(scope, id, left, is_up).await?.told()
    }

    /// The task once it is over, however long that takes. Where this process ends before, and the task does not run here
    /// any more, it is told as it was seen last; and it fails where it could not be seen for all of `patience`.
    pub async fn follow(&self, scope: &Scope, id: &TaskId, patience: Duration) -> Result<Option<Task>, Failure> {
        let is_lost = |sight: &Sight| {
            let blind = sight.blind.as_ref();
            blind.is_some_and(|(_, since)| since.elapsed() >= patience)
        };
        let is_left = || self.stop.is_draining() && !self.running.holds(id);
        let is_up = |sight: &Sight| is_left() || is_lost(sight);
        let mut sight = self.watched(scope, id, || patience, is_up).await?;
        if is_lost(&sight) {
            sight.task = None;
        }
        sight.told()
    }

    /// Looks until the task is over or it is enough.
    async fn watched(
        &self,
        scope: &Scope,
        id: &TaskId,
        left: impl Fn() -> Duration,
        is_enough: impl Fn(&Sight) -> bool,
    ) -> Result<Sight, Failure> {
        let mut again = LOOK_FIRST.min(self.poll);
        let changed = self.waiters.0.of(id);
        let mut sight = Sight {
            task: None,
            blind: None,
        };
        loop {
            // Before the look, so that nothing comes between the two.
            let mut changed = std::pin::pin!(changed.notified());
            changed.as_mut().enable();
            let was_draining = self.stop.is_draining();
            let look = tokio::select! {
                look = self.queue.get(scope, id, Body::Output) => look.map_err(|error| (error.is_unavailable(), error.into())),
                () = self.look_longest(left()) => Err((true, too_slow())),
            };
            match look {
                Ok(task) => {
                    let is_over = task.as_ref().is_none_or(|task| task.state.is_final());
                    sight = Sight { task, blind: None };
                    if is_over {
                        return Ok(sight);
                    }
                }
                Err((true, fault)) => sight.blinded(fault),
                Err((false, fault)) => return Err(fault),
            }
            if is_enough(&sight) {
                return Ok(sight);
            }
            if was_draining {
                // It ends at any moment.
                again = LOOK_FIRST;
            }
            tokio::select! {
                heard = timeout(again.min(left()), changed) => if heard.is_err() {
                    again = (again * 2).min(self.poll);
                },
                () = self.stop.draining(), if !was_draining => {}
            }
        }
    }

    /// Completes when one look has taken as long as it may.
    async fn look_longest(&self, left: Duration) {
        let ending = async {
            self.stop.draining().await;
            sleep(LOOK_LONGEST).await;
        };
        tokio::select! {
            () = sleep(left.max(LOOK_LONGEST)) => {}
            () = ending => {}
        }
    }

    /// What a task tells while it runs in this process.
    pub fn deltas(&self, id: &TaskId) -> Deltas {
        self.hub.watch(id)
    }
}

fn too_slow() -> Failure {
    Failure::new(Code::StoreUnavailable, "The database takes too long.").hint("Try again in a few seconds.")
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
