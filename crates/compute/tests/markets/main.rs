//! Each market against its fake: every fault that is known, and what the client must conclude of it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a part that does not work shall fail its test at once"
)]

mod ionet;
mod runpod;
mod tried;
mod vast;
