//! The section `contexts:` of the configuration, as it is written, and what it means together with the keys of `mcp:` that
//! are about contexts.

use forebay_domain::conversation::{OnFull, Truncation};
use forebay_store::conversations::{NODE_BYTES_MAX, Room};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{num::NonZeroU32, time::Duration};

/// Contexts that a tenant may have, unless somebody says otherwise.
const CONTEXTS_MAX: u32 = 1_000;
/// How long a request waits for its task, unless somebody says otherwise.
const TIMEOUT: Duration = Duration::from_mins(1);

/// How contexts are kept, and how much of one a model gets to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ContextsConfig {
    /// What becomes of a new context where the tenant has `mcp.max_contexts`.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub on_full: OnFullConfig,
    /// A context that nobody uses for so many hours is removed; with 0 none is.
    #[schemars(range(max = 87600), extend("x-forebay-reload" = "live"))]
    pub idle_hours: u32,
    /// So many tokens, estimated, of a context and a prompt a model gets to read at most. A model with `context_tokens`
    /// may get fewer.
    #[schemars(range(min = 16, max = 16_777_216), extend("x-forebay-reload" = "live"))]
    pub tokens_max: NonZeroU32,
    /// What is left out of what a model reads where that is more. What the system says never is.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub truncation: TruncationConfig,
    /// Nodes of one context at most.
    #[schemars(range(min = 2, max = 10000), extend("x-forebay-reload" = "live"))]
    pub nodes_max: NonZeroU32,
    /// Bytes of one node's content at most.
    #[schemars(range(max = 1_048_576), extend("x-forebay-reload" = "live"))]
    pub node_bytes_max: NonZeroU32,
    /// Bytes of all contents and metadata of a context's nodes at most.
    #[schemars(range(max = 67_108_864), extend("x-forebay-reload" = "live"))]
    pub bytes_max: NonZeroU32,
}

impl Default for ContextsConfig {
    fn default() -> Self {
        Self {
            on_full: OnFullConfig::Refuse,
            idle_hours: 30 * 24,
            tokens_max: number(32_768),
            truncation: TruncationConfig::Oldest,
            nodes_max: number(1_000),
            node_bytes_max: number(1 << 20),
            bytes_max: number(8 << 20),
        }
    }
}

fn number(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).expect("it is not zero")
}

/// What becomes of a new context where there are as many as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFullConfig {
    /// It is refused.
    Refuse,
    /// The one that was not used for longest is removed.
    EvictOldest,
}

/// What is left out of what a model reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TruncationConfig {
    /// The oldest nodes.
    Oldest,
    /// The oldest nodes but for the first.
    Middle,
    /// Nothing: the prompt is refused.
    Refuse,
}

impl From<OnFullConfig> for OnFull {
    fn from(config: OnFullConfig) -> Self {
        match config {
            OnFullConfig::Refuse => Self::Refuse,
            OnFullConfig::EvictOldest => Self::EvictOldest,
        }
    }
}

impl From<TruncationConfig> for Truncation {
    fn from(config: TruncationConfig) -> Self {
        match config {
            TruncationConfig::Oldest => Self::Oldest,
            TruncationConfig::Middle => Self::Middle,
            TruncationConfig::Refuse => Self::Refuse,
        }
    }
}

/// What is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextsSettings {
    /// Whether anybody may work with contexts (`mcp.enabled`). What was taken in before is done all the same.
    pub is_enabled: bool,
    pub config: ContextsConfig,
    /// Contexts of one tenant at most (`mcp.max_contexts`).
    pub contexts_max: NonZeroU32,
    /// How long a request waits for its task (`mcp.timeout`).
    pub timeout: Duration,
}

impl Default for ContextsSettings {
    fn default() -> Self {
        Self::new(ContextsConfig::default(), None, None)
    }
}

impl ContextsSettings {
    pub fn new(config: ContextsConfig, contexts_max: Option<NonZeroU32>, timeout: Option<Duration>) -> Self {
        Self {
            is_enabled: true,
            config,
            contexts_max: contexts_max.unwrap_or_else(|| number(CONTEXTS_MAX)),
            timeout: timeout.unwrap_or(TIMEOUT),
        }
    }

    /// When a context that is used now expires.
    pub(super) fn expires_at(&self, now: Timestamp) -> Option<Timestamp> {
        let idle = SignedDuration::from_hours(self.config.idle_hours.into());
        if idle.is_zero() {
            return None;
        }
        now.checked_add(idle).ok()
    }

    pub(super) fn room(&self) -> Room {
        Room {
            most: self.contexts_max.get(),
            on_full: self.config.on_full.into(),
        }
    }

    pub(super) fn nodes_max(&self) -> u64 {
        self.config.nodes_max.get().into()
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.config.bytes_max.get().into()
    }

    pub(super) fn node_bytes_max(&self) -> usize {
        (self.config.node_bytes_max.get() as usize).min(NODE_BYTES_MAX)
    }

    /// So many tokens a model gets to read, where it reads `context_tokens` in all and is to say `max_tokens`. Where
    /// nobody says how much it is to say, a quarter is left for it.
    pub(super) fn tokens_max(&self, context_tokens: Option<u64>, max_tokens: Option<u32>) -> usize {
        let of_model = context_tokens.map_or(u64::MAX, |all| {
            let answer = max_tokens.map_or(all / 4, u64::from);
            all.saturating_sub(answer)
        });
        let tokens = of_model.min(self.config.tokens_max.get().into());
        usize::try_from(tokens).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_the_smaller_of_both() {
        let settings = ContextsSettings::default();
        let check = |context_tokens, max_tokens, expected| {
            assert_eq!(settings.tokens_max(context_tokens, max_tokens), expected);
        };
        check(None, None, 32_768);
        check(Some(1 << 20), None, 32_768);
        check(Some(4_096), None, 3_072);
        check(Some(4_096), Some(96), 4_000);
        check(Some(4_096), Some(9_000), 0);
    }

    #[test]
    fn zero_hours_are_for_ever() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let hours = |idle_hours| {
            let config = ContextsConfig {
                idle_hours,
                ..ContextsConfig::default()
            };
            ContextsSettings::new(config, None, None).expires_at(now)
        };
        assert_eq!(hours(0), None);
        assert_eq!(hours(2), Some(Timestamp::from_second(1_700_007_200).unwrap()));
    }
}
