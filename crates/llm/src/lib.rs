//! The one way to ask a model.
//!
//! [`Router::complete`](forebay_domain::port::AskModel::complete) checks the policy, hands the body to a configured
//! engine and passes the answer through as it comes, byte for byte but for the model's name. Where an engine speaks
//! another API than the client, or the request wants context or tools of the gateway, a turn (`turn`) takes care of
//! it. Whatever an engine says is parsed, bounded and timed out.
//!
//! It refuses to know who the caller's credentials are: no header of a caller ever comes in here, so none can leave.
//! It asks again only before the first byte. Asking a model changes nothing in the world, so a request that a backend
//! could not take, or answered with an error of its own, goes to another one; a bounded number of times and under one
//! deadline. One that a backend is slow to begin may be at work there: it goes elsewhere too only where the
//! configuration says so (`retry.on_timeout`). It refuses to repeat a request of whose answer a byte has gone
//! out; an answer that is not streamed is read whole before that.
//!
//! **Failures in mid-stream.** An answer whose body has begun cannot change its status any more. Its body then yields
//! one last `Err(Failure)`; the edge writes it in its own dialect (`data: {"error":…}` on `/v1`) and ends the answer
//! without `[DONE]`.

mod answer;
mod config;
mod dialect;
mod fault;
mod metrics;
mod money;
mod reading;
mod record;
mod relay;
mod request;
mod router;
mod routing;
mod settings;
mod sse;
mod turn;
mod upstream;

pub use config::{
    BackendConfig, Config, Engine, ModelConfig, PriceConfig, ProbeConfig, QueueConfig, RetryConfig, TaintedConfig,
    TimeoutsConfig, TurnsConfig,
};
pub use metrics::Metrics;
pub use router::{RespondLater, Router, RouterParts};
pub use routing::{BackendStatus, BackendWhy, RouteExplanation, RouteStep};
pub use settings::{ConfigFault, Settings};
pub use turn::ResponsesConfig;
