//! Outbound HTTP. Two clients, and no third: [`trusted`] for what the operator configured, [`Guarded`] for URLs that
//! somebody else chose. Clippy bans making one by hand.

pub mod address;
mod guarded;
mod trusted;

pub use address::AllowList;
pub use guarded::{Guarded, LookUp, Rules, Schemes};
pub use trusted::trusted;

/// What both clients call themselves.
pub const USER_AGENT: &str = concat!("forebay/", env!("CARGO_PKG_VERSION"));
