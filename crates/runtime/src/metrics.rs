//! What all metrics share: the text form, the buckets, and what the process tells about itself.
//!
//! Who counts something registers it; nothing here knows what is counted.

use crate::Clock;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{counter::ConstCounter, gauge::ConstGauge, histogram::Histogram},
    registry::Registry,
};
use rustix::{
    param::page_size,
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};
use std::fmt::{self, Write};
use tracing::error;

/// The media type of what [`encode`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Buckets for durations in seconds: from half a millisecond (an added hop) to five minutes (a long generation).
pub const SECONDS_BUCKETS: [f64; 18] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
];

/// A histogram of durations in seconds.
pub fn seconds_histogram() -> Histogram {
    Histogram::new(SECONDS_BUCKETS)
}

/// Everything in the registry, in Prometheus' text form.
pub fn encode(registry: &Registry) -> String {
    let mut open_metrics = String::new();
    if let Err(fault) = text::encode_registry(&mut open_metrics, registry) {
        error!(error = %fault, "a collector failed: the metrics are not complete");
    }
    let mut prometheus = String::with_capacity(open_metrics.len() + 1024);
    write_prometheus_form(&open_metrics, &mut prometheus).expect("a string takes whatever is written");
    prometheus
}

/// The library writes OpenMetrics, where the family of a counter lacks the `_total` that its samples have. Prometheus'
/// own form names the family as its samples, and linters insist on it. It knows no units either.
fn write_prometheus_form(open_metrics: &str, out: &mut String) -> fmt::Result {
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("# UNIT ") {
            continue;
        }
        if let Some((name, help)) = family(line, "# HELP ") {
            let kind = lines.peek().and_then(|next| family(next, "# TYPE "));
            let suffix = suffix(kind.map_or("", |(_, kind)| kind));
            writeln!(out, "# HELP {name}{suffix} {help}")?;
        } else if let Some((name, kind)) = family(line, "# TYPE ") {
            writeln!(out, "# TYPE {name}{} {kind}", suffix(kind))?;
        } else {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

/// The name in a line about a family, and what the line says of it.
fn family<'a>(line: &'a str, about: &str) -> Option<(&'a str, &'a str)> {
    line.strip_prefix(about)?.split_once(' ')
}

fn suffix(kind: &str) -> &'static str {
    if kind == "counter" { "_total" } else { "" }
}

/// Registers the standard `process_*` metrics. What the machine does not tell is left out.
pub fn register_process(registry: &mut Registry, clock: &Clock) {
    let started_at = clock.now().as_duration().as_secs_f64();
    registry.register_collector(Box::new(Process { started_at }));
}

#[derive(Debug)]
struct Process {
    /// Seconds since the epoch at which the metrics were made, which is among the first things that a process does.
    started_at: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let out = &mut encoder;
        let cpu = ConstCounter::new(cpu_seconds());
        let help = "Processor time used, user and system, in seconds";
        cpu.encode(out.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?)?;
        let help = "When the process started, in seconds since the epoch";
        gauge(out, "process_start_time_seconds", help, self.started_at)?;
        if let Some((virtual_bytes, resident_bytes)) = memory_bytes() {
            gauge(
                out,
                "process_virtual_memory_bytes",
                "Virtual memory, in bytes",
                virtual_bytes,
            )?;
            gauge(
                out,
                "process_resident_memory_bytes",
                "Resident memory, in bytes",
                resident_bytes,
            )?;
        }
        if let Some(open) = open_files() {
            gauge(out, "process_open_fds", "Open file descriptors", open)?;
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            gauge(
                out,
                "process_max_fds",
                "Most file descriptors that may be open",
                float(most),
            )?;
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: f64) -> fmt::Result {
    let metric = ConstGauge::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    float(used.tv_sec.unsigned_abs()) + float(used.tv_nsec.unsigned_abs()) / 1e9
}

/// Virtual and resident memory, from the first two numbers of `/proc/self/statm`, which counts pages.
fn memory_bytes() -> Option<(f64, f64)> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = statm.split_ascii_whitespace().map(str::parse::<u64>);
    let page_bytes = u64::try_from(page_size()).ok()?;
    let virtual_bytes = pages.next()?.ok()?.saturating_mul(page_bytes);
    let resident_bytes = pages.next()?.ok()?.saturating_mul(page_bytes);
    Some((float(virtual_bytes), float(resident_bytes)))
}

/// One of the entries is the directory that is being read.
fn open_files() -> Option<f64> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?.count();
    let entries = u64::try_from(entries).ok()?;
    Some(float(entries.saturating_sub(1)))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "samples are floats; nobody can see what is lost above 2^53"
)]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use prometheus_client::{
        metrics::{counter::Counter, family::Family, gauge::Gauge},
        registry::Unit,
    };

    #[test]
    fn counters_are_named_as_their_samples_and_units_are_left_out() {
        let mut registry = Registry::default();
        let calls = Family::<[(&str, &str); 1], Counter>::default();
        calls.get_or_create(&[("tool", "a \"b\"\n# TYPE x counter")]).inc();
        registry.register("calls", "Calls made", calls);
        registry.register_with_unit("size", "Size", Unit::Bytes, Gauge::<i64>::default());
        let seconds = seconds_histogram();
        seconds.observe(0.002);
        registry.register("wait_seconds", "Waiting", seconds);

        let text = encode(&registry);
        let head: Vec<_> = text.lines().take(6).collect();
        let expected = [
            "# HELP calls_total Calls made.",
            "# TYPE calls_total counter",
            r#"calls_total{tool="a \"b\"\n# TYPE x counter"} 1"#,
            "# HELP size_bytes Size.",
            "# TYPE size_bytes gauge",
            "size_bytes 0",
        ];
        assert_eq!(head, expected);
        assert!(text.contains("# TYPE wait_seconds histogram\n"), "{text}");
        assert!(text.contains("wait_seconds_bucket{le=\"0.0025\"} 1\n"), "{text}");
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    }

    #[test]
    fn the_process_tells_about_itself() {
        let mut registry = Registry::default();
        let start = Timestamp::from_second(1_700_000_000).unwrap();
        register_process(&mut registry, &Clock::manual(start));
        let text = encode(&registry);
        let value = |name: &str| -> f64 {
            let start = format!("{name} ");
            let sample = text.lines().find_map(|line| line.strip_prefix(&start));
            sample.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
        };
        assert!((value("process_start_time_seconds") - 1_700_000_000.0).abs() < 0.001);
        assert!(value("process_cpu_seconds_total") > 0.0);
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
    }

    #[test]
    fn buckets_rise() {
        assert!(SECONDS_BUCKETS.is_sorted());
    }
}
