//! What every process of Forebay stands on: time, randomness, owned tasks, shutdown, loops, rate limits, telemetry,
//! metrics, outbound HTTP, supervised children.
//!
//! Nothing here knows what Forebay does.

pub mod child;
pub mod clock;
pub mod entropy;
pub mod http;
pub mod lifecycle;
pub mod looping;
pub mod metrics;
pub mod rate;
pub mod secret;
pub mod tasks;
pub mod telemetry;

pub use clock::Clock;
pub use entropy::Entropy;
pub use secret::{Secret, SecretRef};
pub use tasks::{Stop, Tasks};
