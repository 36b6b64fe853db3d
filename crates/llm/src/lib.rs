//! The one way to ask a model.
//!
//! [`Router::complete`](forebay_domain::port::AskModel::complete) checks the policy, hands the body to a configured
//! OpenAI-compatible engine and passes the answer through as it comes, byte for byte but for the model's name. Whatever
//! an engine says is parsed, bounded and timed out.
//!
//! It refuses to know who the caller's credentials are: no header of a caller ever comes in here, so none can leave.
//! It refuses to ask twice: a request that an engine may have begun to work on is never repeated.
//!
//! **Failures in mid-stream.** An answer whose body has begun cannot change its status any more. Its body then yields
//! one last `Err(Failure)`; the edge writes it in its own dialect (`data: {"error":…}` on `/v1`) and ends the answer
//! without `[DONE]`.

mod answer;
mod config;
mod dialect;
mod fault;
mod metrics;
mod reading;
mod record;
mod relay;
mod request;
mod router;
mod settings;
mod sse;
mod upstream;

pub use config::{BackendConfig, Config, Engine, ModelConfig, TimeoutsConfig};
pub use metrics::Metrics;
pub use router::{Router, RouterParts};
pub use settings::{ConfigFault, Settings};
