//! What `/metrics` tells about models, under OpenTelemetry's names in Prometheus' form.
//!
//! Labels are bounded: only configured models are named, outcomes are the codes of errors. What was refused before any
//! engine was asked is no model request and is not counted here.

use crate::{
    routing::{self, BackendStatus, Depth},
    settings::Settings,
};
use arc_swap::ArcSwap;
use forebay_domain::event::{Outcome, Usage};
use forebay_runtime::{Clock, metrics::seconds_histogram};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, family::Family, gauge::ConstGauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

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

/// Labels of the conventions are OpenTelemetry's attributes; `outcome` is ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    gen_ai_request_model: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRequested {
    gen_ai_request_model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTokenType {
    gen_ai_request_model: String,
    gen_ai_token_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByModel {
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByBackend {
    model: String,
    backend: usize,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The families of this crate.
#[derive(Debug, Clone)]
pub struct Metrics {
    durations: Histograms<ByOutcome>,
    first_tokens: Histograms<ByRequested>,
    tokens: Histograms<ByTokenType>,
    shown: Arc<OnceLock<Shown>>,
}

/// Whose backends are told about.
#[derive(Debug)]
struct Shown {
    settings: Arc<ArcSwap<Settings>>,
    clock: Clock,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            durations: Family::new_with_constructor(seconds_histogram),
            first_tokens: Family::new_with_constructor(seconds_histogram),
            tokens: Family::new_with_constructor(|| Histogram::new(TOKEN_BUCKETS)),
            shown: Arc::default(),
        };
        registry.register_collector(Box::new(Backends(metrics.shown.clone())));
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

    /// The backends to tell about. They are looked at when somebody reads the metrics, so that a request pays nothing
    /// and a backend that is configured no more is told of no more.
    pub(crate) fn show(&self, settings: &Arc<ArcSwap<Settings>>, clock: &Clock) {
        let shown = Shown {
            settings: settings.clone(),
            clock: clock.clone(),
        };
        // A second router on the same metrics would be a second gateway in one process: the first is told about.
        let _ = self.shown.set(shown);
    }

    pub(crate) fn ended(&self, model: &str, outcome: Outcome, took: Duration) {
        let labels = ByOutcome {
            gen_ai_request_model: model.to_owned(),
            outcome: outcome.as_str(),
        };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(crate) fn first_token(&self, model: &str, took: Duration) {
        let labels = ByRequested {
            gen_ai_request_model: model.to_owned(),
        };
        self.first_tokens.get_or_create(&labels).observe(took.as_secs_f64());
    }

    #[expect(clippy::cast_precision_loss, reason = "a histogram's sum is a float by definition")]
    pub(crate) fn used(&self, model: &str, usage: Usage) {
        if usage.estimated {
            return;
        }
        for (gen_ai_token_type, count) in [("input", usage.input_tokens), ("output", usage.output_tokens)] {
            let labels = ByTokenType {
                gen_ai_request_model: model.to_owned(),
                gen_ai_token_type,
            };
            self.tokens.get_or_create(&labels).observe(count as f64);
        }
    }
}

/// What the backends are like at the moment of the reading.
#[derive(Debug)]
struct Backends(Arc<OnceLock<Shown>>);

impl Collector for Backends {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(Shown { settings, clock }) = self.0.get() else {
            return Ok(());
        };
        let settings = settings.load();
        let backends = routing::statuses(&settings, clock);
        let out = &mut encoder;
        let each = |value: fn(&BackendStatus) -> u64| -> Vec<(ByBackend, u64)> {
            let labelled = backends.iter().map(|backend| (ByBackend::of(backend), value(backend)));
            labelled.collect()
        };
        let help = "Whether a backend is fit to be asked";
        gauges(out, "forebay_backend_up", help, each(|backend| backend.is_up.into()))?;
        let help = "Requests under way at a backend";
        let in_flight = each(|backend| backend.in_flight.into());
        gauges(out, "forebay_backend_requests_in_flight", help, in_flight)?;
        let help = "How often a backend was put out of use";
        counters(
            out,
            "forebay_backend_ejections",
            help,
            each(|backend| backend.ejections),
        )?;
        let help = "Requests that failed at a backend and were sent to another one";
        counters(out, "forebay_backend_retries", help, each(|backend| backend.retries))?;
        let queues = |value: fn(&Depth) -> u64| -> Vec<(ByModel, u64)> {
            let depths = settings.models.values().map(|model| {
                let labels = ByModel {
                    model: model.name.clone(),
                };
                (labels, value(&model.live_side().gate.depth()))
            });
            depths.collect()
        };
        let help = "Requests that wait for a backend";
        gauges(
            out,
            "forebay_model_queue_depth",
            help,
            queues(|depth| depth.waiting as u64),
        )?;
        let help = "Requests that were refused because the queue was full";
        counters(out, "forebay_model_queue_refusals", help, queues(|depth| depth.refused))
    }
}

impl ByBackend {
    fn of(backend: &BackendStatus) -> Self {
        Self {
            model: backend.model.clone(),
            backend: backend.backend,
        }
    }
}

fn gauges<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: Vec<(L, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn counters<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: Vec<(L, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
