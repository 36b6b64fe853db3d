//! Why a request to a model would go where it would.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which model's route to explain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RouteQuery {
    pub model: String,
}

/// Where a request would go now, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RouteExplanation {
    pub model: String,
    /// Why the caller may ask it.
    pub decision: String,
    /// The model and its fallbacks, in the order in which they would be asked.
    pub steps: Vec<RouteStep>,
}

/// What one model has to say to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RouteStep {
    pub model: String,
    /// The position of the backend that would be asked; absent where none would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<usize>,
    pub outcome: String,
    /// Requests in its queue.
    pub waiting: usize,
    pub backends: Vec<RouteBackend>,
}

/// One backend of a model, and what the decision makes of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RouteBackend {
    /// Its position among the model's backends, from 0.
    pub backend: usize,
    /// Where it is; told to operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    pub reason: String,
    /// `up`, `due_for_trial`, `on_trial`, `ejected`, `resting` or `unhealthy`.
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Requests at work there.
    pub in_flight: u32,
    /// As many as it may have at once; absent where there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    pub weight: u32,
    /// How long its streams took to begin, of late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// Whether it is asked from time to time whether it is well.
    pub probed: bool,
    /// How often it was put out of use.
    pub ejections: u64,
    /// How many requests failed here and were sent elsewhere.
    pub retries: u64,
}
