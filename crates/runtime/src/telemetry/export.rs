//! Spans on their way to a collector: OTLP over HTTP, in batches, never in a request's way.
//!
//! The queue is bounded; what does not fit is dropped. A collector that fails is told about once, and once more when it
//! works again. OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_RESOURCE_ATTRIBUTES`) add to what is
//! configured here.

use super::config::OtlpConfig;
use crate::{http::trusted, secret::SecretReader};
use forebay_domain::{Code, Failure};
use http::{HeaderName, HeaderValue};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    runtime,
    trace::{
        BatchConfigBuilder, Sampler, SdkTracerProvider, SpanData, SpanExporter,
        span_processor_with_async_runtime::BatchSpanProcessor,
    },
};
use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tracing::{info, warn};
use url::Url;

const QUEUE_SPANS_MAX: usize = 4_096;
const BATCH_SPANS_MAX: usize = 512;
const BATCH_EVERY: Duration = Duration::from_secs(5);
const EXPORT_MAX: Duration = Duration::from_secs(5);

/// Makes the provider; its task runs on the runtime that calls this.
///
/// The batch processor has to be the one for an async runtime: the default one exports on a thread of its own, where
/// our HTTP client finds no reactor and panics.
pub(super) fn provider(config: &OtlpConfig, secrets: &SecretReader) -> Result<SdkTracerProvider, Failure> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(trusted())
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(traces_url(&config.endpoint)?.as_str())
        .with_headers(headers(config, secrets)?)
        .build()
        .map_err(|error| refused("the exporter cannot be made").caused_by(error))?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_SPANS_MAX)
        .with_max_export_batch_size(BATCH_SPANS_MAX)
        .with_scheduled_delay(BATCH_EVERY)
        .with_max_export_timeout(EXPORT_MAX)
        .build();
    let processor = BatchSpanProcessor::builder(Telling::new(exporter), runtime::Tokio)
        .with_batch_config(batches)
        .build();
    let ratio = Sampler::TraceIdRatioBased(config.sample_ratio.get());
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_service_name("forebay").with_attribute(version);
    Ok(SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_sampler(Sampler::ParentBased(Box::new(ratio)))
        .with_resource(resource.build())
        .build())
}

fn traces_url(endpoint: &Url) -> Result<Url, Failure> {
    if !matches!(endpoint.scheme(), "http" | "https") {
        return Err(refused("`endpoint` is no http or https URL"));
    }
    if !endpoint.username().is_empty() || endpoint.password().is_some() {
        return Err(refused("`endpoint` holds credentials").hint("Put them into `headers`, by reference."));
    }
    let mut url = endpoint.clone();
    url.set_path(&format!("{}/v1/traces", endpoint.path().trim_end_matches('/')));
    Ok(url)
}

fn headers(config: &OtlpConfig, secrets: &SecretReader) -> Result<HashMap<String, String>, Failure> {
    let mut headers = HashMap::new();
    for (name, reference) in &config.headers {
        let value = secrets
            .read(reference)
            .map_err(|fault| refused(&format!("header `{name}`: {fault}")).caused_by(fault))?;
        let usable = HeaderName::try_from(name).is_ok() && HeaderValue::try_from(value.expose()).is_ok();
        if !usable {
            return Err(refused(&format!("header `{name}` is not something HTTP can carry")));
        }
        headers.insert(name.clone(), value.expose().to_owned());
    }
    Ok(headers)
}

fn refused(what: &str) -> Failure {
    Failure::new(Code::InvalidConfig, format!("telemetry.otlp: {what}"))
}

/// Says when the collector begins to fail, and when it is over: not with every batch.
#[derive(Debug)]
struct Telling {
    inner: opentelemetry_otlp::SpanExporter,
    failing: AtomicBool,
}

impl Telling {
    fn new(inner: opentelemetry_otlp::SpanExporter) -> Self {
        Self {
            inner,
            failing: AtomicBool::new(false),
        }
    }
}

impl SpanExporter for Telling {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let outcome = self.inner.export(batch).await;
        let failed_before = self.failing.swap(outcome.is_err(), Ordering::Relaxed);
        match &outcome {
            Err(error) if !failed_before => {
                warn!(%error, spans, "spans cannot be sent to the collector; they are dropped");
            }
            Ok(()) if failed_before => info!("the collector takes spans again"),
            _ => {}
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SecretRef, telemetry::config::SampleRatio};

    #[test]
    fn spans_go_below_the_base_address() {
        for (endpoint, expected) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            (
                "https://collector.example/otlp/",
                "https://collector.example/otlp/v1/traces",
            ),
        ] {
            let url = traces_url(&Url::parse(endpoint).unwrap()).unwrap();
            assert_eq!(url.as_str(), expected);
        }
        for bad in ["ftp://a/", "http://user:canary@a/"] {
            let failure = traces_url(&Url::parse(bad).unwrap()).unwrap_err();
            assert_eq!(failure.code, Code::InvalidConfig);
            assert!(!failure.chain().contains("canary"), "{}", failure.chain());
        }
    }

    #[test]
    fn headers_come_by_reference_and_a_bad_one_is_named_without_its_value() {
        let secrets = SecretReader::new(|name| match name {
            "GOOD" => Some("Bearer t".to_owned()),
            "BAD" => Some("canary\nx".to_owned()),
            _ => None,
        });
        let config = |variable: &str| OtlpConfig {
            endpoint: Url::parse("http://127.0.0.1:4318").unwrap(),
            headers: [("authorization".to_owned(), SecretRef::Env(variable.to_owned()))].into(),
            sample_ratio: SampleRatio::default(),
        };
        assert_eq!(headers(&config("GOOD"), &secrets).unwrap()["authorization"], "Bearer t");
        let failure = headers(&config("BAD"), &secrets).unwrap_err();
        assert_eq!(
            failure.message,
            "telemetry.otlp: header `authorization` is not something HTTP can carry"
        );
        let failure = headers(&config("NONE"), &secrets).unwrap_err();
        assert!(
            failure.message.ends_with("environment variable NONE is not set"),
            "{failure}"
        );
    }
}
