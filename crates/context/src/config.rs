//! What the section `mcp:` says of providers of context, as it is written: in snake_case or camelCase, providers as a
//! list or as a map. The same form of one provider is what the API takes and the store keeps.
//!
//! The schema names every spelling, since the configuration file is checked against it.

mod joining;
mod list;
mod spellings;
mod ttl;

pub use joining::{ContextConfig, OnFailureConfig, StrategyConfig};
pub use ttl::{Ttl, TtlFault};

use crate::provider::Kind;
use forebay_runtime::{SecretRef, http::AllowList};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use spellings::with_other_spellings;
use std::{
    collections::BTreeMap,
    num::{NonZeroU16, NonZeroU32, NonZeroU64},
    path::PathBuf,
};

/// Providers of context, and how what they find is joined.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = with_other_spellings)]
pub struct Config {
    /// Where context for prompts comes from.
    #[serde(skip_serializing_if = "ProvidersConfig::is_empty")]
    pub providers: ProvidersConfig,
    /// How what the providers find is chosen and kept.
    pub context: ContextConfig,
    /// The folder in which a `secret_name` is looked for, as a file of that name, or as a folder with a file for each
    /// part as Kubernetes mounts it.
    #[serde(skip_serializing_if = "Option::is_none", alias = "secretsDir")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["secretsDir"]))]
    pub secrets_dir: Option<PathBuf>,
    /// Hosts, addresses and networks that `rest` providers, and all that are registered over the API, may reach although
    /// they are not public.
    #[serde(alias = "allowAddresses")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["allowAddresses"]))]
    pub allow_addresses: AllowList,
}

/// Providers by name. A list whose entries have a `name` is read too.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct ProvidersConfig(pub BTreeMap<String, ProviderConfig>);

impl ProvidersConfig {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// Its name, where providers are a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub name: Option<String>,
    /// What kind of source it is.
    #[serde(rename = "type")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub kind: Kind,
    /// Whether it is used at all.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub enabled: bool,
    /// Where the source is and how it is asked.
    #[serde(default)]
    pub config: SourceConfig,
}

/// Where a source is and how it is asked. Which keys there are depends on `type`; docs/context.md has them kind by kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = with_other_spellings)]
pub struct SourceConfig {
    /// The host of a `postgresql` or `chroma` server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub host: Option<String>,
    /// Its port: 5432 for `postgresql`, 8000 for `chroma`, unless this says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub port: Option<NonZeroU16>,
    /// The database, in `postgresql` and `chroma`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub database: Option<String>,
    /// The user of a `postgresql` database, where the secret does not name one.
    #[serde(skip_serializing_if = "Option::is_none", alias = "username")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["username"]))]
    pub user: Option<String>,
    /// Where the password of a `postgresql` database stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub password: Option<SecretRef>,
    /// The secret by which a `postgresql` database knows the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<NamedSecret>,
    /// Whether connections to `postgresql` (by default `prefer`) or `chroma` (by default `disable`) are encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub tls: Option<TlsConfig>,
    /// One SQL query over words, for `postgresql`: `$1` is what is asked, `$2` how many rows are wanted at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub query: Option<String>,
    /// One SQL query over vectors, for `postgresql` with pgvector: `$1` is the vector as text, to be cast with
    /// `$1::vector`, and `$2` how many rows are wanted at most.
    #[serde(skip_serializing_if = "Option::is_none", alias = "vectorQuery")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["vectorQuery"]))]
    pub vector_query: Option<String>,
    /// The tables whose text columns are searched, for `postgresql` without `query`; all of the current schema where it
    /// names none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub tables: Vec<String>,
    /// The text search configuration of `postgresql` for `tables`, as `\dF` in psql lists them; the database's own
    /// unless this says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub language: Option<String>,
    /// The address of a `rest` service, http or https.
    #[serde(skip_serializing_if = "Option::is_none", alias = "baseUrl", alias = "baseURL")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["baseUrl", "baseURL"]))]
    pub base_url: Option<String>,
    /// The path below the address of a `rest` service, with `{query}` and `{limit}` where they belong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub path: Option<String>,
    /// The JSON body of a `rest` request, with `{query}` and `{limit}` in its strings; with one the request is a POST.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub body: Option<Value>,
    /// How the gateway proves to a `rest` or `chroma` service who it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthConfig>,
    /// Further headers for a `rest` or `chroma` service.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub headers: BTreeMap<String, HeaderValueConfig>,
    /// Where in the JSON answer of `rest` or `mcp` the list of items stands, as a JSON pointer; found by its usual names
    /// (`results`, `items`, `data`, …) where this is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub items: Option<String>,
    /// What the parts of an item are called in the answer of `rest` or `mcp`.
    #[serde(skip_serializing_if = "FieldsConfig::is_default")]
    pub fields: FieldsConfig,
    /// The collection of a `chroma` server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub collection: Option<String>,
    /// The tenant in a `chroma` server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub tenant: Option<String>,
    /// The model, of those under `models:`, that turns texts into vectors. For `chroma` and `postgresql` it has to be
    /// the one with which the documents were embedded.
    #[serde(skip_serializing_if = "Option::is_none", alias = "embeddingModel")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["embeddingModel"]))]
    pub embedding_model: Option<String>,
    /// The folder of `files`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub folder: Option<PathBuf>,
    /// The endings of the `files` that are read, without the dot; all text files where it names none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub extensions: Vec<String>,
    /// Bytes of one passage of `files` at most, from 200 to 8000; 1500 unless this says otherwise.
    #[serde(skip_serializing_if = "Option::is_none", alias = "passageBytesMax")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["passageBytesMax"]))]
    pub passage_bytes_max: Option<NonZeroU32>,
    /// Bytes of one of the `files` at most; larger ones are left out. 2 MiB unless this says otherwise.
    #[serde(skip_serializing_if = "Option::is_none", alias = "fileBytesMax")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["fileBytesMax"]))]
    pub file_bytes_max: Option<NonZeroU64>,
    /// Seconds between two looks at the folder of `files`; 5 unless this says otherwise.
    #[serde(skip_serializing_if = "Option::is_none", alias = "scanS")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["scanS"]))]
    pub scan_s: Option<NonZeroU32>,
    /// The tool that `mcp` calls, by its name in the catalogue.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub tool: Option<String>,
    /// The argument of the tool that takes what is asked; `query` unless this says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub argument: Option<String>,
    /// Further arguments of the tool, as they are.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub arguments: Map<String, Value>,
    /// The resource that `mcp` reads, with `{query}` where it belongs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub uri: Option<String>,
    /// Milliseconds that one look-up may take, up to 120000; 5000 unless this says otherwise.
    #[serde(skip_serializing_if = "Option::is_none", alias = "timeoutMs")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["timeoutMs"]))]
    pub timeout_ms: Option<NonZeroU32>,
}

/// A secret by its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = with_other_spellings)]
pub struct NamedSecret {
    /// A file of this name in `secrets_dir`, or else the environment variable of this name in capitals, with `_` for
    /// whatever is neither a letter nor a digit.
    #[serde(alias = "secretName")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["secretName"]))]
    pub secret_name: String,
}

/// Whether a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TlsConfig {
    Disable,
    /// Where the other side can.
    Prefer,
    Require,
}

/// How the gateway proves who it is: `{type: bearer, secret_name: api-token}`, or with `token: {env: …}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = with_other_spellings)]
pub struct AuthConfig {
    /// In which way.
    #[serde(rename = "type")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub kind: AuthKind,
    /// The token's name as a secret.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "secretName")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["secretName"]))]
    pub secret_name: Option<String>,
    /// Where the token stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub token: Option<SecretRef>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuthKind {
    /// `Authorization: Bearer …`.
    Bearer,
}

/// The value of a header: text, or where a secret stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum HeaderValueConfig {
    Text(String),
    Secret(SecretRef),
    Named(NamedSecret),
}

/// What the parts of an item are called: a member's name, or a JSON pointer. What is left out is found by its usual
/// names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FieldsConfig {
    /// What tells items apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub id: Option<String>,
    /// The text itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub text: Option<String>,
    /// Its title.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub title: Option<String>,
    /// Where it comes from, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub source: Option<String>,
}

impl FieldsConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn is_yes(value: &bool) -> bool {
    *value
}

#[cfg(test)]
mod tests;
