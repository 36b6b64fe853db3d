//! Outbound HTTP. [`Guarded`] is for URLs that somebody else chose, and [`trusted`] for what the operator
//! configured; [`Engines`] is the same for engines, which are asked so often that it counts. Clippy bans making one by hand.

pub mod address;
pub mod engines;
mod guarded;
mod trusted;

pub use address::AllowList;
pub use engines::Engines;
pub use guarded::{Guarded, LookUp, Rules, Schemes};
pub use trusted::trusted;

/// What both clients call themselves.
pub const USER_AGENT: &str = concat!("forebay/", env!("CARGO_PKG_VERSION"));
