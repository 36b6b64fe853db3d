//! The sections of the configuration that belong to the gateway process: `server`, `auth`, `limits`, `budgets`, `alerts`,
//! `metrics`, and `mcp`, which nests what belongs to the parts behind it.
//!
//! These are wire types: what the file may say. What they mean once checked stands in the modules that use them.

mod advice;
mod alerts;
mod mcp;
pub(crate) mod money;

pub use alerts::{AddressConfig, AlertsConfig, WebhookConfig};
pub use forebay_context::contexts::ContextsConfig;
pub use mcp::McpConfig;
pub use money::{BudgetConfig, BudgetFault, BudgetsConfig, WindowLength};

use forebay_domain::Role;
use forebay_runtime::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use url::Url;

/// Where and how the gateway listens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Address and port to listen on. Port 0 takes a free one.
    #[schemars(with = "String", extend("x-forebay-reload" = "restart"))]
    pub listen: SocketAddr,
    /// The URL under which clients reach the gateway, where that is not the address it listens on.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub public_url: Option<Url>,
    /// Further names that a request's Host may carry, without port. Loopback names, the listening address and the host
    /// of `public_url` are always accepted.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub hosts: Vec<String>,
    /// Largest request body, in bytes.
    #[schemars(range(min = 1024, max = 268_435_456), extend("x-forebay-reload" = "restart"))]
    pub body_bytes_max: usize,
    /// How long requests under way may go on once the gateway is asked to stop, in seconds.
    #[schemars(range(max = 3600), extend("x-forebay-reload" = "restart"))]
    pub drain_seconds: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
            hosts: Vec::new(),
            body_bytes_max: 16 << 20,
            drain_seconds: 30,
        }
    }
}

/// Who may come in, besides the holders of API keys.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Web origins that may call the gateway from a browser, such as `https://app.example.com`; a port may be `*`.
    /// Loopback origins and that of `server.public_url` are always accepted.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub origins: Vec<String>,
    /// Accept JSON Web Tokens of one issuer, beside API keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtConfig>,
}

/// How tokens are verified. Keys come from `jwks_url` or `jwks_file` (RS256, ES256, EdDSA) or from `secret` (HS256).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtConfig {
    /// The `iss` that a token must carry; also named as authorization server in the RFC 9728 document.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub issuer: String,
    /// The `aud` that a token must carry (RFC 8707: the URL of this gateway).
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub audience: String,
    /// The algorithms accepted; by default those that the configured keys allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub algorithms: Option<Vec<JwtAlgorithm>>,
    /// Where the issuer publishes its keys (RFC 7517). Fetched, cached, and fetched again when a key is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub jwks_url: Option<Url>,
    /// A file with the issuer's keys (RFC 7517), read when the configuration is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub jwks_file: Option<std::path::PathBuf>,
    /// The shared secret of HS256: at least 32 bytes that nobody can guess.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub secret: Option<SecretRef>,
    /// The names of the claims that say who somebody is.
    #[serde(default)]
    pub claims: ClaimNames,
    /// The role of a token that names none.
    #[serde(default = "default_role")]
    #[schemars(with = "String", extend("enum" = ["viewer", "user", "operator", "admin"], "x-forebay-reload" = "live"))]
    pub default_role: Role,
    /// The tenant of a token that names none. Without it such a token is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub default_tenant: Option<String>,
    /// How far the issuer's clock may differ from ours, in seconds.
    #[serde(default = "default_leeway_seconds")]
    #[schemars(range(max = 300), extend("x-forebay-reload" = "live"))]
    pub leeway_seconds: u64,
}

fn default_role() -> Role {
    Role::User
}

fn default_leeway_seconds() -> u64 {
    30
}

/// A signature algorithm of RFC 7518 or RFC 8037. There is no `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum JwtAlgorithm {
    HS256,
    RS256,
    ES256,
    EdDSA,
}

/// Which claim says what. `sub` is always the subject, `scope` always the grants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClaimNames {
    /// The claim that names the tenant.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub tenant: String,
    /// The claim that names the project.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub project: String,
    /// The claim that names the role, as one string or a list of which the highest counts.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub roles: String,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            tenant: "tenant".to_owned(),
            project: "project".to_owned(),
            roles: "roles".to_owned(),
        }
    }
}

/// How much anybody may ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Requests a minute for each subject, over all surfaces.
    #[schemars(range(min = 1), extend("x-forebay-reload" = "live"))]
    pub requests_per_minute: u32,
    /// Calls a minute of each tool for each subject.
    #[schemars(range(min = 1), extend("x-forebay-reload" = "live"))]
    pub tool_calls_per_minute: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            requests_per_minute: 100,
            tool_calls_per_minute: 100,
        }
    }
}

/// Metrics for Prometheus. `/metrics` on the main listener asks for a key.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// One more listener, which serves `/metrics` alone and asks nobody for a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("x-forebay-reload" = "restart"))]
    pub listen: Option<SocketAddr>,
}
