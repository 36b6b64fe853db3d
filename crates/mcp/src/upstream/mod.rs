//! Federation: MCP servers of other makers as sources of the catalogue.
//!
//! An upstream is untrusted. What it says is bounded, timed out and judged before anybody sees it; what it answers goes
//! through as it is. The credentials of callers never reach it.

mod clashes;
mod config;
mod errand;
mod held;
pub(crate) mod judge;
mod keep;
mod listening;
mod listing;
mod manager;
mod pins;
mod pool;
mod relay;
mod serve;
mod server;
mod settings;
mod status;
mod vet;
mod watches;

pub use config::{
    AuthConfig, ClientAuth, Config, EnvValue, OAuthConfig, PrivateKeyConfig, Protocol, Sharing, SigningAlgorithm,
    UpstreamConfig,
};
pub use forebay_store::mcp::pins::{Chosen, Reviewed};
pub use manager::{Upstreams, UpstreamsParts};
pub use pins::{Approved, Waiting};
pub use server::State;
pub use settings::Kit;
pub use status::{UpstreamDetail, UpstreamStatus};
