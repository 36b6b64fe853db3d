//! The front and the catalogue from outside, on a real store, with a model that says what the test tells it.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a part that does not work shall fail its test at once"
)]

mod actor;
mod asking;
mod bridging;
mod calls;
mod compose;
mod declared;
mod duplex;
mod files;
mod hearing;
mod inside;
mod legacy;
mod modern;
mod outliving;
mod owning;
mod plain;
mod porting;
mod resources;
mod resuming;
mod rules;
mod scopes;
mod stdio;
mod streams;
mod support;
mod tasks;
mod web;
mod web_search;
