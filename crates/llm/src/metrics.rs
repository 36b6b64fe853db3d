//! What `/metrics` tells about models, under OpenTelemetry's names in Prometheus' form.
//!
//! Labels are bounded: only configured models are named, outcomes are the codes of errors. What was refused before any
//! engine was asked is no model request and is not counted here.

use forebay_domain::event::{Outcome, Usage};
use forebay_runtime::metrics::seconds_histogram;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;

/// The buckets that OpenTelemetry's conventions recommend, as far as context windows reach.
const TOKEN_BUCKETS: [f64; 11] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    model: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByModel {
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTokenType {
    model: String,
    token_type: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The families of this crate.
#[derive(Debug, Clone)]
pub struct Metrics {
    durations: Histograms<ByOutcome>,
    first_tokens: Histograms<ByModel>,
    tokens: Histograms<ByTokenType>,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            durations: Family::new_with_constructor(seconds_histogram),
            first_tokens: Family::new_with_constructor(seconds_histogram),
            tokens: Family::new_with_constructor(|| Histogram::new(TOKEN_BUCKETS)),
        };
        registry.register_with_unit(
            "gen_ai_server_request_duration",
            "Time from asking an engine to the end of its answer",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register_with_unit(
            "gen_ai_server_time_to_first_token",
            "Time from asking an engine to the first event of a streamed answer",
            Unit::Seconds,
            metrics.first_tokens.clone(),
        );
        registry.register(
            "gen_ai_client_token_usage",
            "Tokens of one answer as the engine counts them; answers without its count are left out",
            metrics.tokens.clone(),
        );
        metrics
    }

    pub(crate) fn ended(&self, model: &str, outcome: Outcome, took: Duration) {
        let labels = ByOutcome {
            model: model.to_owned(),
            outcome: outcome.as_str(),
        };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(crate) fn first_token(&self, model: &str, took: Duration) {
        let labels = ByModel {
            model: model.to_owned(),
        };
        self.first_tokens.get_or_create(&labels).observe(took.as_secs_f64());
    }

    #[expect(clippy::cast_precision_loss, reason = "a histogram's sum is a float by definition")]
    pub(crate) fn used(&self, model: &str, usage: Usage) {
        if usage.estimated {
            return;
        }
        for (token_type, count) in [("input", usage.input_tokens), ("output", usage.output_tokens)] {
            let labels = ByTokenType {
                model: model.to_owned(),
                token_type,
            };
            self.tokens.get_or_create(&labels).observe(count as f64);
        }
    }
}
