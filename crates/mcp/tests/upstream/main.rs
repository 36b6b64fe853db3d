//! Upstreams in the catalogue, from the outside: what they offer, what of it is let through, and what becomes of those
//! that misbehave.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on shall stop")]

mod away;
mod behaviour;
mod errands;
mod quarantine;
mod rig;
mod server;
mod sharing;
