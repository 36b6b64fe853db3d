//! The section `alerts:`: who is told of what happens to money and machines.

use forebay_runtime::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use url::Url;

/// Who is told when a limit is met, or a machine gives trouble.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlertsConfig {
    /// Addresses that alerts are sent to, by names of your choice.
    pub webhooks: BTreeMap<String, WebhookConfig>,
    /// The same about the same thing is not told again within so many minutes.
    #[schemars(range(min = 1, max = 10_080), extend("x-forebay-reload" = "live"))]
    pub repeat_minutes: u32,
}

/// One address, and what goes there. Messages are signed after Standard Webhooks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where messages go. Whoever knows the address of some services may write there: such a one is a secret.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub url: AddressConfig,
    /// The secret that both sides know: `whsec_` and 24 to 64 bytes in Base64.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub secret: SecretRef,
    /// Only these alerts, by their type; all where there is none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub events: BTreeSet<String>,
}

/// An address, or where a secret one stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum AddressConfig {
    Text(Url),
    Secret(SecretRef),
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            webhooks: BTreeMap::new(),
            repeat_minutes: 60,
        }
    }
}
