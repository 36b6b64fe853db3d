//! Upstream MCP servers over REST: see, register, remove, approve, forget, refresh.
//!
//! What an upstream says of itself is shown as data and never believed. A configuration is shown without anything that
//! could hold a secret by mistake.

mod approve;
mod forget;
mod list;
mod refresh;
mod register;
mod remove;
mod show;

pub(crate) use approve::{__path_approve, approve};
pub(crate) use forget::{__path_forget, forget};
pub(crate) use list::{__path_list, list};
pub(crate) use refresh::{__path_refresh, refresh};
pub(crate) use register::{__path_register, register};
pub(crate) use remove::{__path_remove, remove};
pub(crate) use show::{__path_show, show};

use forebay_api::UpstreamInfo;
use forebay_mcp::upstream::UpstreamStatus;

fn info(status: &UpstreamStatus) -> UpstreamInfo {
    let server_info = status.server_info.as_ref();
    UpstreamInfo {
        name: status.name.clone(),
        place: status.place.clone(),
        transport: status.transport.to_owned(),
        origin: if status.registered { "api" } else { "config" }.to_owned(),
        state: status.state.as_str().to_owned(),
        since: status.since,
        protocol_version: status.protocol_version.map(str::to_owned),
        server_info: server_info.and_then(|raw| serde_json::from_str(raw.get()).ok()),
        tools: status.tools,
        prompts: status.prompts,
        resources: status.resources,
        held: status.held,
        connections: status.connections,
        listed_at: status.listed_at,
        trouble: status.trouble.clone(),
        warnings: status.warnings.clone(),
    }
}
