//! Upstreams in the catalogue, from the outside: what they offer, what of it is let through, and what becomes of those
//! that misbehave.

mod behaviour;
mod quarantine;
mod rig;
mod server;
