//! Call a tool: the catalogue with its one way to do it, and the MCP front over raw envelopes.
//!
//! The front speaks HTTP types in and out and knows no web framework; the catalogue knows no protocol. What passes
//! through stays raw JSON, because a typed copy would lose what it does not know.

mod accept;
pub mod builtin;
pub mod call;
pub mod catalogue;
pub mod client;
pub mod compose;
pub mod declared;
pub mod envelope;
pub mod era;
mod files;
mod flight;
pub mod front;
mod header_value;
pub mod index;
mod ledger;
mod params;
mod port;
mod prices;
mod raw;
pub mod reading;
pub mod reply;
mod resource;
mod rpc;
pub mod session;
pub mod source;
pub mod stdio;
pub mod tasks;
mod template;
pub mod tools;
pub mod upstream;

pub use call::{CallContext, Client, Outcome};
pub use catalogue::{Call, Catalogue, CatalogueParts, StatusSource};
pub use front::{Charge, Front, FrontParts, HttpIn, ServerInfo, duplex::DuplexHandle, state::StateKeys};
pub use index::Scope;
pub use ledger::Metrics;
pub use prices::PricesConfig;
pub use reading::{Kind, Page};
pub use reply::{Reply, ReplyBody};
pub use rpc::refusal;
pub use session::{Owner, SessionLimits, Sessions};
