//! A length of time as a configuration writes it.

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{borrow::Cow, fmt, time::Duration};

/// `30s`, `1m`, `1h 30m`, or a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// Nothing that a tool is configured with lasts longer.
const SPAN_MAX: Duration = Duration::from_hours(24);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SignedDuration::try_from(self.0) {
            Ok(span) => write!(f, "{span:#}"),
            Err(_) => write!(f, "{}s", self.0.as_secs()),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Seconds(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || D::Error::custom("a time is written as `30s`, `1m` or a number of seconds, and is at most 24h");
        let span = match Written::deserialize(deserializer).map_err(|_| wrong())? {
            Written::Seconds(seconds) => Duration::from_secs(seconds),
            Written::Text(text) => {
                let span: SignedDuration = text.parse().map_err(|_| wrong())?;
                span.try_into().map_err(|_| wrong())?
            }
        };
        if span.is_zero() || span > SPAN_MAX {
            return Err(wrong());
        }
        Ok(Self(span))
    }
}

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "integer"], "examples": ["30s", "1m", 60]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_read_as_people_write_them() {
        let read = |value| serde_json::from_value::<Span>(value).map(|span| span.0.as_millis());
        for (value, millis) in [
            (json!("1m"), 60_000),
            (json!("30s"), 30_000),
            (json!("250ms"), 250),
            (json!("1h 30m"), 5_400_000),
            (json!(45), 45_000),
        ] {
            assert_eq!(read(value.clone()).unwrap(), millis, "{value}");
        }
        for wrong in [
            json!("soon"),
            json!(0),
            json!("-1m"),
            json!("25h"),
            json!(1.5),
            json!(""),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
        let written = serde_json::to_value(Span(Duration::from_secs(90))).unwrap();
        assert_eq!(read(written).unwrap(), 90_000);
    }
}
