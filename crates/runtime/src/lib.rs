//! What every process of Forebay stands on: time, randomness, owned tasks, shutdown, loops, telemetry, outbound HTTP.
//!
//! Nothing here knows what Forebay does.

pub mod clock;
pub mod entropy;
pub mod secret;
pub mod tasks;

pub use clock::Clock;
pub use entropy::Entropy;
pub use secret::{Secret, SecretRef};
pub use tasks::{Stop, Tasks};
