//! Outbound HTTP: two clients, for two kinds of trust.
//!
//! [`trusted`] goes wherever the operator's configuration points, loopback included. A URL that somebody else chose never
//! reaches it.

mod trusted;

pub use trusted::trusted;

/// How the gateway names itself.
const USER_AGENT: &str = concat!("forebay/", env!("CARGO_PKG_VERSION"));
