//! The section `mcp:`: providers of context, tools of one's own, contexts that are kept, and one more port, in snake_case or
//! camelCase.
//!
//! What belongs to the other parts stands here as they define it; this is where it is nested.

use forebay_context::{
    config::{ContextConfig, ProvidersConfig, Ttl},
    contexts::{ContextsConfig, ContextsSettings},
};
use forebay_mcp::declared;
use forebay_runtime::http::AllowList;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    time::Duration,
};
use url::Url;

/// Context for prompts, and tools of one's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = with_other_spellings)]
pub struct McpConfig {
    /// Whether anything that stands here is in force, and whether anybody may work with contexts that are kept.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub enabled: bool,
    /// One more port, on which everything is served too, at the address of `server.listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "restart"))]
    pub port: Option<NonZeroU16>,
    /// One more server of models in the form of OpenAI's API, without the version in its address. Those that it lists are
    /// models of the gateway, unless `models` has one of that name.
    #[serde(skip_serializing_if = "Option::is_none", alias = "serverUrl")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["serverUrl"]))]
    pub server_url: Option<Url>,
    /// The version of that server's API: the last part of its address.
    #[serde(alias = "apiVersion")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["apiVersion"]))]
    pub api_version: ApiVersion,
    /// Contexts that one tenant may have at a time.
    #[serde(alias = "maxContexts")]
    #[schemars(range(max = 1_000_000))]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["maxContexts"]))]
    pub max_contexts: NonZeroU32,
    /// How long a request within a context waits for its task: `60s`, `5m`. Then the task is answered, and goes on.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub timeout: Ttl,
    /// Where context for prompts comes from.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub providers: ProvidersConfig,
    pub tools: declared::Config,
    /// How what the providers find is chosen and kept.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub context: ContextConfig,
    /// The folder in which a `secret_name` is looked for, as a file of that name, or as a folder with a file for each
    /// part as Kubernetes mounts it.
    #[serde(skip_serializing_if = "Option::is_none", alias = "secretsDir")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["secretsDir"]))]
    pub secrets_dir: Option<PathBuf>,
    /// Hosts, addresses and networks that `rest` providers, tools, and whatever is registered over the API may reach
    /// although they are not public.
    #[serde(alias = "allowAddresses")]
    #[schemars(extend("x-forebay-reload" = "live", "x-forebay-spellings" = ["allowAddresses"]))]
    pub allow_addresses: AllowList,
}

impl Default for McpConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            port: None,
            server_url: None,
            api_version: ApiVersion::V1,
            max_contexts: NonZeroU32::new(1_000).expect("it is not zero"),
            timeout: Ttl(Duration::from_mins(1)),
            providers: ProvidersConfig::default(),
            tools: declared::Config::default(),
            context: ContextConfig::default(),
            secrets_dir: None,
            allow_addresses: AllowList::default(),
        }
    }
}

impl McpConfig {
    /// What is in force of it: all, or nothing. Contexts have a word of their own for that ([`Self::contexts`]), so that
    /// their bounds stay what they are for what was taken in before.
    pub fn in_force(&self) -> Self {
        if self.enabled { self.clone() } else { Self::default() }
    }

    /// The part of the providers.
    pub fn context(&self) -> forebay_context::Config {
        forebay_context::Config {
            providers: self.providers.clone(),
            context: self.context.clone(),
            secrets_dir: self.secrets_dir.clone(),
            allow_addresses: self.allow_addresses.clone(),
        }
    }

    /// The part of contexts that are kept, with what their own section says.
    pub fn contexts(&self, config: ContextsConfig) -> ContextsSettings {
        ContextsSettings {
            is_enabled: self.enabled,
            ..ContextsSettings::new(config, Some(self.max_contexts), Some(self.timeout.0))
        }
    }

    /// The address below which the other server of models has its API.
    pub fn models_url(&self) -> Option<Url> {
        let ApiVersion::V1 = self.api_version;
        let mut url = self.server_url.clone()?;
        if !url.path().trim_end_matches('/').ends_with("/v1") {
            url.path_segments_mut().ok()?.pop_if_empty().push("v1");
        }
        Some(url)
    }
}

/// The version of an API in the form of OpenAI's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ApiVersion {
    V1,
}

/// Lets the schema take keys in their other spellings too.
fn with_other_spellings(schema: &mut Schema) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    let mut others = Vec::new();
    for (name, property) in properties
        .iter_mut()
        .filter_map(|(name, one)| Some((name, one.as_object_mut()?)))
    {
        let Some(Value::Array(spellings)) = property.remove("x-forebay-spellings") else {
            continue;
        };
        let mut other = property.clone();
        other.insert("description".to_owned(), format!("The same as `{name}`.").into());
        other.remove("default");
        let spellings = spellings
            .into_iter()
            .filter_map(|spelling| Some(spelling.as_str()?.to_owned()));
        others.extend(spellings.map(|spelling| (spelling, Value::Object(other.clone()))));
    }
    properties.extend(others);
}
