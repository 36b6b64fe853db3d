//! How long something is kept, as people write it.

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};

/// A time such as `90s`, `5m` or `1h`; more than nothing, and at most a week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Ttl(pub Duration);

const TTL_MAX: Duration = Duration::from_hours(7 * 24);

/// Why a text is no [`Ttl`].
#[derive(Debug)]
pub struct TtlFault(String);

impl fmt::Display for TtlFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no time such as `5m` or `1h`, of at most seven days", self.0)
    }
}

impl TryFrom<String> for Ttl {
    type Error = TtlFault;

    fn try_from(text: String) -> Result<Self, TtlFault> {
        let parsed: Option<SignedDuration> = text.trim().parse().ok();
        let time = parsed.and_then(|time| Duration::try_from(time).ok());
        match time.filter(|time| !time.is_zero() && *time <= TTL_MAX) {
            Some(time) => Ok(Self(time)),
            None => Err(TtlFault(text)),
        }
    }
}

impl From<Ttl> for String {
    fn from(ttl: Ttl) -> Self {
        format!("{:#}", SignedDuration::try_from(ttl.0).expect("at most a week"))
    }
}
