//! The ledger's own metric families.

use forebay_domain::ledger::{Outcome, Refusal, Request};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Cheap to clone; all clones count the same things.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    holds: Family<OutcomeLabel, Counter>,
    pub(super) open: Gauge,
    posted: Counter,
    above: Counter,
    pub(super) group_size: Histogram,
    pub(super) lost: Counter,
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
