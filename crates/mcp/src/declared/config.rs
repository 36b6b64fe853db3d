//! The tools that somebody declares, as they are written: the section `mcp.tools`, and what is sent to create one.
//!
//! The section is a list of tools with names, or a map from names to tools. Its keys may be written in camelCase too.
//! An entry that names a built-in tool configures that one and declares none ([`Config::onto`]).

use super::{RateLimitConfig, Span};
use crate::tools;
use forebay_domain::{Code, Failure};
use forebay_runtime::SecretRef;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Number, Value};
use std::{borrow::Cow, collections::BTreeMap, fmt, path::PathBuf};

/// Declared tools by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Config(pub BTreeMap<String, ToolConfig>);

/// One tool: an HTTP endpoint with parameters, or what a built-in tool is to be configured with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ToolConfig {
    /// Its name: required in a list, and the key in a map.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub name: Option<String>,
    /// What it does, for the model that has to choose.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub description: String,
    /// A label for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub version: Option<String>,
    /// Its arguments by name.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub parameters: BTreeMap<String, ParameterConfig>,
    /// What is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub endpoint: Option<EndpointConfig>,
    /// Where it may reach, and how often it may be called.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub security: SecurityConfig,
    /// How long a call may take: `30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub timeout: Option<Span>,
    /// What it does to the world. Without it, `GET` only reads and everything else may destroy something.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub effects: EffectsConfig,
    /// Whether its results are taken for the operator's own words. They are data otherwise, whatever they say.
    #[serde(alias = "trustedOutput", skip_serializing_if = "is_default")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub trusted_output: bool,
    /// Whether it is offered at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub enabled: Option<bool>,
    /// Settings of the built-in tool that the name means.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub config: BuiltinConfig,
    /// Metrics are kept of every tool, whatever stands here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub monitoring: Option<MonitoringConfig>,
}

/// One argument.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ParameterConfig {
    #[serde(rename = "type")]
    pub kind: ParameterType,
    #[serde(skip_serializing_if = "is_default")]
    pub description: String,
    /// What stands in the path of the URL is required in any case.
    #[serde(skip_serializing_if = "is_default")]
    pub required: bool,
    /// The values that are allowed.
    #[serde(rename = "enum", skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<Value>>,
    /// What is sent where the caller leaves it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<Number>,
    /// The most characters of a string. There is a bound in any case.
    #[serde(alias = "maxLength", skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u32>,
    /// A regular expression that a string has to match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParameterType {
    #[default]
    String,
    Number,
    Integer,
    Boolean,
    Array,
    Object,
}

impl ParameterType {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}

/// The HTTP request that a call makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// An http(s) URL. `{name}` stands for an argument, in a part of the path or in the value of a query parameter.
    pub url: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub method: Method,
    /// Headers, without any arguments in them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub headers: BTreeMap<String, HeaderConfig>,
    /// Where a token stands that is sent as `Authorization: Bearer …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<SecretRef>,
    /// The JSON body of `POST`, `PUT` and `PATCH`, with `{name}` in its strings. Without it, the body is an object of all
    /// arguments that do not stand in the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// A JSON pointer to that part of the answer which is the result. The whole, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    #[default]
    #[serde(alias = "get")]
    Get,
    #[serde(alias = "post")]
    Post,
    #[serde(alias = "put")]
    Put,
    #[serde(alias = "patch")]
    Patch,
    #[serde(alias = "delete")]
    Delete,
}

/// The value of a header: text, or where a secret stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum HeaderConfig {
    Text(String),
    Secret(SecretRef),
}

/// The bounds of one tool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SecurityConfig {
    /// Hosts that the endpoint may have: `api.example.com`, or `*.example.com` for all below it. Only the one in its URL,
    /// where there is none.
    #[serde(alias = "allowedDomains", skip_serializing_if = "Vec::is_empty")]
    pub allowed_domains: Vec<String>,
    /// Calls of all callers together.
    #[serde(alias = "rateLimit", skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimitConfig>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EffectsConfig {
    /// It changes nothing.
    #[serde(alias = "readOnly", skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// What it changes may be lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destructive: Option<bool>,
}

/// What a built-in tool takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BuiltinConfig {
    /// `file_reader`: folders whose files may be read.
    #[serde(alias = "allowedPaths", skip_serializing_if = "Vec::is_empty")]
    pub allowed_paths: Vec<PathBuf>,
    /// `web_search`: hosts of which results are shown.
    #[serde(alias = "allowedDomains", skip_serializing_if = "Vec::is_empty")]
    pub allowed_domains: Vec<String>,
    /// `web_search`: searches of all callers together.
    #[serde(alias = "rateLimit", skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimitConfig>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MonitoringConfig {
    pub enabled: Option<bool>,
    pub metrics: Vec<String>,
}

impl ToolConfig {
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }
}

/// The built-in tool that a name means, `web-search` as well as `web_search`.
pub(super) fn builtin(name: &str) -> Option<&'static str> {
    let spelled = name.replace('-', "_");
    tools::NAMES.into_iter().find(|builtin| *builtin == spelled)
}

impl Config {
    /// The configuration of the built-in tools with what stands here about them. What both say must be the same.
    pub fn onto(&self, mut tools: tools::Config) -> Result<tools::Config, Failure> {
        for (name, entry) in &self.0 {
            let Some(builtin) = builtin(name) else { continue };
            let place = Place { name, builtin };
            place.check(entry)?;
            let security = &entry.security;
            let domains = place.one(
                "allowedDomains",
                &[&entry.config.allowed_domains, &security.allowed_domains],
            )?;
            let limits = [entry.config.rate_limit.clone(), security.rate_limit.clone()].map(Vec::from_iter);
            let limit = place.one("rateLimit", &[&limits[0], &limits[1]])?;
            match builtin {
                "web_search" => {
                    let search = &mut tools.web_search;
                    search.allowed_domains = place.one("allowedDomains", &[&domains, &search.allowed_domains])?;
                    let configured = Vec::from_iter(search.rate_limit.clone());
                    search.rate_limit = place.one("rateLimit", &[&limit, &configured])?.pop();
                }
                _ if !domains.is_empty() || !limit.is_empty() => {
                    return Err(place.wrong("`allowedDomains` and `rateLimit` are for `web_search`."));
                }
                _ => {}
            }
            let paths = &entry.config.allowed_paths;
            if builtin == "file_reader" {
                let reader = &mut tools.file_reader;
                reader.allowed_paths = place.one("allowedPaths", &[paths, &reader.allowed_paths])?;
            } else if !paths.is_empty() {
                return Err(place.wrong("`allowedPaths` is for `file_reader`."));
            }
            if !entry.is_enabled() {
                tools.disabled.insert(builtin.to_owned());
            }
        }
        Ok(tools)
    }
}

/// An entry about a built-in tool.
struct Place<'a> {
    name: &'a str,
    builtin: &'static str,
}

impl Place<'_> {
    fn wrong(&self, what: &str) -> Failure {
        Failure::new(Code::InvalidConfig, format!("mcp.tools.{}: {what}", self.name))
    }

    fn check(&self, entry: &ToolConfig) -> Result<(), Failure> {
        if entry.endpoint.is_some() {
            let message = format!("`{}` is built in, so it takes no `endpoint`.", self.builtin);
            return Err(self.wrong(&message).hint("Choose another name for a tool of your own."));
        }
        if entry.effects != EffectsConfig::default() || entry.trusted_output || entry.timeout.is_some() {
            let message = format!(
                "`effects`, `trusted_output` and `timeout` of `{}` are the built-in tool's own.",
                self.builtin
            );
            return Err(self.wrong(&message));
        }
        Ok(())
    }

    /// What is said in one of these places, or in several alike.
    fn one<T: Clone + PartialEq>(&self, key: &str, said: &[&Vec<T>]) -> Result<Vec<T>, Failure> {
        let mut said = said.iter().filter(|one| !one.is_empty());
        let Some(first) = said.next() else {
            return Ok(Vec::new());
        };
        if said.any(|other| other != first) {
            let message = format!("`{key}` is set in another place too, and differently.");
            return Err(self.wrong(&message).hint("Keep one of them."));
        }
        Ok((*first).clone())
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Config;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of tools, or a map from names to tools")
            }

            fn visit_unit<E: Error>(self) -> Result<Config, E> {
                Ok(Config::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Config, A::Error> {
                let mut tools = BTreeMap::new();
                while let Some(mut tool) = list.next_element::<ToolConfig>()? {
                    let name = tool.name.take();
                    let name = name.ok_or_else(|| A::Error::custom("a tool in a list needs a `name`"))?;
                    if tools.insert(name.clone(), tool).is_some() {
                        return Err(A::Error::custom(format!("there are two tools of the name `{name}`")));
                    }
                }
                Ok(Config(tools))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
                let mut tools = BTreeMap::new();
                while let Some((name, mut tool)) = map.next_entry::<String, ToolConfig>()? {
                    if tool.name.take().is_some_and(|own| own != name) {
                        let message = format!("the tool under `{name}` has another name in it");
                        return Err(A::Error::custom(message));
                    }
                    if tools.insert(name.clone(), tool).is_some() {
                        return Err(A::Error::custom(format!("there are two tools of the name `{name}`")));
                    }
                }
                Ok(Config(tools))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Config {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "DeclaredTools".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let tool = generator.subschema_for::<ToolConfig>();
        json_schema!({
            "description": "Tools of your own, and settings of built-in ones: a list, or a map by their names.",
            "x-forebay-reload": "live",
            "anyOf": [
                {"type": "object", "additionalProperties": tool},
                {"type": "array", "items": tool},
            ],
        })
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
