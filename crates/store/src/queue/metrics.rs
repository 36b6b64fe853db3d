//! The queue's own metric families.

use prometheus_client::{
    metrics::{counter::Counter, histogram::Histogram},
    registry::Registry,
};

/// Cheap to clone; all clones count the same things.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    pub(super) group_size: Histogram,
    pub(super) lapsed: Counter,
    pub(super) pruned: Counter,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            group_size: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]),
            lapsed: Counter::default(),
            pruned: Counter::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "forebay_queue_group_size",
            "Changes of tasks that shared one commit",
            self.group_size.clone(),
        );
        registry.register(
            "forebay_queue_leases_lapsed",
            "Runs of tasks whose worker was not heard of again",
            self.lapsed.clone(),
        );
        registry.register(
            "forebay_queue_forgotten",
            "Tasks that had ended and were kept for as long as they had to be",
            self.pruned.clone(),
        );
    }
}
