//! Why something is allowed or not, and what happened under a trace.

use super::EventInfo;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What to explain: exactly one of `action` and `trace`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExplainQuery {
    /// Such as `tool:calculator`, `model:qwen` or `keys:write`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// For the key of this id; for the caller's own where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A trace id, as every answer carries it in `x-trace-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// The decision over one action, and the rule behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    pub action: String,
    pub allowed: bool,
    pub reason: String,
    pub role: String,
    pub grants: Vec<String>,
    /// The tools that lists show to it; all that it may use where there is none. What is not shown may be called all the
    /// same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shown: Vec<String>,
    /// Of a tool, where lists show only some: whether it is among those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_shown: Option<bool>,
    /// Of a tool: whether it is here. What a rule says of one that is not holds once it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
    pub tenant: String,
    pub subject: String,
    /// How the caller's own rate limit stands; absent for another key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitInfo>,
}

/// A rate limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LimitInfo {
    pub per_minute: u32,
    pub remaining: u32,
    /// Seconds until all of it is there again.
    pub reset_s: u64,
}

/// What was decided and done under one trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TraceExplanation {
    pub trace_id: String,
    pub events: Vec<EventInfo>,
}
