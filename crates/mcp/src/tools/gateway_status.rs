//! `gateway_status`: how this gateway is doing.

use super::definition::{Answer, Definition, World};
use crate::catalogue::StatusSource;
use forebay_domain::Failure;
use serde_json::json;

pub(crate) struct GatewayStatus {
    source: StatusSource,
}

impl GatewayStatus {
    pub(crate) fn new(source: StatusSource) -> Self {
        Self { source }
    }

    pub(crate) fn definition() -> Definition {
        Definition {
            name: "gateway_status",
            title: "Gateway status",
            description: "Tells how this gateway is doing: its version, how long it has been up, whether its store is \
                          healthy, how many sessions are open and where it listens. Takes no arguments."
                .to_owned(),
            input: json!({"type": "object", "properties": {}, "additionalProperties": false}),
            output: json!({
                "type": "object",
                "description": "Version, uptime, health of the store, sessions and what stands open."
            }),
            world: World::Closed,
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "all tools are run alike")]
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        Ok(Answer {
            text: None,
            structured: (self.source)(),
        })
    }
}
