//! The section `responses:`.

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
}

impl Default for ResponsesConfig {
    fn default() -> Self {
        Self { keep: true, days: 30 }
    }
}
