//! What `/metrics` tells about contexts: how many there are, what becomes of them, and how long a prompt takes.

use forebay_runtime::metrics::seconds_histogram;
use forebay_store::conversations::ConversationTally;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByChange {
    change: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

/// What becomes of contexts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Created,
    Deleted,
    Expired,
    /// It made room for another.
    Evicted,
    /// There was no room for it.
    Refused,
}

impl Change {
    const ALL: [Self; 5] = [
        Self::Created,
        Self::Deleted,
        Self::Expired,
        Self::Evicted,
        Self::Refused,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Deleted => "deleted",
            Self::Expired => "expired",
            Self::Evicted => "evicted",
            Self::Refused => "refused",
        }
    }
}

/// The families of contexts.
#[derive(Debug, Clone)]
pub struct ContextsMetrics {
    contexts: Gauge,
    nodes: Gauge,
    bytes: Gauge,
    changes: Family<ByChange, Counter>,
    prompts: Family<ByOutcome, Counter>,
    seconds: Histogram,
    left_out: Counter,
}

impl ContextsMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            contexts: Gauge::default(),
            nodes: Gauge::default(),
            bytes: Gauge::default(),
            changes: Family::default(),
            prompts: Family::default(),
            seconds: seconds_histogram(),
            left_out: Counter::default(),
        };
        for change in Change::ALL {
            metrics.changed(change, 0);
        }
        for outcome in ["ok", "failed"] {
            metrics.prompts.get_or_create(&ByOutcome { outcome }).inc_by(0);
        }
        registry.register(
            "forebay_contexts",
            "Contexts that are kept, of all tenants, as of the last minute",
            metrics.contexts.clone(),
        );
        registry.register(
            "forebay_context_nodes",
            "Nodes of all contexts that are kept",
            metrics.nodes.clone(),
        );
        registry.register_with_unit(
            "forebay_context_content",
            "Contents and metadata of all nodes that are kept",
            Unit::Bytes,
            metrics.bytes.clone(),
        );
        registry.register(
            "forebay_context_changes",
            "Contexts that were created, deleted, expired, evicted or refused here",
            metrics.changes.clone(),
        );
        registry.register(
            "forebay_context_prompts",
            "Prompts within contexts, by how they ended",
            metrics.prompts.clone(),
        );
        registry.register_with_unit(
            "forebay_context_prompt_duration",
            "Time that a model took for a prompt within a context, whatever came of it",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register(
            "forebay_context_nodes_left_out",
            "Nodes that models did not get to read, since their contexts were longer than the budget",
            metrics.left_out.clone(),
        );
        metrics
    }

    pub(super) fn kept(&self, tally: &ConversationTally) {
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.bytes.set(gauge(tally.bytes));
        self.nodes.set(gauge(tally.nodes));
        self.contexts.set(gauge(tally.conversations));
    }

    pub(super) fn changed(&self, change: Change, count: u64) {
        let change = change.as_str();
        self.changes.get_or_create(&ByChange { change }).inc_by(count);
    }

    pub(super) fn asked(&self, took: Duration, is_answered: bool) {
        self.seconds.observe(took.as_secs_f64());
        let outcome = if is_answered { "ok" } else { "failed" };
        self.prompts.get_or_create(&ByOutcome { outcome }).inc();
    }

    pub(super) fn left_out(&self, nodes: usize) {
        self.left_out.inc_by(u64::try_from(nodes).unwrap_or(u64::MAX));
    }
}
