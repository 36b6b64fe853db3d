//! The gateway's registry, and the metrics of its HTTP edge.

use forebay_domain::event::Surface;
use forebay_runtime::{Clock, metrics as runtime_metrics};
use http::StatusCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use std::time::Duration;

/// Labels are bounded: surfaces and statuses are few, and a route is a row of the table or `(unknown)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    surface: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SurfaceLabels {
    surface: &'static str,
}

/// Everything that `/metrics` tells.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<SurfaceLabels, Histogram, fn() -> Histogram>,
}

impl Metrics {
    pub fn new(clock: &Clock) -> Self {
        let mut registry = Registry::default();
        runtime_metrics::register_process(&mut registry, clock);
        let requests = Family::<RequestLabels, Counter>::default();
        registry.register(
            "forebay_http_requests",
            "Requests answered, by surface, route and status",
            requests.clone(),
        );
        let seconds = Family::<SurfaceLabels, Histogram, fn() -> Histogram>::new_with_constructor(
            runtime_metrics::seconds_histogram,
        );
        registry.register(
            "forebay_http_request_duration_seconds",
            "Time from a request's head to its answer's head, in seconds",
            seconds.clone(),
        );
        Self {
            registry,
            requests,
            seconds,
        }
    }

    /// Where the parts of the gateway register theirs.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    pub(crate) fn request(&self, surface: Surface, route: &str, status: StatusCode, took: Duration) {
        let surface = surface.as_str();
        let labels = RequestLabels {
            surface,
            route: route.to_owned(),
            status: status.as_u16(),
        };
        self.requests.get_or_create(&labels).inc();
        self.seconds
            .get_or_create(&SurfaceLabels { surface })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn encode(&self) -> String {
        runtime_metrics::encode(&self.registry)
    }
}
