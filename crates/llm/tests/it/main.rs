//! The router against real sockets and a real store: one fake engine that can be as unkind as a real one.
#![expect(
    clippy::unwrap_used,
    reason = "a part that does not work shall fail its test at once"
)]

mod background;
mod bounds;
mod faults;
mod money;
mod once;
mod policy;
mod probes;
mod queue;
mod responses;
mod routes;
mod shed;
mod streams;
mod tools;
mod turns;
mod whole;
mod world;
