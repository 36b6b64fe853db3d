//! What `/metrics` tells about context: how long requests waited for it, and how its sources fare.
//!
//! Labels are bounded: providers are named by the configuration and by administrators, and one that is gone takes its
//! series with it. What was refused before any provider was asked is not counted here.

use crate::provider::Connections;
use forebay_domain::Code;
use forebay_runtime::metrics::seconds_histogram;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByProvider {
    provider: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCode {
    provider: String,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    provider: String,
    state: &'static str,
}

const STATES: [&str; 3] = ["used", "idle", "max"];

type Histograms = Family<ByProvider, Histogram, fn() -> Histogram>;

/// The families of this crate.
#[derive(Debug, Clone)]
pub struct Metrics {
    retrievals: Histograms,
    requests: Family<ByProvider, Counter>,
    hits: Family<ByProvider, Counter>,
    queries: Histograms,
    errors: Family<ByCode, Counter>,
    connections: Family<ByState, Gauge>,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            retrievals: Family::new_with_constructor(seconds_histogram),
            requests: Family::default(),
            hits: Family::default(),
            queries: Family::new_with_constructor(seconds_histogram),
            errors: Family::default(),
            connections: Family::default(),
        };
        registry.register_with_unit(
            "mcp_context_retrieval_duration",
            "Time that a request waited for one provider of context, whatever came of it",
            Unit::Seconds,
            metrics.retrievals.clone(),
        );
        registry.register(
            "mcp_context_requests",
            "Requests for context, for each provider that they asked",
            metrics.requests.clone(),
        );
        registry.register(
            "mcp_context_cache_hits",
            "Requests for context that were answered by what was kept",
            metrics.hits.clone(),
        );
        registry.register_with_unit(
            "mcp_provider_query_duration",
            "Time that the source of a provider took to answer or to fail",
            Unit::Seconds,
            metrics.queries.clone(),
        );
        registry.register(
            "mcp_provider_errors",
            "Requests that a provider could not answer, by error code",
            metrics.errors.clone(),
        );
        registry.register(
            "mcp_provider_connections",
            "Connections of a provider to its database: used, idle, and as many as there may be",
            metrics.connections.clone(),
        );
        metrics
    }

    pub(crate) fn retrieved(&self, provider: &str, took: Duration, from_cache: bool) {
        let labels = by(provider);
        self.retrievals.get_or_create(&labels).observe(took.as_secs_f64());
        self.requests.get_or_create(&labels).inc();
        // Also where there is none yet, so that a rate of hits can be told from the beginning.
        self.hits.get_or_create(&labels).inc_by(u64::from(from_cache));
    }

    pub(crate) fn queried(&self, provider: &str, took: Duration) {
        self.queries.get_or_create(&by(provider)).observe(took.as_secs_f64());
    }

    pub(crate) fn failed(&self, provider: &str, code: Code) {
        let labels = ByCode {
            provider: provider.to_owned(),
            code: code.as_str(),
        };
        self.errors.get_or_create(&labels).inc();
    }

    pub(crate) fn connections(&self, provider: &str, connections: Connections) {
        let counts = [connections.used, connections.idle, connections.max];
        for (state, count) in STATES.into_iter().zip(counts) {
            self.connections
                .get_or_create(&by_state(provider, state))
                .set(count.into());
        }
    }

    pub(crate) fn forget(&self, provider: &str) {
        let labels = by(provider);
        self.retrievals.remove(&labels);
        self.requests.remove(&labels);
        self.hits.remove(&labels);
        self.queries.remove(&labels);
        for state in STATES {
            self.connections.remove(&by_state(provider, state));
        }
        for code in Code::ALL {
            self.errors.remove(&ByCode {
                provider: provider.to_owned(),
                code: code.as_str(),
            });
        }
    }
}

fn by(provider: &str) -> ByProvider {
    ByProvider {
        provider: provider.to_owned(),
    }
}

fn by_state(provider: &str, state: &'static str) -> ByState {
    ByState {
        provider: provider.to_owned(),
        state,
    }
}
