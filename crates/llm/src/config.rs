//! The sections `models:` and `turns:` of the configuration, as they are written. [`Settings`](crate::Settings) is what
//! they mean.

mod price;
mod turns;

pub use price::PriceConfig;
pub use turns::{TaintedConfig, TurnsConfig};

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
    /// The engines that serve this model. Each request goes to one that works and has less to do than others; to
    /// another one where that one fails before its answer begins.
    pub backends: Vec<BackendConfig>,
    /// Other models, by the names that clients use, that are asked in this order where no backend of this one can
    /// answer, as far as the caller may ask them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub fallbacks: Vec<String>,
    /// Whether requests that begin with the same text go to the same backend, which then need not read it again.
    #[serde(default = "yes")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub affinity: bool,
    /// How much of its share of the load, in percent, a backend may have before such requests go elsewhere.
    #[serde(default = "affinity_bound_percent")]
    #[schemars(range(min = 100, max = 1000))]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub affinity_bound_percent: u32,
    /// What waits while all backends have as many requests as they may have.
    #[serde(default)]
    pub queue: QueueConfig,
    /// What is tried again elsewhere.
    #[serde(default)]
    pub retry: RetryConfig,
    /// How long an engine may take.
    #[serde(default)]
    pub timeouts: TimeoutsConfig,
    /// What it costs. A model without a price is refused to whoever has a budget, and costs others nothing that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceConfig>,
    /// So many tokens an answer may have where a budget counts and the request sets no limit of its own.
    #[serde(default = "output_tokens_max")]
    #[schemars(range(max = 16_777_216), extend("x-forebay-reload" = "live"))]
    pub output_tokens_max: NonZeroU32,
    /// So many tokens the model reads at most. Where it is told, a budget sets no more aside for an input; and what has no
    /// size in a request (a film by its address, a file by its id) can be asked where a budget counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 16_777_216), extend("x-forebay-reload" = "live"))]
    pub context_tokens: Option<NonZeroU32>,
}

fn output_tokens_max() -> NonZeroU32 {
    NonZeroU32::new(4_096).expect("not zero")
}

fn yes() -> bool {
    true
}

fn affinity_bound_percent() -> u32 {
    125
}

/// One engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackendConfig {
    /// The base address of its API, `http` or `https`, with the version: `http://127.0.0.1:8001/v1`.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub url: String,
    /// What kind of engine it is: whose API it speaks, and how it is probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub engine: Option<Engine>,
    /// The engine's own name for the model; by default the name that clients use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub model: Option<String>,
    /// Where the engine's own API key stands; it is sent as the engine's API wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub api_key: Option<SecretRef>,
    /// Its share of the requests, compared with the other backends of the model.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(range(max = 1000))]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub weight: NonZeroU32,
    /// So many requests at one time at most; without it as many as come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub max_concurrency: Option<NonZeroU32>,
    /// How it is asked whether it is well.
    #[serde(default)]
    pub probe: ProbeConfig,
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(weight: &NonZeroU32) -> bool {
    *weight == NonZeroU32::MIN
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
    /// Any API in the form of Anthropic's.
    Anthropic,
}

impl Engine {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Llamacpp => "llamacpp",
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
        }
    }
}

/// How a backend is asked whether it is well. One that fails twice in a row gets no requests until it answers again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeConfig {
    /// What is got, from the root of the engine's address, without the version at its end. By default `/health` of
    /// vLLM, SGLang and llama.cpp, and the list of models of any other API in the form of OpenAI's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub path: Option<String>,
    /// Seconds between two probes; with 0 there are none.
    #[schemars(range(max = 3600))]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub interval_s: u32,
    /// Seconds until a probe has failed.
    #[schemars(range(max = 60))]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub timeout_s: NonZeroU32,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            path: None,
            interval_s: 10,
            timeout_s: seconds(5),
        }
    }
}

/// The queue in front of a model whose backends all have as many requests as they may have (`max_concurrency`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// So many requests may wait; any more are refused at once.
    #[schemars(range(max = 10000))]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub max: u32,
    /// Seconds that a request may wait.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub wait_s: NonZeroU32,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            max: 256,
            wait_s: seconds(30),
        }
    }
}

/// What is tried again at another backend. Nothing is, once a byte of an answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// To how many backends one request is sent at most. Those that cannot be connected to are not counted.
    #[schemars(range(max = 32))]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub attempts: NonZeroU32,
    /// Whether a request is sent to another backend too where one does not begin to answer in time. It may be at work
    /// on it all the same, and what it does then is wasted.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub on_timeout: bool,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            attempts: NonZeroU32::MIN.saturating_add(2),
            on_timeout: false,
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
        Self {
            begin_s: seconds(300),
            idle_s: seconds(120),
            total_s: seconds(3600),
        }
    }
}

fn seconds(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).expect("not zero")
}
