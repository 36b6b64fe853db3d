//! The section `telemetry` of the configuration.

use crate::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};
use tracing_subscriber::EnvFilter;
use url::Url;

/// What the process tells about its own work: logs on stderr, and spans for a collector.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "TelemetryConfig")]
pub struct Config {
    /// The log, which goes to stderr.
    pub log: LogConfig,
    /// Where OpenTelemetry spans go. Without it none are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<OtlpConfig>,
}

/// The log, which goes to stderr.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// What is logged: a level (`off`, `error`, `warn`, `info`, `debug`, `trace`), or levels by module:
    /// `info,forebay_llm=debug`. Libraries never log below `info`, since they might show headers or bodies there.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub filter: Filter,
    /// Lines for people, or one JSON object a line for machines.
    #[schemars(extend("x-forebay-reload" = "restart"))]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// An OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtlpConfig {
    /// Base address of a collector that takes OTLP over HTTP (protobuf), such as `http://127.0.0.1:4318`. Spans go to
    /// its path `/v1/traces`.
    #[schemars(extend("x-forebay-reload" = "restart"))]
    pub endpoint: Url,
    /// Headers for the collector, by reference: `{ authorization: { env: OTLP_TOKEN } }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("x-forebay-reload" = "restart"))]
    pub headers: BTreeMap<String, SecretRef>,
    /// The part of all traces that is sent, from 0 to 1. A caller's own decision, in `traceparent`, comes first.
    #[serde(default)]
    #[schemars(extend("x-forebay-reload" = "restart"))]
    pub sample_ratio: SampleRatio,
}

/// What is logged; valid by construction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Filter(String);

/// Why a text is no log filter.
#[derive(Debug, thiserror::Error)]
pub enum FilterFault {
    #[error("`{0}` is not a log level; use off, error, warn, info, debug or trace, or `module=level`")]
    NoLevel(String),
    #[error("the log filter cannot be read: {0}")]
    Unreadable(#[from] tracing_subscriber::filter::ParseError),
}

impl Filter {
    pub(super) fn directives(&self) -> EnvFilter {
        EnvFilter::try_new(&self.0).expect("it was read when the filter was made")
    }
}

impl TryFrom<String> for Filter {
    type Error = FilterFault;

    /// The library takes a lone word that is no level for a module's name, so that a mistyped level silences the rest.
    fn try_from(text: String) -> Result<Self, FilterFault> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let directives: Vec<&str> = text.split(',').map(str::trim).collect();
        for directive in &directives {
            let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(directive));
            if !is_level && !directive.contains(['=', '[']) {
                return Err(FilterFault::NoLevel((*directive).to_owned()));
            }
        }
        let text = directives.join(",");
        EnvFilter::try_new(&text)?;
        Ok(Self(text))
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> Self {
        filter.0
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "f64", into = "f64")]
pub struct SampleRatio(#[schemars(range(min = 0.0, max = 1.0))] f64);

#[derive(Debug, thiserror::Error)]
#[error("a sample ratio is a number from 0 to 1, not {0}")]
pub struct RatioFault(f64);

impl SampleRatio {
    pub(super) fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for SampleRatio {
    type Error = RatioFault;

    fn try_from(ratio: f64) -> Result<Self, RatioFault> {
        if (0.0..=1.0).contains(&ratio) {
            Ok(Self(ratio))
        } else {
            Err(RatioFault(ratio))
        }
    }
}

impl From<SampleRatio> for f64 {
    fn from(ratio: SampleRatio) -> Self {
        ratio.0
    }
}

impl Default for SampleRatio {
    fn default() -> Self {
        Self(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn all_of_it_is_optional() {
        let config: Config = serde_json::from_value(json!({})).unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.log.filter.to_string(), "info");
        let otlp = json!({"otlp": {"endpoint": "http://127.0.0.1:4318"}});
        let config: Config = serde_json::from_value(otlp).unwrap();
        assert!((config.otlp.unwrap().sample_ratio.get() - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn what_means_nothing_is_refused_with_a_reason() {
        for (config, reason) in [
            (json!({"logs": {}}), "unknown field `logs`"),
            (json!({"log": {"level": "info"}}), "unknown field `level`"),
            (json!({"log": {"filter": "infoo"}}), "`infoo` is not a log level"),
            (json!({"log": {"filter": ""}}), "`` is not a log level"),
            (
                json!({"log": {"filter": "info,forebay=loud"}}),
                "the log filter cannot be read",
            ),
            (json!({"log": {"format": "xml"}}), "unknown variant `xml`"),
            (json!({"otlp": {}}), "missing field `endpoint`"),
            (
                json!({"otlp": {"endpoint": "localhost"}}),
                "relative URL without a base",
            ),
            (
                json!({"otlp": {"endpoint": "http://a", "sample_ratio": 1.5}}),
                "from 0 to 1, not 1.5",
            ),
            (
                json!({"otlp": {"endpoint": "http://a", "headers": {"a": "secret"}}}),
                "unknown variant `secret`",
            ),
        ] {
            let fault = serde_json::from_value::<Config>(config.clone()).expect_err(reason);
            assert!(fault.to_string().contains(reason), "{config}: {fault}");
        }
        for good in [
            "off",
            "INFO",
            "info,forebay_llm=debug",
            "warn, forebay=trace",
            "info,[request]=debug",
        ] {
            assert!(Filter::try_from(good.to_owned()).is_ok(), "{good}");
        }
    }

    #[test]
    fn every_field_is_described_and_marked_live_or_restart() {
        let schema = schemars::schema_for!(Config).to_value();
        let sections = [
            "/properties",
            "/$defs/LogConfig/properties",
            "/$defs/OtlpConfig/properties",
        ];
        let mut marked = 0;
        for section in sections {
            for (name, field) in schema.pointer(section).and_then(Value::as_object).expect(section) {
                assert!(field["description"].is_string(), "{section}/{name}");
                match field["x-forebay-reload"].as_str() {
                    Some("live" | "restart") => marked += 1,
                    Some(other) => panic!("{section}/{name}: {other}"),
                    None => assert_eq!(section, "/properties", "{name}"),
                }
            }
        }
        assert_eq!(marked, 5);
    }
}
