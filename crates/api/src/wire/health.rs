//! How the gateway is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// For whoever watches the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `healthy` or `unavailable`.
    pub status: String,
    pub version: String,
}

/// For people, and for the tool `gateway_status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub version: String,
    /// Seconds since the start.
    pub uptime_s: u64,
    pub store: StoreStatus,
    /// The models that the caller may ask.
    pub models: Vec<String>,
    /// How many MCP sessions are open.
    pub mcp_sessions: usize,
    /// The upstream MCP servers.
    #[serde(default)]
    pub upstreams: Vec<UpstreamState>,
    /// What stands open, as URLs.
    pub surfaces: Vec<String>,
    pub config: ConfigStatus,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StoreStatus {
    /// `sqlite` or `postgres`.
    pub engine: String,
    pub healthy: bool,
}

/// How one upstream MCP server is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamState {
    pub name: String,
    /// `connecting`, `ready` or `unavailable`.
    pub state: String,
    /// Definitions that wait for a decision. Only for those who may read upstreams, as is all that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<usize>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigStatus {
    /// When the configuration in force was loaded.
    pub loaded_at: Timestamp,
    /// Why a newer one was not taken. Only for those who may read events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}
