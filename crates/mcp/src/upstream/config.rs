//! The section `upstreams:` of the configuration, as it is written. [`Settings`](super::settings::Settings) is what it
//! means. The same form is registered at run time over the API, without commands.

use forebay_domain::quarantine::Policy;
use forebay_runtime::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf};

/// Upstream MCP servers by name. The name is the prefix of their tools: `<name>__<tool>`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Config(pub BTreeMap<String, UpstreamConfig>);

/// One MCP server behind the gateway: a command to run, or a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// A program that speaks MCP on its standard input and output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub command: Option<String>,
    /// The arguments of the command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub args: Vec<String>,
    /// The environment of the command, beside the few variables that every child gets. Of the gateway's own environment
    /// it sees nothing else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub env: BTreeMap<String, EnvValue>,
    /// The folder in which the command runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub cwd: Option<PathBuf>,
    /// The address of a server that speaks MCP over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub url: Option<String>,
    /// What the gateway shows the server. The credentials of callers are never passed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub auth: Option<AuthConfig>,
    /// Further headers for the server, without secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub headers: BTreeMap<String, String>,
    /// Which protocol the server speaks.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub protocol: Protocol,
    /// Whose requests share a connection.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub connection: Sharing,
    /// Seconds that one call may take.
    #[serde(default = "timeout_s", skip_serializing_if = "is_usual_timeout")]
    #[schemars(extend("x-forebay-reload" = "live"), range(min = 1, max = 86_400))]
    pub timeout_s: NonZeroU32,
    /// How its definitions are judged.
    #[serde(default, skip_serializing_if = "is_default")]
    pub quarantine: Policy,
    /// Whether its results are taken for the operator's own words. Those of all others are data, whatever they say.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub trusted_output: bool,
    /// Whether turns believe what its tools say of their effects, such as that they only read. Where not, a turn takes
    /// each for one that may change and destroy anything.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub trusted_hints: bool,
    /// Whether it is used at all.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub enabled: bool,
}

/// A value of the child's environment: text, or where a secret stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum EnvValue {
    Text(String),
    Secret(SecretRef),
}

/// How the gateway proves to a server who it is. Exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AuthConfig {
    /// A bearer token.
    Bearer(SecretRef),
    /// A header of the server's own.
    Header { name: String, value: SecretRef },
    /// A token from an OAuth 2.1 authorization server.
    Oauth(OAuthConfig),
}

/// OAuth 2.1 as a client that acts for itself (client credentials), or with a refresh token that a person obtained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OAuthConfig {
    pub client_id: String,
    /// Where the client's secret stands; a public client has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<SecretRef>,
    /// How the client's secret is sent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub client_auth: ClientAuth,
    /// A key that signs instead of a secret (`private_key_jwt`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PrivateKeyConfig>,
    /// Where a refresh token stands. With one, the grant is `refresh_token`, else `client_credentials`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<SecretRef>,
    /// The token endpoint; found through the server's own metadata where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// The authorization server that metadata has to name. Recommended wherever `token_url` is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// How a client's secret travels (RFC 6749, section 2.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// In the header `Authorization`.
    #[default]
    ClientSecretBasic,
    /// In the body.
    ClientSecretPost,
}

/// The key of a client that signs (RFC 7523).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrivateKeyConfig {
    /// Where the key stands, in PEM.
    pub pem: SecretRef,
    pub algorithm: SigningAlgorithm,
    /// Its `kid`, where the authorization server wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
}

/// JSON Web Signature algorithms, by their registered names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SigningAlgorithm {
    RS256,
    ES256,
    ES384,
    EdDSA,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Whatever the server answers to: 2026-07-28, then `initialize`, then HTTP+SSE.
    #[default]
    Auto,
    /// 2026-07-28.
    Modern,
    /// 2025-11-25 and older, with `initialize`.
    Legacy,
    /// 2024-11-05 over HTTP+SSE.
    Sse,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Each caller has a connection (or a process) of its own, so that no state and no question of one reaches another.
    /// Servers of 2026-07-28 keep no state, so there one connection serves all.
    #[default]
    PerCaller,
    /// One connection serves everybody: for servers without state, or with one that is meant to be common.
    Shared,
}

fn timeout_s() -> NonZeroU32 {
    NonZeroU32::new(900).expect("not zero")
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn is_yes(value: &bool) -> bool {
    *value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn is_usual_timeout(value: &NonZeroU32) -> bool {
    *value == timeout_s()
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
