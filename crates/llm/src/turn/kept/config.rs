//! The section `responses:`.

use forebay_store::responses::OWNER_RESPONSES_MAX;
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which answers of `/v1/responses` are kept, so that whoever asked for them can read them again and go on with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResponsesConfig {
    /// Whether any is kept. Where not, a request that insists on it (`"store": true`) is refused, and what was kept
    /// before is there until it expires.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub keep: bool,
    /// For how many days.
    #[schemars(range(min = 1, max = 3650), extend("x-forebay-reload" = "live"))]
    pub days: u16,
    /// Most that one owner has of them. The oldest make room.
    #[schemars(range(min = 1, max = 100_000), extend("x-forebay-reload" = "live"))]
    pub max_per_owner: u32,
}

impl ResponsesConfig {
    pub(super) fn kept_for(&self) -> SignedDuration {
        SignedDuration::from_hours(i64::from(self.days) * 24)
    }
}

impl Default for ResponsesConfig {
    fn default() -> Self {
        Self {
            keep: true,
            days: 30,
            max_per_owner: OWNER_RESPONSES_MAX,
        }
    }
}
