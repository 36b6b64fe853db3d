//! Forebay's own REST API: its wire types, and a typed client.

pub mod wire;

pub use wire::*;
