//! Declared tools: HTTP endpoints that somebody described and nobody wrote a server for.
//!
//! They stand in the configuration or are created at run time, and form one built-in server, `tools`. An endpoint is
//! untrusted, whoever declared it: every request goes through the outbound guard, follows no redirect, and is bounded in
//! time and size; what comes back is data.

mod allowance;
mod answer;
mod config;
mod definition;
mod domains;
mod endpoint;
mod manager;
mod shelf;
mod span;
mod template;
mod tool;

pub(crate) use allowance::Allowance;
pub use allowance::RateLimitConfig;
pub use config::{
    BuiltinConfig, Config, EffectsConfig, EndpointConfig, HeaderConfig, Method, MonitoringConfig, ParameterConfig,
    ParameterType, SecurityConfig, ToolConfig,
};
pub(crate) use domains::Domains;
pub use manager::{Declared, DeclaredParts, DeclaredTool};
pub use span::Span;
pub use tool::{Kit, Origin};

/// The name of the server.
pub const NAME: &str = "tools";
