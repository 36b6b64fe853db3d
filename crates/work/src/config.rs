//! The section `tasks:` of the configuration, as it is written, and what it means for one type of task.

use crate::claim;
use forebay_domain::task::{Share, TypeLimits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

/// How durable tasks are worked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TasksConfig {
    /// So many tasks run at one time in the gateway's own process; 0 leaves all of them to `forebay worker`.
    #[schemars(range(max = 1024), extend("x-forebay-reload" = "live"))]
    pub workers: u32,
    /// A worker of which nothing was heard for so many seconds has lost its tasks; others take them.
    #[schemars(range(min = 3, max = 600), extend("x-forebay-reload" = "live"))]
    pub lease_s: u64,
    /// How often a worker looks for tasks that nobody told it about, in milliseconds: those of other processes, and those
    /// whose time has come.
    #[schemars(range(min = 10, max = 60000), extend("x-forebay-reload" = "live"))]
    pub poll_ms: u64,
    /// How often a task is begun at most, where its type does not say less.
    #[schemars(range(min = 1, max = 100), extend("x-forebay-reload" = "live"))]
    pub attempts_max: NonZeroU32,
    /// How many tasks of one tenant may wait or run; what comes beyond that is refused.
    #[schemars(range(min = 1), extend("x-forebay-reload" = "live"))]
    pub queued_max: NonZeroU32,
    /// How long a task that is over is kept, with its output, in hours.
    #[schemars(range(min = 1, max = 8760), extend("x-forebay-reload" = "live"))]
    pub result_hours: NonZeroU32,
    /// What holds for one type of task, by its name.
    pub types: BTreeMap<String, TypeConfig>,
}

impl Default for TasksConfig {
    fn default() -> Self {
        Self {
            workers: 16,
            lease_s: 30,
            poll_ms: 1_000,
            attempts_max: NonZeroU32::new(8).expect("it is not zero"),
            queued_max: NonZeroU32::new(100_000).expect("it is not zero"),
            result_hours: NonZeroU32::new(24).expect("it is not zero"),
            types: BTreeMap::new(),
        }
    }
}

/// What holds for one type of task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TypeConfig {
    /// So many of them run at one time in a process. What waits for others (`tools/call`, `responses`) takes half of
    /// `tasks.workers` where nothing is written, and all types that wait leave a quarter of them to the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024), extend("x-forebay-reload" = "live"))]
    pub concurrency: Option<NonZeroU32>,
    /// How long one may run, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400), extend("x-forebay-reload" = "live"))]
    pub timeout_s: Option<NonZeroU64>,
    /// How often one is begun at most. A type that must not be done twice keeps to once, whatever stands here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100), extend("x-forebay-reload" = "live"))]
    pub attempts_max: Option<NonZeroU32>,
}

impl TasksConfig {
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_s)
    }

    pub fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }

    /// How long a task that is over is kept.
    pub fn result_ttl(&self) -> Duration {
        Duration::from_hours(self.result_hours.get().into())
    }

    /// How many of a type run at one time, of which it says this itself. What is written counts before its share of the
    /// workers, but for the places that are kept free of all that wait.
    pub(crate) fn concurrency(&self, task_type: &str, own: u32, share: Share) -> u32 {
        let written = self.types.get(task_type).and_then(|written| written.concurrency);
        written.map_or_else(|| own.min(claim::places(share, self.workers)), NonZeroU32::get)
    }

    /// What holds for a type that says this of itself. Attempts only ever become fewer: a type knows how often it may be
    /// done, the configuration how often that is worth it.
    pub fn limits(&self, task_type: &str, own: TypeLimits) -> TypeLimits {
        let written = self.types.get(task_type);
        let attempts = written
            .and_then(|written| written.attempts_max)
            .unwrap_or(self.attempts_max);
        let mut limits = own;
        limits.retry.attempts_max = limits.retry.attempts_max.min(attempts.get());
        if let Some(concurrency) = written.and_then(|written| written.concurrency) {
            limits.concurrency = concurrency.get();
        }
        if let Some(timeout_s) = written.and_then(|written| written.timeout_s) {
            limits.timeout = Duration::from_secs(timeout_s.get());
        }
        limits
    }
}
