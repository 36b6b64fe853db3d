//! Real parts and unkind fakes for tests; only ever a dev-dependency.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a part that does not work shall fail its test at once"
)]

pub mod db;
pub mod gateway;
pub mod jwks;
pub mod markets;
pub mod openai;
