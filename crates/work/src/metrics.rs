//! What `/metrics` tells about tasks: how long they waited and ran, how they ended, and what waits now.
//!
//! Labels are bounded: priorities, states, and the types that this process can run.

use forebay_domain::model::Priority;
use forebay_runtime::metrics::seconds_histogram;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{sync::atomic::AtomicU64, time::Duration};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByType {
    r#type: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    r#type: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPriority {
    priority: &'static str,
}

type Seconds = Gauge<f64, AtomicU64>;
type Histograms<Labels> = Family<Labels, Histogram, fn() -> Histogram>;

/// How one run of a task ended here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunEnd {
    Completed,
    Failed,
    /// It failed, and is tried again.
    Again,
    Cancelled,
    /// It was given back when the process ended.
    GivenBack,
    /// Its lease went to somebody else.
    Lost,
}

impl RunEnd {
    fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Again => "retried",
            Self::Cancelled => "cancelled",
            Self::GivenBack => "given_back",
            Self::Lost => "lost",
        }
    }
}

/// The families of this crate. Cheap to clone; all clones are the same figures.
#[derive(Debug, Clone)]
pub struct Metrics {
    runs: Family<ByOutcome, Counter>,
    processing: Histograms<ByType>,
    response: Histograms<ByType>,
    wait: Histograms<ByPriority>,
    running: Family<ByType, Gauge>,
    depth: Family<ByPriority, Gauge>,
    oldest: Family<ByPriority, Seconds>,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            runs: Family::default(),
            processing: Family::new_with_constructor(seconds_histogram),
            response: Family::new_with_constructor(seconds_histogram),
            wait: Family::new_with_constructor(seconds_histogram),
            running: Family::default(),
            depth: Family::default(),
            oldest: Family::default(),
        };
        metrics.show(registry);
        metrics
    }

    fn show(&self, registry: &mut Registry) {
        registry.register(
            "forebay_task_runs",
            "Runs of tasks in this process, by how they ended",
            self.runs.clone(),
        );
        registry.register_with_unit(
            "forebay_task_processing",
            "Time that one run of a task took",
            Unit::Seconds,
            self.processing.clone(),
        );
        registry.register_with_unit(
            "forebay_task_response",
            "Time from a task's coming in, or its own time where that is later, to its end",
            Unit::Seconds,
            self.response.clone(),
        );
        registry.register_with_unit(
            "forebay_task_wait",
            "Time that a task was ready to run before this process began it",
            Unit::Seconds,
            self.wait.clone(),
        );
        registry.register(
            "forebay_tasks_running",
            "Tasks that run in this process now",
            self.running.clone(),
        );
        registry.register(
            "forebay_task_queue_depth",
            "Tasks that wait, of all tenants",
            self.depth.clone(),
        );
        registry.register_with_unit(
            "forebay_task_queue_oldest_age",
            "How long the task has waited that has waited longest",
            Unit::Seconds,
            self.oldest.clone(),
        );
    }

    pub(crate) fn began(&self, task_type: &str, priority: Priority, waited: Duration) {
        let labels = ByPriority {
            priority: priority.as_str(),
        };
        self.wait.get_or_create(&labels).observe(waited.as_secs_f64());
        self.running.get_or_create(&by(task_type)).inc();
    }

    pub(crate) fn ended(&self, task_type: &str, end: RunEnd, took: Duration) {
        let labels = ByOutcome {
            r#type: task_type.to_owned(),
            outcome: end.as_str(),
        };
        self.runs.get_or_create(&labels).inc();
        self.processing
            .get_or_create(&by(task_type))
            .observe(took.as_secs_f64());
        self.running.get_or_create(&by(task_type)).dec();
    }

    pub(crate) fn answered(&self, task_type: &str, took: Duration) {
        self.response.get_or_create(&by(task_type)).observe(took.as_secs_f64());
    }

    /// What waits now.
    pub(crate) fn waiting(&self, priority: Priority, tasks: u32, oldest: Duration) {
        let labels = ByPriority {
            priority: priority.as_str(),
        };
        // Whoever reads in between sees an age too many rather than tasks without one.
        self.oldest.get_or_create(&labels).set(oldest.as_secs_f64());
        self.depth.get_or_create(&labels).set(tasks.into());
    }
}

fn by(task_type: &str) -> ByType {
    ByType {
        r#type: task_type.to_owned(),
    }
}
