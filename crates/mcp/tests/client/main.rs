//! The client towards upstreams from outside, against servers that do what each test tells them.
#![expect(
    clippy::unwrap_used,
    reason = "a part that does not work shall fail its test at once"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a test ends with its runtime, and talks to itself over loopback"
)]

mod hostile;
mod legacy_http;
mod modern_http;
mod oauth;
mod pipe;
mod pipe_opening;
mod sdk;
mod sse_pair;
mod world;
