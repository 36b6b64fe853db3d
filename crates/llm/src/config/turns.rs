//! The section `turns:`: what one turn may do beside asking its model. `turn::bounds` is what it means.

use forebay_domain::price::Price;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// What one turn may do: how long its tools may run before the model has to answer, and what it may not do once it has
/// read what others wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TurnsConfig {
    /// So many times tools run before the model is asked once more, without tools, to answer with what it has.
    #[schemars(range(max = 64))]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub rounds_max: NonZeroU32,
    /// Calls of the gateway's tools in one turn.
    #[schemars(range(max = 1000))]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub calls_max: NonZeroU32,
    /// Calls of one turn that run at one time.
    #[schemars(range(max = 64))]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub parallel_max: NonZeroU32,
    /// Seconds for which a turn may go on calling tools. A tool that runs then is given up; what the model says then it
    /// says to its end.
    #[schemars(range(max = 3600))]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub timeout_s: NonZeroU32,
    /// So many bytes of one result reach the model.
    #[schemars(range(min = 1024, max = 1_048_576))]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub result_bytes_max: NonZeroU32,
    /// Seconds after which the client of a stream hears that tools are at work, and whatever stands between does not
    /// take it for dead.
    #[schemars(range(max = 300))]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub keep_alive_s: NonZeroU32,
    /// What a turn may cost before it ends, in US dollars: the model's answers and the tools that have prices. What it does
    /// when that is reached it does to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>", range(min = 0), extend("x-forebay-reload" = "live"))]
    pub cost_max_usd: Option<Price>,
    /// What becomes of a turn that has read what others wrote.
    pub tainted: TaintedConfig,
}

impl Default for TurnsConfig {
    fn default() -> Self {
        Self {
            rounds_max: count(8),
            calls_max: count(32),
            parallel_max: count(8),
            timeout_s: count(120),
            result_bytes_max: count(64 << 10),
            keep_alive_s: count(10),
            cost_max_usd: None,
            tainted: TaintedConfig::default(),
        }
    }
}

/// A turn that has read context, or the result of a tool that is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TaintedConfig {
    /// What it may not do from then on, whatever its caller may: actions as grants name them, with `*` for any run of
    /// characters. With an empty list it may do whatever its caller may.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub deny: Vec<String>,
}

impl Default for TaintedConfig {
    fn default() -> Self {
        Self {
            deny: ["effect:write", "effect:destructive", "gpu:*"]
                .map(str::to_owned)
                .into(),
        }
    }
}

fn count(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("not zero")
}
