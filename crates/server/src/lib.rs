//! The gateway process: the door, the routes, and the wiring of everything behind them.
//!
//! Handlers are thin. What a tool call, a model's answer or a row means is decided in the capability crates and in
//! `domain`; here requests are let in, handed over, and answered in their dialect.

pub mod alerts;
pub mod app;
mod billing;
pub mod config;
mod contexts;
pub mod door;
pub mod errors;
pub mod first_start;
pub mod gateway;
pub mod gpu;
pub mod http;
pub mod listen;
pub mod loops;
pub mod metrics;
mod other_models;
mod own_wakes;
mod spending;
pub mod surfaces;

pub use app::{App, AppConfig, AppParts};
pub use gateway::{ChildrenParts, Gateway, GatewayParts, Opens};

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
