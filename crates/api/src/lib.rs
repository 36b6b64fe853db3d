//! Forebay's own REST API: its wire types, and a typed client.
//!
//! The client asks a gateway and nobody else: it follows no redirects and repeats nothing by itself.

pub mod client;
pub mod wire;

pub use client::{Client, ClientError};
pub use wire::*;
