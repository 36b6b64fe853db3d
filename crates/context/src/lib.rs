//! Context for a prompt: providers look for what belongs into it, each in its own way; what they find is joined within a
//! budget. And [`contexts`], which is what the API calls conversations that the gateway keeps.
//!
//! It refuses to write prompts: what becomes of the items is `llm`'s part. It asks models (for embeddings) and calls
//! tools only through the ports of `domain`, and reaches addresses that somebody else chose only through the outbound
//! guard.

mod cache;
mod chunk;
pub mod config;
pub mod contexts;
mod embed;
mod find;
mod fuse;
mod item;
mod join;
mod kinds;
mod manage;
mod metrics;
mod pick;
mod provider;
mod providers;
mod record;
mod secret;
mod settings;
mod template;
mod words;

pub use config::{Config, ProviderConfig};
pub use manage::{Condition, ProviderDetail, ProviderStatus};
pub use metrics::Metrics;
pub use provider::{Connections, Kind};
pub use providers::{Providers, ProvidersParts};
