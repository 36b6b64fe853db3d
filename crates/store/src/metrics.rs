//! The store's own metric families.

use forebay_domain::event::Class;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

/// Cheap to clone; all clones count the same things.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) commit_seconds: Histogram,
    pub(crate) group_size: Histogram,
    pub(crate) events_dropped: Counter,
    pub(crate) responses_evicted: Counter,
    events_written: Family<ClassLabel, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClassLabel {
    class: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            commit_seconds: Histogram::new([
                0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0,
            ]),
            group_size: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]),
            events_dropped: Counter::default(),
            responses_evicted: Counter::default(),
            events_written: Family::default(),
        }
    }

    /// Shows them in `registry`, where they begin at what was counted so far.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "forebay_store_commit_seconds",
            "Time that the database took to commit one transaction",
            self.commit_seconds.clone(),
        );
        registry.register(
            "forebay_store_group_size",
            "Units of writing that shared one commit",
            self.group_size.clone(),
        );
        registry.register(
            "forebay_events_dropped",
            "Activity events lost because they came faster than the database took them, or because its disk was full",
            self.events_dropped.clone(),
        );
        registry.register(
            "forebay_responses_evicted",
            "Responses that made room for newer ones of their owner before their time",
            self.responses_evicted.clone(),
        );
        registry.register(
            "forebay_events_written",
            "Events committed to the log",
            self.events_written.clone(),
        );
    }

    pub(crate) fn written(&self, class: Class, rows: usize) {
        let class = class_name(class);
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        self.events_written.get_or_create(&ClassLabel { class }).inc_by(rows);
    }
}

/// The class as the database and the metrics spell it.
pub(crate) fn class_name(class: Class) -> &'static str {
    match class {
        Class::Activity => "activity",
        Class::Audit => "audit",
    }
}
