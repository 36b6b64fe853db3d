//! What the catalogue tells about each call: one event and its metrics. Never arguments, never results.

use forebay_domain::{
    Action, Code, ErrorKind, Event, Principal,
    event::{Actor, Class, Outcome},
    money::Usd,
    port::Via,
};
use forebay_runtime::Clock;
use forebay_store::EventLog;
use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use std::{borrow::Cow, time::Duration};

type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];

/// The metrics of this crate.
#[derive(Debug, Clone)]
pub struct Metrics {
    executions: Family<Labels<1>, Counter>,
    durations: Family<Labels<1>, Histogram, fn() -> Histogram>,
    rate_limit_hits: Family<Labels<1>, Counter>,
    seconds: Family<Labels<2>, Histogram, fn() -> Histogram>,
}

/// The names of the metrics, as dashboards know them. The registry adds `_total` to what counts and its unit to what
/// measures.
mod names {
    /// `mcp_tool_execution_total{status}`
    pub(super) const EXECUTION: &str = "mcp_tool_execution";
    /// `mcp_tool_execution_duration_seconds{status}`
    pub(super) const EXECUTION_DURATION: &str = "mcp_tool_execution_duration";
    /// `mcp_tool_rate_limit_hits_total{tool}`
    pub(super) const RATE_LIMIT_HITS: &str = "mcp_tool_rate_limit_hits";
    /// `forebay_tool_call_seconds{tool,outcome}`
    pub(super) const CALL: &str = "forebay_tool_call";
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self {
            executions: Family::default(),
            durations: Family::new_with_constructor(durations as fn() -> Histogram),
            rate_limit_hits: Family::default(),
            seconds: Family::new_with_constructor(durations as fn() -> Histogram),
        };
        registry.register(
            names::EXECUTION,
            "Tool executions by how they ended",
            this.executions.clone(),
        );
        registry.register_with_unit(
            names::EXECUTION_DURATION,
            "Time that a tool execution took, by how it ended",
            Unit::Seconds,
            this.durations.clone(),
        );
        registry.register(
            names::RATE_LIMIT_HITS,
            "Tool calls that a rate limit refused",
            this.rate_limit_hits.clone(),
        );
        registry.register_with_unit(
            names::CALL,
            "Time that a tool call took",
            Unit::Seconds,
            this.seconds.clone(),
        );
        this
    }

    fn count(&self, tool: &str, outcome: Outcome, elapsed: Duration) {
        let (status, word) = match outcome {
            Outcome::Ok => ("success", "ok"),
            Outcome::ToolError => ("error", "tool_error"),
            Outcome::Cancelled => ("cancelled", "cancelled"),
            Outcome::Failed(code) => (status_of(code), "failed"),
            Outcome::Intended => ("error", "failed"),
        };
        let seconds = elapsed.as_secs_f64();
        let tool = || ("tool", Cow::Owned(tool.to_owned()));
        let status = [("status", Cow::Borrowed(status))];
        self.executions.get_or_create(&status).inc();
        self.durations.get_or_create(&status).observe(seconds);
        self.seconds
            .get_or_create(&[tool(), ("outcome", word.into())])
            .observe(seconds);
        if outcome == Outcome::Failed(Code::RateLimited) {
            self.rate_limit_hits.get_or_create(&[tool()]).inc();
        }
    }
}

/// How a failed execution is counted: whether the tool failed, or was not let run.
fn status_of(code: Code) -> &'static str {
    match code.kind() {
        ErrorKind::Forbidden | ErrorKind::Unauthenticated | ErrorKind::OverBudget => "denied",
        ErrorKind::RateLimited => "rate_limited",
        ErrorKind::Invalid
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::UpstreamFailed
        | ErrorKind::UpstreamTimedOut
        | ErrorKind::Unavailable
        | ErrorKind::Bug => "error",
    }
}

/// From 10 µs to about 3 minutes.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.000_01, 4.0, 13))
}

/// Opens entries and writes them down.
#[derive(Clone)]
pub(crate) struct Ledger {
    pub(crate) clock: Clock,
    pub(crate) events: EventLog,
    pub(crate) metrics: Metrics,
}

/// What is counted beside the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Counted {
    /// A call of a tool, by a name of the gateway's own making, so that the label is bounded.
    Tool(String),
    No,
}

impl Ledger {
    pub(crate) fn open(&self, principal: &Principal, via: Via, action: String, counted: Counted) -> Entry<'_> {
        Entry {
            ledger: self,
            actor: Actor::from(principal),
            via,
            action,
            counted,
            reason: None,
            bytes_in: 0,
            cost: None,
            started: self.clock.monotonic(),
            closed: false,
        }
    }
}

/// One call under way. Where it is dropped before it is closed, the client went away.
pub(crate) struct Entry<'a> {
    ledger: &'a Ledger,
    actor: Actor,
    via: Via,
    action: String,
    counted: Counted,
    pub(crate) reason: Option<String>,
    pub(crate) bytes_in: usize,
    /// What the call was settled at.
    pub(crate) cost: Option<Usd>,
    started: Duration,
    closed: bool,
}

impl Entry<'_> {
    /// Names what was found out only after the entry was opened.
    pub(crate) fn name(&mut self, action: &Action) {
        action.as_str().clone_into(&mut self.action);
    }

    pub(crate) fn close(mut self, outcome: Outcome, bytes_out: usize) {
        self.write(outcome, bytes_out);
    }

    /// Closes it by how something ended that has no size.
    pub(crate) fn settle<T>(self, result: &Result<T, forebay_domain::Failure>) {
        let outcome = match result {
            Ok(_) => Outcome::Ok,
            Err(failure) => Outcome::Failed(failure.code),
        };
        self.close(outcome, 0);
    }

    fn write(&mut self, outcome: Outcome, bytes_out: usize) {
        self.closed = true;
        let took = self.ledger.clock.monotonic().saturating_sub(self.started);
        if let Counted::Tool(name) = &self.counted {
            self.ledger.metrics.count(name, outcome, took);
        }
        self.ledger.events.record(Event {
            at: self.ledger.clock.now(),
            class: Class::Activity,
            surface: self.via.surface,
            trace: self.via.trace,
            actor: Some(self.actor.clone()),
            action: std::mem::take(&mut self.action),
            outcome,
            reason: self.reason.take(),
            duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            bytes_in: self.bytes_in as u64,
            bytes_out: bytes_out as u64,
            usage: None,
            cost: self.cost,
            count: 1,
        });
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if !self.closed {
            self.write(Outcome::Cancelled, 0);
        }
    }
}
