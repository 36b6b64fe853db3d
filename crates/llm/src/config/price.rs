//! What a model costs, as it is written.

use forebay_domain::price::Price;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a model costs, in US dollars. With nothing but zeros it is free, and no budget ever refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceConfig {
    /// A million tokens of input.
    #[schemars(with = "f64", range(min = 0), extend("x-forebay-reload" = "live"))]
    pub input: Price,
    /// A million tokens of output.
    #[schemars(with = "f64", range(min = 0), extend("x-forebay-reload" = "live"))]
    pub output: Price,
    /// A million tokens of input that the engine has read before, as it tells; by default the price of other input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>", range(min = 0), extend("x-forebay-reload" = "live"))]
    pub cached_input: Option<Price>,
    /// A million tokens of input that the engine keeps for later, as it tells; by default the price of other input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>", range(min = 0), extend("x-forebay-reload" = "live"))]
    pub cache_write: Option<Price>,
    /// Each request, beside its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>", range(min = 0), extend("x-forebay-reload" = "live"))]
    pub per_request: Option<Price>,
}
