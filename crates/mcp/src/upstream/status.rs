//! How an upstream is, for whoever looks at it from outside.

use super::{
    clashes,
    config::UpstreamConfig,
    pins::Waiting,
    server::{State, Upstream},
    settings::Origin,
};
use crate::{index::Index, source::Source};
use forebay_runtime::child::Line;
use jiff::Timestamp;
use serde_json::value::RawValue;

/// How one upstream is.
#[derive(Debug, Clone)]
pub struct UpstreamStatus {
    pub name: String,
    pub place: String,
    pub transport: &'static str,
    /// Whether it was registered over the API, and so may be removed there.
    pub registered: bool,
    pub state: State,
    pub since: Timestamp,
    pub protocol_version: Option<&'static str>,
    pub server_info: Option<Box<RawValue>>,
    pub tools: usize,
    pub prompts: usize,
    pub resources: usize,
    pub held: usize,
    pub connections: usize,
    pub listed_at: Option<Timestamp>,
    pub trouble: Option<String>,
    /// What was left out and why, what stands out, and which names it shares with others.
    pub warnings: Vec<String>,
}

/// One upstream with what waits for a decision, and the last lines of its standard error.
#[derive(Debug, Clone)]
pub struct UpstreamDetail {
    pub status: UpstreamStatus,
    pub config: UpstreamConfig,
    pub waiting: Vec<Waiting>,
    pub logs: Vec<Line>,
}

impl UpstreamStatus {
    pub(super) fn of(upstream: &Upstream, origin: Origin, index: &Index) -> Self {
        let condition = upstream.condition();
        let offer = upstream.offer();
        let mut warnings = condition.warnings;
        warnings.extend(clashes::remarks(index, upstream.name()));
        Self {
            name: upstream.name().to_owned(),
            place: upstream.place(),
            transport: if upstream.is_child() { "stdio" } else { "http" },
            registered: origin == Origin::Api,
            state: condition.state,
            since: condition.since,
            protocol_version: condition.version,
            server_info: condition.server_info,
            tools: offer.tools.len(),
            prompts: offer.prompts.len(),
            resources: offer.resources.len(),
            held: condition.held.len(),
            connections: upstream.pool.count(),
            listed_at: condition.listed_at,
            trouble: condition.trouble,
            warnings,
        }
    }
}
