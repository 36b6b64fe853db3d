//! Providers of context, as the API shows and takes them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A provider to register. Beside its name stands whatever one of the section `mcp.providers` takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderCreate {
    pub name: String,
    /// `postgresql`, `rest`, `chroma`, `files` or `mcp`.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Where the source is and how it is asked.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub config: Map<String, Value>,
}

/// The name of a provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProviderRef {
    pub name: String,
}

/// A provider and how it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProviderInfo {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// `config` or `api`.
    pub origin: String,
    /// `unasked`, `answers`, `fails` or `disabled`.
    pub condition: String,
    /// The strategies that it can do.
    pub strategies: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub asked_at: Option<Timestamp>,
    /// Why it failed when it was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<ProviderTrouble>,
    /// What else there is to know, such as how many files it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Why a provider failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProviderTrouble {
    pub code: String,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProviderList {
    pub providers: Vec<ProviderInfo>,
}

/// A provider with its settings, which name secrets by reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProviderDetail {
    #[serde(flatten)]
    pub info: ProviderInfo,
    #[schema(value_type = Object)]
    pub config: Value,
}

/// A question to one provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderTest {
    pub query: String,
    /// `keyword`, `semantic_search` or `hybrid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
}

/// What a provider found, past every cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProviderTested {
    pub items: Vec<ProviderItem>,
    /// How many items were left out because they did not fit.
    pub left_out: usize,
    pub took_ms: u64,
    /// What it was asked by.
    pub strategy: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ProviderTrouble>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProviderItem {
    pub id: String,
    pub text: String,
    pub score: f64,
    pub source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}
