//! Owned tasks: whatever runs in the background has a name, an owner and a way to stop.

use std::{future::Future, time::Duration};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, error};

/// Asks a task to stop. Two stages: *drain* (finish what is under way, take nothing new), then *end*.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    drain: CancellationToken,
    end: CancellationToken,
}

impl Stop {
    pub fn new() -> Self {
        Self::default()
    }

    /// Completes when draining begins.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Completes when everything has to end at once.
    pub async fn ending(&self) {
        self.end.cancelled().await;
    }

    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    pub fn is_ending(&self) -> bool {
        self.end.is_cancelled()
    }

    /// Begins to drain.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Ends at once; implies draining.
    pub fn end(&self) {
        self.drain.cancel();
        self.end.cancel();
    }
}

/// Spawns tasks and waits for them.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: Stop,
}

impl Tasks {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Runs a named task until it returns. It is handed the [`Stop`] that it has to heed; once everything has to end it
    /// is dropped where it stands. A panic in it is logged with its name and takes nothing else down.
    #[expect(clippy::disallowed_methods, reason = "this is the spawn that shutdown waits for")]
    pub fn spawn<F, Fut>(&self, name: &'static str, task: F)
    where
        F: FnOnce(Stop) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        // In a box, since a future that is moved into another one has room for itself there twice.
        let work = Box::pin(task(stop.clone()));
        let inner = tokio::spawn(
            async move {
                tokio::select! {
                    () = work => {}
                    () = stop.ending() => {}
                }
            }
            .instrument(tracing::info_span!("task", task.name = name)),
        );
        self.tracker.spawn(async move {
            if let Err(fault) = inner.await
                && fault.is_panic()
            {
                error!(task.name = name, "task panicked");
            }
        });
    }

    /// Waits until every task has returned.
    pub async fn finished(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Drains, waits for at most `patience`, then ends what is left and waits for that. True if all drained in time.
    pub async fn shut_down(&self, patience: Duration) -> bool {
        self.stop.drain();
        let drained = tokio::time::timeout(patience, self.finished()).await.is_ok();
        self.stop.end();
        self.finished().await;
        drained
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    #[tokio::test(start_paused = true)]
    async fn draining_waits_and_ending_does_not() {
        let tasks = Tasks::new();
        let finished = Arc::new(AtomicBool::new(false));
        let flag = finished.clone();
        tasks.spawn("polite", |stop| async move {
            stop.draining().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            flag.store(true, Ordering::SeqCst);
        });
        assert!(tasks.shut_down(Duration::from_secs(10)).await);
        assert!(finished.load(Ordering::SeqCst));

        let tasks = Tasks::new();
        tasks.spawn("deaf", |_| std::future::pending());
        assert!(!tasks.shut_down(Duration::from_secs(10)).await);
    }

    #[tokio::test]
    async fn a_panicking_task_takes_nothing_down() {
        let tasks = Tasks::new();
        tasks.spawn("broken", |_| async { panic!("on purpose") });
        tasks.finished().await;
        assert!(!tasks.stop().is_draining());
    }
}
