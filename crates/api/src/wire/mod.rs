//! What travels: the JSON of Forebay's own REST API, with the units and meanings that `openapi.json` shows.

mod explain;
mod health;
mod keys;
mod mcp;
mod problem;
mod records;
mod route;
mod upstreams;

pub use explain::{ExplainQuery, Explanation, LimitInfo, TraceExplanation};
pub use health::{ConfigStatus, Health, Status, StoreStatus, UpstreamState};
pub use keys::{KeyCreate, KeyCreated, KeyInfo, KeyList, KeyQuery};
pub use mcp::{McpListQuery, McpResourceRead};
pub use problem::{PROBLEM_TYPE, Problem};
pub use records::{AuditReport, EventInfo, EventList, EventQuery};
pub use route::{RouteBackend, RouteExplanation, RouteQuery, RouteStep};
pub use upstreams::{
    ApprovedDefinition, DefinitionRef, UpstreamApprove, UpstreamApproved, UpstreamDetail, UpstreamForgotten,
    UpstreamInfo, UpstreamList, UpstreamLogLine, UpstreamRef, UpstreamRegister, WaitingDefinition,
};
