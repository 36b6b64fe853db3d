//! Runtime against real sockets.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod engines;
mod guarded;
mod telemetry;
