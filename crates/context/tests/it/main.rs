//! Providers against real parts: a store on both databases, a folder, somebody's PostgreSQL, services that misbehave.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a part that does not work shall fail its test at once"
)]

mod chroma;
mod contexts;
mod files;
mod manage;
mod mcp;
mod postgresql;
mod rest;
mod whole;
mod world;
