//! How often one tool may be called by all its callers together.

use super::Span;
use forebay_domain::{Code, Failure};
use forebay_runtime::{
    Clock,
    rate::{Quota, RateLimiter},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// So many calls in a window, of all callers together. It comes beside what each of them may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimitConfig {
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub requests: NonZeroU32,
    /// `1m`, `1h`, or a number of seconds.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub window: Span,
}

/// Counts the calls of one tool.
#[derive(Debug)]
pub(crate) struct Allowance(RateLimiter);

impl Allowance {
    pub(crate) fn new(config: &RateLimitConfig, clock: &Clock) -> Self {
        let quota = Quota {
            requests: config.requests,
            window: config.window.0,
        };
        Self(RateLimiter::new(quota, clock))
    }

    pub(crate) fn take(&self, tool: &str) -> Result<(), Failure> {
        let verdict = self.0.check("");
        if verdict.is_allowed() {
            return Ok(());
        }
        let after = verdict.retry_after.unwrap_or(verdict.reset_after);
        let message = format!(
            "`{tool}` may be called {} times in its window by all its callers together, and that is used up.",
            verdict.limit
        );
        Err(Failure::new(Code::RateLimited, message)
            .hint("Wait, then call again.")
            .retry_after(after))
    }
}
