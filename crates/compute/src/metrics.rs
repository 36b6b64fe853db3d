//! What `/metrics` tells about machines. Labels are bounded: providers, states and outcomes.

use crate::{
    market::{Created, Destroyed, MarketFault},
    rental::Fact,
};
use forebay_domain::market::Provider;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByProvider {
    provider: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    provider: &'static str,
    outcome: &'static str,
}

/// Cheap to clone; all clones are the same figures.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    creates: Family<ByOutcome, Counter>,
    destroys: Family<ByOutcome, Counter>,
    looks: Family<ByOutcome, Counter>,
    ended: Family<ByProvider, Counter>,
    orphans: Family<ByProvider, Counter>,
    price_rises: Family<ByProvider, Counter>,
    visible: Family<ByProvider, Gauge>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Shows the families of machines in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let family = |registry: &mut Registry, name, help, family: &Family<ByOutcome, Counter>| {
            registry.register(name, help, family.clone());
        };
        family(
            registry,
            "forebay_gpu_creates",
            "Requests to providers to make a machine, by what became of them",
            &self.creates,
        );
        family(
            registry,
            "forebay_gpu_destroys",
            "Requests to providers to end a machine, by what became of them",
            &self.destroys,
        );
        family(
            registry,
            "forebay_gpu_looks",
            "Lists of machines that providers were asked for",
            &self.looks,
        );
        registry.register("forebay_gpu_ended", "Machines that are gone", self.ended.clone());
        registry.register(
            "forebay_gpu_orphans",
            "Machines of ours that nobody rented and that were destroyed",
            self.orphans.clone(),
        );
        registry.register(
            "forebay_gpu_price_rises",
            "Higher prices that providers named for what runs",
            self.price_rises.clone(),
        );
        registry.register(
            "forebay_gpu_provider_visible",
            "Whether the last list of a provider's machines was complete",
            self.visible.clone(),
        );
    }

    pub(crate) fn created(&self, provider: Provider, answer: &Created) {
        let outcome = match answer {
            Created::Confirmed { .. } => "confirmed",
            Created::Refused(_) => "refused",
            Created::Ambiguous { .. } => "ambiguous",
        };
        count(&self.creates, provider, outcome);
    }

    pub(crate) fn destroyed(&self, provider: Provider, answer: &Result<Destroyed, MarketFault>) {
        let outcome = match answer {
            Ok(Destroyed::Accepted) => "accepted",
            Ok(Destroyed::Gone) => "gone",
            Err(_) => "failed",
        };
        count(&self.destroys, provider, outcome);
    }

    pub(crate) fn sight(&self, provider: Provider, is_complete: bool) {
        count(&self.looks, provider, if is_complete { "complete" } else { "blind" });
        self.visible.get_or_create(&of(provider)).set(i64::from(is_complete));
    }

    pub(crate) fn orphan(&self, provider: Provider) {
        self.orphans.get_or_create(&of(provider)).inc();
    }

    pub(crate) fn price_rise(&self, provider: Provider) {
        self.price_rises.get_or_create(&of(provider)).inc();
    }

    pub(crate) fn fact(&self, provider: Provider, fact: &Fact) {
        match fact {
            Fact::Ended => {
                self.ended.get_or_create(&of(provider)).inc();
            }
            Fact::PriceDrift { .. } => self.price_rise(provider),
            Fact::Ambiguous | Fact::Found | Fact::Ending | Fact::EndFails => {}
        }
    }
}

fn of(provider: Provider) -> ByProvider {
    ByProvider {
        provider: provider.as_str(),
    }
}

fn count(family: &Family<ByOutcome, Counter>, provider: Provider, outcome: &'static str) {
    let label = ByOutcome {
        provider: provider.as_str(),
        outcome,
    };
    family.get_or_create(&label).inc();
}
