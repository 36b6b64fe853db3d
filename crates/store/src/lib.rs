//! The only crate that speaks SQL.
//!
//! One concrete [`Store`] over two databases: SQLite, the embedded default, and PostgreSQL for replicas. Every test of it
//! runs on both. It refuses to be a layer of repositories: each aggregate is one module with its statements.

pub mod alerts;
mod config;
pub mod conversations;
mod db;
pub mod declared;
mod error;
pub mod events;
pub mod foreign;
mod groups;
pub mod keys;
pub mod ledger;
mod many;
pub mod mcp;
mod metrics;
mod migrations;
pub mod named;
mod open;
pub mod passages;
pub mod queue;
pub mod rentals;
pub mod responses;
mod row;
mod sql;
mod store;
mod together;
mod writer;

pub use alerts::Alerts;
pub use config::{Config, redacted, sqlite_url};
pub use conversations::Conversations;
pub use declared::Declared;
pub use error::StoreError;
pub use events::EventLog;
pub use foreign::Foreign;
pub use keys::Keys;
pub use ledger::Ledger;
pub use named::NamedRequests;
pub use passages::Passages;
pub use queue::Queue;
pub use rentals::Rentals;
pub use responses::Responses;
pub use store::{Store, StoreParts};
