//! What the section says of how the findings of providers are joined.

use super::{Ttl, with_other_spellings};
use forebay_domain::context::{OnFailure, Strategy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

/// How what the providers find is chosen and kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = with_other_spellings)]
pub struct ContextConfig {
    /// Tokens that all items of one request may take, estimated as one for four bytes. A request may say otherwise.
    #[serde(alias = "maxLength")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["maxLength"]), range(min = 1, max = 131_072))]
    pub max_length: NonZeroU32,
    /// Items of one request at most. A request may say otherwise.
    #[serde(alias = "itemsMax")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["itemsMax"]), range(min = 1, max = 100))]
    pub items_max: NonZeroU32,
    /// How providers look for items. One that cannot do this does what it can. A request may say otherwise.
    #[serde(alias = "retrievalStrategy")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["retrievalStrategy"]))]
    pub retrieval_strategy: StrategyConfig,
    /// Whether what was found is kept for a while.
    #[serde(alias = "cacheEnabled")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["cacheEnabled"]))]
    pub cache_enabled: bool,
    /// How long it is kept: `5m`, `1h`.
    #[serde(alias = "cacheTTL", alias = "cacheTtl")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["cacheTTL", "cacheTtl"]))]
    pub cache_ttl: Ttl,
    /// Bytes that are kept at most.
    #[serde(alias = "cacheBytesMax")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["cacheBytesMax"]))]
    pub cache_bytes_max: NonZeroU64,
    /// What becomes of a request where a provider fails: it goes on without it and says so, or it fails. A request may
    /// say otherwise.
    #[serde(alias = "onFailure")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["onFailure"]))]
    pub on_failure: OnFailureConfig,
}

impl Default for ContextConfig {
    fn default() -> Self {
        Self {
            max_length: NonZeroU32::new(2048).expect("not zero"),
            items_max: NonZeroU32::new(8).expect("not zero"),
            retrieval_strategy: StrategyConfig::Hybrid,
            cache_enabled: true,
            cache_ttl: Ttl(Duration::from_mins(5)),
            cache_bytes_max: NonZeroU64::new(64 << 20).expect("not zero"),
            on_failure: OnFailureConfig::Continue,
        }
    }
}

/// How providers look for items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StrategyConfig {
    /// By words.
    Keyword,
    /// By meaning: nearest vectors.
    SemanticSearch,
    /// Both.
    Hybrid,
}

impl From<StrategyConfig> for Strategy {
    fn from(config: StrategyConfig) -> Self {
        match config {
            StrategyConfig::Keyword => Self::Keyword,
            StrategyConfig::SemanticSearch => Self::SemanticSearch,
            StrategyConfig::Hybrid => Self::Hybrid,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailureConfig {
    /// The request goes on without the provider, and says so.
    Continue,
    /// The request fails.
    Fail,
}

impl From<OnFailureConfig> for OnFailure {
    fn from(config: OnFailureConfig) -> Self {
        match config {
            OnFailureConfig::Continue => Self::Continue,
            OnFailureConfig::Fail => Self::Fail,
        }
    }
}
