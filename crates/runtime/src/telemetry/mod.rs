//! What the process tells about its own work: a log on stderr, and spans for an OpenTelemetry collector.
//!
//! **What it refuses to tell.** Headers, bodies, prompts, arguments, results and secrets are no fields of any span or
//! event of ours. Libraries show some of them at `debug` and `trace`, and so whatever the filter says, nothing below
//! `info` that is not ours reaches the log; the collector gets nothing but our own spans, without their events.
//! Nothing ever goes to stdout: that belongs to the data.

pub mod config;
mod export;
mod fields;
pub mod names;
mod trace;

pub use config::{Config, Filter, Format};
pub use trace::{TRACEPARENT, TraceContext};

use crate::secret::SecretReader;
use fields::InTime;
use forebay_domain::{Code, Failure};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::{
    io::{self, IsTerminal},
    time::Duration,
};
use tracing::{Dispatch, Level, Metadata, Subscriber, dispatcher, warn};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, filter_fn},
    fmt::{MakeWriter, format::DefaultFields},
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
};

/// How long the last batch of spans may take.
const FLUSH_MAX: Duration = Duration::from_secs(5);
/// All our crates, and nobody else's, have targets that begin so.
const OURS: &str = "forebay";

/// Telemetry at work. Shut it down last, so that the last spans are sent.
pub struct Telemetry {
    filter: reload::Handle<EnvFilter, Registry>,
    spans: Option<SdkTracerProvider>,
}

/// Starts telemetry for the whole process: once, and inside the runtime.
pub fn init(config: &Config, secrets: &SecretReader) -> Result<Telemetry, Failure> {
    let colour = if io::stderr().is_terminal() {
        Colour::Yes
    } else {
        Colour::No
    };
    let (dispatch, telemetry) = build(config, secrets, io::stderr, colour)?;
    dispatcher::set_global_default(dispatch)
        .map_err(|error| Failure::new(Code::InternalError, "telemetry was started twice").caused_by(error))?;
    Ok(telemetry)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Yes,
    No,
}

/// The same for somebody who wants to see the log: nothing global is touched.
pub fn build<W>(
    config: &Config,
    secrets: &SecretReader,
    log: W,
    colour: Colour,
) -> Result<(Dispatch, Telemetry), Failure>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let spans = match &config.otlp {
        Some(otlp) => Some(export::provider(otlp, secrets)?),
        None => None,
    };
    let (filter, handle) = reload::Layer::new(config.log.filter.directives());
    let log = log_layer(config.log.format, log, colour).with_filter(filter.and(filter_fn(is_safe_to_log)));
    let export = spans.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("forebay"))
            .with_location(false)
            .with_threads(false)
            .with_level(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(is_our_span))
    });
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(log).with(export));
    Ok((dispatch, Telemetry { filter: handle, spans }))
}

impl Telemetry {
    /// Puts another log filter in force at once.
    pub fn set_filter(&self, filter: &Filter) -> Result<(), Failure> {
        self.filter
            .reload(filter.directives())
            .map_err(|error| Failure::new(Code::InternalError, "the log filter cannot be changed").caused_by(error))
    }

    /// Sends the spans that wait, for at most five seconds; later ones are dropped.
    pub async fn shut_down(self) {
        let Some(spans) = self.spans else {
            return;
        };
        // Shutting down blocks its thread until the exporting task, which needs one too, has answered.
        let flush = tokio::task::spawn_blocking(move || spans.shutdown_with_timeout(FLUSH_MAX));
        match tokio::time::timeout(FLUSH_MAX, flush).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => warn!(%error, "the last spans were not sent"),
            Ok(Err(_)) | Err(_) => warn!("the last spans were not sent in time"),
        }
    }
}

fn log_layer<S, W>(format: Format, log: W, colour: Colour) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(log)
        .with_ansi(colour == Colour::Yes);
    match format {
        Format::Text => layer.fmt_fields(InTime(DefaultFields::new())).boxed(),
        Format::Json => layer.json().flatten_event(true).with_span_list(false).boxed(),
    }
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with(OURS)
}

fn is_safe_to_log(metadata: &Metadata<'_>) -> bool {
    is_ours(metadata) || *metadata.level() <= Level::INFO
}

fn is_our_span(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && is_ours(metadata) && *metadata.level() <= Level::INFO
}
