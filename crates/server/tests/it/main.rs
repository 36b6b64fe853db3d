//! The gateway over real sockets, with a real store and a fake engine behind it.
#![expect(
    clippy::unwrap_used,
    reason = "a part that does not work shall fail its test at once"
)]

mod alerts;
mod asking;
mod bad_input;
mod chat;
mod connections;
mod contexts;
mod declared;
mod documents;
mod far;
mod gpu;
mod health;
mod limits;
mod machines;
mod matrix;
mod money;
mod named;
mod other_models;
mod rest;
mod revocation;
mod rig;
mod shown;
mod sse_pair;
mod store_gone;
mod telling;
mod tokens;
mod upstreams;
mod websocket;
