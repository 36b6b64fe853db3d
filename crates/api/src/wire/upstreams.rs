//! Upstream MCP servers: how they are, what of theirs waits for a decision, and deciding.
//!
//! Nothing here holds a secret: a configuration names where secrets stand, and what could hold one by mistake is left
//! out by the gateway.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// All upstreams, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamList {
    pub upstreams: Vec<UpstreamInfo>,
}

/// How one upstream is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamInfo {
    /// Its tools are called `<name>__<tool>`.
    pub name: String,
    /// The command, or the URL without its query.
    pub place: String,
    /// `stdio` or `http`.
    pub transport: String,
    /// `config`, or `api` where it was registered at run time.
    pub origin: String,
    /// `connecting`, `ready` or `unavailable`.
    pub state: String,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// The protocol version that it speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    /// What it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_info: Option<Value>,
    pub tools: usize,
    pub prompts: usize,
    pub resources: usize,
    /// Definitions that wait for a decision, and are not offered.
    pub held: usize,
    /// Connections or processes that are open.
    pub connections: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed_at: Option<Timestamp>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What was left out of its lists and why, what stands out in what is offered, and which names and URIs it shares
    /// with somebody else, so that `/mcp` does not have them from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One upstream, with everything that somebody needs who has to decide about it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UpstreamDetail {
    pub upstream: UpstreamInfo,
    /// Its configuration. Arguments and plain values of variables and headers are not shown.
    pub config: Value,
    /// The tools that it offers now, by their names in the whole catalogue.
    #[serde(default)]
    pub tools: Vec<String>,
    pub waiting: Vec<WaitingDefinition>,
    /// The last lines that a command wrote to standard error.
    pub log: Vec<UpstreamLogLine>,
}

/// A definition that waits for a decision.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WaitingDefinition {
    /// `tool`, `prompt` or `instructions`.
    pub kind: String,
    /// By the upstream's own name for it.
    pub name: String,
    /// `first_seen`, `changed`, `flagged` or `too_many`.
    pub why: String,
    /// What stands out in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    pub since: Timestamp,
    /// Stands for exactly this text. An approval that names it approves nothing else.
    pub fingerprint: String,
    /// The difference to what was approved, readable, with every character that may deceive written as its number.
    pub difference: String,
    /// The approved definition, as the upstream sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub approved: Option<Box<RawValue>>,
    /// The one that waits, as the upstream sent it.
    #[schema(value_type = Object)]
    pub held: Box<RawValue>,
}

/// A line that a program wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamLogLine {
    pub at: Timestamp,
    pub text: String,
}

/// An upstream to register. The keys are those of the configuration's section `upstreams`, without commands: programs
/// are named in the configuration file alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamRegister {
    /// Its tools will be called `<name>__<tool>`.
    pub name: String,
    /// The address of a server that speaks MCP over HTTP.
    pub url: String,
    /// What the gateway shows the server: `{"bearer": {"env": "FOREBAY_UPSTREAM_…"}}`, `{"header": {…}}` or
    /// `{"oauth": {…}}`. Secrets stand in variables of the gateway whose names begin with `FOREBAY_UPSTREAM_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub auth: Option<Value>,
    /// Further headers, without secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// `auto`, `modern`, `legacy` or `sse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// `per_caller` or `shared`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// Seconds that one call may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u32>,
    /// How its definitions are judged: `{"first_seen": "hold"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub quarantine: Option<Value>,
    /// Whether its results are taken for the operator's own words. Those of all others are data, whatever they say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_output: Option<bool>,
    /// Whether turns believe what its tools say of their effects, such as that they only read; true where it is left
    /// out. Where not, a turn takes each for one that may change and destroy anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_hints: Option<bool>,
    /// Whether it is used at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// The upstream that something was done to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamRef {
    pub name: String,
}

/// The upstream whose approvals were forgotten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamForgotten {
    pub name: String,
    /// How many definitions were decided about.
    pub forgotten: u64,
}

/// Which definitions to let pass: those named, or all that wait.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamApprove {
    pub names: Vec<DefinitionRef>,
    /// All that wait.
    pub all: bool,
    /// Only say what would be approved.
    pub dry_run: bool,
}

/// One definition of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DefinitionRef {
    /// `tool`, `prompt` or `instructions`; resources are never held.
    #[serde(default = "tool")]
    pub kind: String,
    /// By the upstream's own name for it; that of its instructions is `instructions`.
    pub name: String,
    /// The text that was looked at. If something else waits by now, nothing is approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

fn tool() -> String {
    "tool".to_owned()
}

/// What was approved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamApproved {
    pub approved: Vec<ApprovedDefinition>,
    /// Nothing was done: this is what would be.
    pub dry_run: bool,
}

/// A definition that was let pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApprovedDefinition {
    pub kind: String,
    pub name: String,
    /// The difference to what was approved before.
    pub difference: String,
}
