//! The section `models:` of the configuration, as it is written. [`Settings`](crate::Settings) is what it means.

use forebay_runtime::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, num::NonZeroU32};

/// Models by the name under which clients ask for them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Config(pub BTreeMap<String, ModelConfig>);

/// One model and the engines that serve it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The engines that serve this model. They are tried in this order; the next one only when a connection to the one
    /// before cannot be made.
    pub backends: Vec<BackendConfig>,
    /// How long an engine may take.
    #[serde(default)]
    pub timeouts: TimeoutsConfig,
}

/// One OpenAI-compatible engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackendConfig {
    /// The base address of its API, `http` or `https`, with the version: `http://127.0.0.1:8001/v1`.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub url: String,
    /// What kind of engine it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub engine: Option<Engine>,
    /// The engine's own name for the model; by default the name that clients use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub model: Option<String>,
    /// Where the engine's own API key stands; it is sent as a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub api_key: Option<SecretRef>,
}

/// The kinds of engine that Forebay knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// The server of llama.cpp.
    Llamacpp,
    /// Any other API in the form of OpenAI's.
    Openai,
}

impl Engine {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Llamacpp => "llamacpp",
            Self::Openai => "openai",
        }
    }
}

/// How long an engine may take, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutsConfig {
    /// Seconds until the answer begins. An answer that is not streamed begins only when it is complete.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub begin_s: NonZeroU32,
    /// Seconds without a byte, once the answer has begun.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub idle_s: NonZeroU32,
    /// Seconds for the whole answer.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub total_s: NonZeroU32,
}

impl Default for TimeoutsConfig {
    fn default() -> Self {
        let seconds = |count| NonZeroU32::new(count).expect("not zero");
        Self {
            begin_s: seconds(300),
            idle_s: seconds(120),
            total_s: seconds(3600),
        }
    }
}
