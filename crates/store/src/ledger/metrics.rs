//! The ledger's own metric families.

use forebay_domain::ledger::{Outcome, Refusal, Request};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tracing::warn;

/// Clocks of two machines differ by seconds, not by more than this.
const AHEAD_MAX_S: i64 = 300;

/// Cheap to clone; all clones count the same things.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    holds: Family<OutcomeLabel, Counter>,
    pub(super) open: Gauge,
    posted: Counter,
    above: Counter,
    pub(super) group_size: Histogram,
    pub(super) lost: Counter,
    ahead: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            holds: Family::default(),
            open: Gauge::default(),
            posted: Counter::default(),
            above: Counter::default(),
            group_size: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]),
            lost: Counter::default(),
            ahead: Gauge::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "forebay_ledger_holds",
            "Amounts that were to be set aside, by what became of that",
            self.holds.clone(),
        );
        registry.register(
            "forebay_ledger_holds_open",
            "Amounts that are set aside and not settled yet, when they were last counted",
            self.open.clone(),
        );
        registry.register(
            "forebay_ledger_posted_micro_usd",
            "Millionths of a dollar posted by this process; what was given back is not taken off",
            self.posted.clone(),
        );
        registry.register(
            "forebay_ledger_above_hold",
            "Times that more was spent than had been set aside",
            self.above.clone(),
        );
        registry.register(
            "forebay_ledger_group_size",
            "Movements of money that shared one commit",
            self.group_size.clone(),
        );
        registry.register(
            "forebay_ledger_lost",
            "Movements of money that could not be written: holds among them lapse and are posted in full",
            self.lost.clone(),
        );
        registry.register(
            "forebay_ledger_ahead_seconds",
            "By how much what was written last is later than this process's clock: above 0, some clock is or was wrong",
            self.ahead.clone(),
        );
    }

    /// Tells how far ahead of now something was written; it is said in words once, when it begins.
    pub(super) fn ahead(&self, now_ms: i64, last_ms: Option<i64>) {
        let seconds = last_ms.map_or(0, |last_ms| last_ms.saturating_sub(now_ms).max(0) / 1_000);
        let before = self.ahead.set(seconds);
        if seconds > AHEAD_MAX_S && before <= AHEAD_MAX_S {
            warn!(
                seconds,
                "money was moved in the future: a clock is or was wrong, and windows do not move on until then"
            );
        }
    }

    pub(super) fn count(&self, request: &Request, became: &Result<Outcome, Refusal>) {
        if let Request::Hold(_) = request {
            let outcome = match became {
                Ok(outcome) if outcome.is_repeat => "repeated",
                Ok(_) => "admitted",
                Err(Refusal::Limit(_)) => "refused",
                Err(Refusal::NoLimit) => "no_limit",
                Err(Refusal::Conflict | Refusal::UnknownHold | Refusal::TooMuch) => "conflict",
            };
            self.holds.get_or_create(&OutcomeLabel { outcome }).inc();
        }
        let Ok(outcome) = became else { return };
        if !outcome.is_repeat {
            self.posted.inc_by(u64::try_from(outcome.posted.micros()).unwrap_or(0));
            self.above.inc_by(u64::from(outcome.above_hold));
        }
    }
}
