//! The way into the queue: what the configuration says of a type counts for whatever comes in, whoever puts it off.

use crate::TasksConfig;
use arc_swap::ArcSwap;
use forebay_domain::{
    Code, Failure,
    port::{BoxFuture, DoLater, Errand},
    task::{Needs, Retry, TaskId, TaskOwner, TaskType, TypeLimits, WorkerId},
};
use forebay_runtime::Clock;
use forebay_store::queue::{NewTask, Queue, SubmitError, Submitted};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How long a task waits for the process that wants to run it, before any other may.
const WANTED_HERE: Duration = Duration::from_secs(30);
/// What is kept for a shorter time could be gone before anybody has seen it.
const KEPT_MIN: Duration = Duration::from_secs(1);

/// Queues tasks of the types that are run here. It holds nothing of what runs them. Cheap to clone.
#[derive(Clone)]
pub struct Submitter {
    pub(crate) queue: Queue,
    pub(crate) clock: Clock,
    pub(crate) worker: WorkerId,
    pub(crate) config: Arc<ArcSwap<TasksConfig>>,
    /// What each type says of itself.
    pub(crate) limits: Arc<BTreeMap<TaskType, TypeLimits>>,
}

impl Submitter {
    /// Queues a task, with what the configuration says for its type.
    pub(crate) async fn submit(&self, new: NewTask) -> Result<Submitted, SubmitError> {
        self.queue.submit(self.ruled(new)).await
    }

    /// What is queued for such a task. Ruled again it stays as it is.
    pub(crate) fn ruled(&self, mut new: NewTask) -> NewTask {
        let config = self.config.load();
        let own = TypeLimits {
            // What runs here counts for claims, and not for what comes in.
            concurrency: u32::MAX,
            retry: new.retry,
            timeout: new.timeout,
        };
        let limits = config.limits(new.task_type.as_str(), own);
        (new.retry, new.timeout) = (limits.retry, limits.timeout);
        new.result_ttl = config.result_ttl();
        new
    }

    fn task(&self, errand: Errand<'_>) -> Result<NewTask, Failure> {
        let known = TaskType::try_from(errand.task_type).ok();
        let known = known.and_then(|known| self.limits.get_key_value(&known));
        let (task_type, limits) = known.ok_or_else(|| unknown_type(self.limits.keys()))?;
        let wanted_until = self.clock.now().checked_add(WANTED_HERE).ok();
        let mut new = self.ruled(NewTask {
            task_type: task_type.clone(),
            owner: TaskOwner::of(errand.principal),
            priority: errand.priority,
            run_at: None,
            input: errand.input,
            idempotency_key: None,
            stands_for: None,
            lane: None,
            context_id: None,
            wanted_by: wanted_until
                .filter(|_| errand.is_wanted_here && self.works())
                .map(|until| (self.worker.clone(), until)),
            retry: Retry {
                attempts_max: errand.attempts_max,
                ..Retry::default()
            },
            timeout: limits.timeout,
            result_ttl: Duration::ZERO,
            trace: errand.trace,
            needs: Needs::default(),
        });
        if let Some(kept) = errand.kept {
            new.result_ttl = kept.clamp(KEPT_MIN, new.result_ttl);
        }
        Ok(new)
    }
}

/// Nobody here runs such a task; the names are those of what is run.
pub(crate) fn unknown_type<'a>(names: impl Iterator<Item = &'a TaskType>) -> Failure {
    let names: Vec<&str> = names.map(TaskType::as_str).collect();
    let message = format!(
        "There is no type of task of that name; there are `{}`.",
        names.join("`, `")
    );
    Failure::new(Code::UnknownTaskType, message).hint("Use one of these as `type`.")
}

impl DoLater for Submitter {
    fn submit<'a>(&'a self, errand: Errand<'a>) -> BoxFuture<'a, Result<TaskId, Failure>> {
        Box::pin(async move {
            let new = self.task(errand)?;
            Ok(self.queue.submit(new).await?.id)
        })
    }

    fn works(&self) -> bool {
        self.config.load().workers > 0
    }
}
