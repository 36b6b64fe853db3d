//! Call a tool: the catalogue with its one way to do it, and the MCP front over raw envelopes.
//!
//! The front speaks HTTP types in and out and knows no web framework; the catalogue knows no protocol. What passes
//! through stays raw JSON, because a typed copy would lose what it does not know.

mod accept;
mod begun;
pub mod call;
pub mod catalogue;
pub mod envelope;
pub mod era;
mod files;
mod flight;
pub mod front;
mod header_value;
mod ledger;
mod method;
mod offer;
mod params;
mod plain;
pub mod reply;
mod resource;
mod rpc;
pub mod session;
pub mod stdio;
mod stream;
pub mod tools;

pub use call::{CallContext, Outcome, Progress};
pub use catalogue::{Catalogue, CatalogueParts, StatusSource};
pub use front::{Front, FrontParts, HttpIn, ServerInfo};
pub use ledger::Metrics;
pub use reply::{Reply, ReplyBody};
pub use rpc::refusal;
pub use session::{SessionLimits, Sessions};
