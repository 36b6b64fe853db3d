//! vast.ai against its fake: every fault that is known, and what the client must conclude of it.
//!
//! Time is paused, so that waiting for a turn costs none; the fake's own clock is moved by hand.

mod blind;
mod creates;
mod garbage;
mod machines;
mod money;
mod offers;
mod pace;
mod world;
