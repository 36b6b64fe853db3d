//! Metrics: encoding a registry, buckets, and what every process tells about itself.

use crate::Clock;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode as encode_text},
    metrics::{counter::ConstCounter, gauge::ConstGauge, histogram::Histogram},
    registry::Registry,
};
use std::fs;

/// What [`encode`] writes: OpenMetrics text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From 100 µs to a minute: tool calls and whole answers fit alike.
const SECONDS_BUCKETS: [f64; 18] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// A histogram of seconds.
pub fn seconds_histogram() -> Histogram {
    Histogram::new(SECONDS_BUCKETS)
}

/// All metrics of a registry as text.
pub fn encode(registry: &Registry) -> String {
    let mut text = String::new();
    encode_text(&mut text, registry).expect("writing into a string cannot fail");
    text
}

/// Registers the standard `process_*` metrics.
pub fn register_process(registry: &mut Registry, clock: &Clock) {
    registry.register_collector(Box::new(Process {
        started_s: clock.now().as_second(),
    }));
}

/// Reads `/proc/self` when asked; elsewhere than on Linux it tells only when the process started.
#[derive(Debug)]
struct Process {
    started_s: i64,
}

/// `sysconf(_SC_CLK_TCK)` is 100 on every Linux that user space sees.
const TICKS_PER_SECOND: f64 = 100.0;
const KIB: u64 = 1024;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| -> Result<(), std::fmt::Error> {
            let Some(value) = value else { return Ok(()) };
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds and bytes of one process are far below 2^52"
        )]
        let float = |value: u64| value as f64;
        gauge(
            "process_start_time_seconds",
            "Start time since the Unix epoch, in seconds",
            Some(float(self.started_s.unsigned_abs())),
        )?;
        gauge(
            "process_resident_memory_bytes",
            "Resident memory, in bytes",
            resident_bytes().map(float),
        )?;
        gauge("process_open_fds", "Open file descriptors", open_files().map(float))?;
        if let Some(seconds) = cpu_seconds() {
            let metric = ConstCounter::new(seconds);
            let help = "User and system CPU time, in seconds";
            metric.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, metric.metric_type())?)?;
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * KIB)
}

fn open_files() -> Option<u64> {
    fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64)
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the name, may hold blanks; it ends at the last parenthesis.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_tells_its_size() {
        let mut registry = Registry::default();
        register_process(&mut registry, &Clock::system());
        let text = encode(&registry);
        for name in [
            "process_start_time_seconds",
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
            "process_open_fds",
        ] {
            let line = text
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_else(|| panic!("{name} in {text}"));
            assert!(line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap() >= 0.0);
        }
    }
}
