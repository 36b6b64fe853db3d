//! What the MCP side keeps: upstream servers, approvals of their definitions, sessions and their streams, signing keys.
//!
//! One table a file. Nothing here knows the protocol; what is JSON is kept as it was written.

pub mod pins;
pub mod sessions;
pub mod signing;
pub mod streams;
pub mod upstreams;

pub use pins::Pins;
pub use sessions::McpSessions;
pub use signing::Signing;
pub use streams::McpStreams;
pub use upstreams::Upstreams;
