//! What is asked of rentals, and what they answer.

use super::body::{Paying, Why};
use crate::market::MachineState;
use forebay_domain::{
    Failure,
    event::Surface,
    id::{SubjectId, TenantId, TraceId},
    ledger::{Ask, Overrun},
    market::{Offer, OfferId, Provider},
    money::{Usd, UsdRate},
};
use forebay_store::{
    rentals::{Desired, RentalState},
    responses::ResponseOwner,
};
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// One machine that was rented, or is about to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Rental {
    /// Ours: unique for ever, and sorted by time.
    pub id: String,
    /// What its provider knows it by.
    pub label: String,
    pub owner: ResponseOwner,
    pub offer: OfferId,
    /// The provider's own id of the machine, once it is known.
    pub machine: Option<String>,
    pub state: RentalState,
    pub desired: Desired,
    /// What its provider said last.
    pub machine_state: Option<MachineState>,
    pub status: Option<String>,
    pub seen_at: Option<Timestamp>,
    pub gpu: String,
    pub gpus: u32,
    pub vram_gb: u32,
    pub country: Option<String>,
    pub image: String,
    pub disk_gb: u32,
    /// What was agreed on.
    pub rate: UsdRate,
    /// What it costs now, by all that anybody has said: what was agreed on, or more.
    pub burn: UsdRate,
    pub paying: Paying,
    /// What was posted for it so far.
    pub spent: Usd,
    pub created_at: Timestamp,
    /// From when on it costs.
    pub since: Option<Timestamp>,
    /// When it is destroyed at the latest.
    pub ends_by: Timestamp,
    pub idle: Option<Duration>,
    pub ended_at: Option<Timestamp>,
    pub why: Option<Why>,
    /// The last thing that went wrong with it.
    pub fault: Option<String>,
    /// Where its ports are reached, by the port inside.
    pub endpoints: BTreeMap<u16, String>,
    /// It has no address of the gateway, and runs no agent.
    pub bare: bool,
    /// When its agent has reported itself.
    pub reported_at: Option<Timestamp>,
}

impl Rental {
    pub fn tenant(&self) -> &TenantId {
        &self.owner.tenant
    }

    pub fn subject(&self) -> &SubjectId {
        &self.owner.subject
    }

    pub fn provider(&self) -> Provider {
        self.offer.provider
    }

    /// Whether it is there, or may be.
    pub fn is_live(&self) -> bool {
        self.state.is_live()
    }
}

/// What a quote is wanted for. What is left out is the configuration's.
#[derive(Debug, Clone, PartialEq)]
pub struct QuoteRequest {
    pub offer: OfferId,
    pub image: Option<String>,
    pub disk_gb: Option<u32>,
    pub lifetime: Option<Duration>,
    pub idle: Option<Duration>,
}

/// What renting an offer would cost, promised for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct Quote {
    pub id: String,
    pub offer: Offer,
    pub image: String,
    pub disk_gb: u32,
    pub lifetime: Duration,
    pub idle: Option<Duration>,
    /// All in.
    pub rate: UsdRate,
    /// What is set aside, or paid, at once.
    pub first_hold: Usd,
    /// Over the whole lifetime.
    pub most: Usd,
    pub expires_at: Timestamp,
    /// What the limits say now; they are asked again when it is rented.
    pub advice: Advice,
    pub needs_approval: bool,
}

/// What the limits would say now.
#[derive(Debug, Clone, PartialEq)]
pub enum Advice {
    /// It would be let in; which soft limits it goes beyond.
    Fits { warnings: Vec<Overrun> },
    /// A limit would refuse it.
    Above(Box<Overrun>),
    /// It costs money and no limit counts, so it would be refused.
    NoLimit,
}

/// What is to be rented.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    Offer(OfferId),
    /// As it was quoted, and agreed to.
    Quote(Quoted),
}

/// A quote that is to be rented, and what whoever wants it says of its offer besides: refused where that is another one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quoted {
    pub id: String,
    pub provider: Option<Provider>,
    pub offer: Option<OfferId>,
}

impl From<String> for Quoted {
    fn from(id: String) -> Self {
        Self { id, ..Self::default() }
    }
}

impl Quoted {
    pub(crate) fn is_of(&self, offer: &OfferId) -> bool {
        self.provider.is_none_or(|provider| provider == offer.provider)
            && self.offer.as_ref().is_none_or(|named| named == offer)
    }
}

/// One wish to rent.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateRequest {
    pub what: What,
    /// What follows is the quote's, or the configuration's, where it is left out.
    pub image: Option<String>,
    pub disk_gb: Option<u32>,
    /// TCP ports that are to be reached.
    pub ports: Vec<u16>,
    /// Not secret.
    pub env: BTreeMap<String, String>,
    pub lifetime: Option<Duration>,
    pub idle: Option<Duration>,
    /// The same key of the same owner is the same rental.
    pub idempotency_key: Option<String>,
    pub mode: Mode,
    pub trace: TraceId,
    pub surface: Surface,
}

/// One wish for more time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtendRequest {
    pub by: Duration,
    /// The same key for the same machine is the same wish.
    pub idempotency_key: Option<String>,
}

impl From<Duration> for ExtendRequest {
    fn from(by: Duration) -> Self {
        Self {
            by,
            idempotency_key: None,
        }
    }
}

/// Whether something is done, or only said what would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Do,
    DryRun,
}

/// What became of a wish to rent.
#[derive(Debug, Clone, PartialEq)]
pub enum CreateOutcome {
    /// It is there; or, in the state `finding_out`, nobody knows yet, and asking again makes no second one.
    Rented(Box<Rental>),
    /// It would have been; nothing was held or asked for.
    DryRun(Box<Quote>),
    /// Somebody has to agree first: rent this quote then.
    NeedsApproval(Box<Quote>),
}

/// Which rentals somebody wants to see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Whose {
    /// The caller's own.
    #[default]
    Mine,
    /// All of the tenant, for operators; of every tenant, for admins.
    All,
}

/// Machines for rent, of every provider that answered.
#[derive(Debug, Clone, PartialEq)]
pub struct OffersReport {
    /// Cheapest first.
    pub offers: Vec<Offer>,
    pub markets: Vec<MarketReport>,
}

/// How one provider answered.
#[derive(Debug, Clone, PartialEq)]
pub struct MarketReport {
    pub provider: Provider,
    pub state: MarketState,
    /// How old its offers are.
    pub age: Option<Duration>,
    pub fault: Option<String>,
    pub offers: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MarketState {
    /// It has just answered.
    Fresh,
    /// It answered a moment ago.
    Cached,
    /// It did not answer; offers are those of before, if there are any.
    Failed,
    /// It has not answered yet; offers are those of before, if there are any.
    Slow,
    /// It is not configured.
    Off,
}

impl MarketState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Cached => "cached",
            Self::Failed => "failed",
            Self::Slow => "slow",
            Self::Off => "off",
        }
    }
}

/// A place where one of the caller's own machines is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub rental: String,
    /// Inside the machine.
    pub port: u16,
    /// From outside: `http://203.0.113.42:40017`.
    pub url: String,
}

/// What somebody who looks after machines wants to be told.
#[derive(Debug, Clone)]
pub enum RentalNews {
    /// Nobody knows whether it was made.
    AmbiguousCreate(Arc<Rental>),
    /// It was, and is ours now.
    Found(Arc<Rental>),
    /// Its end begins, for the reason that it has.
    Ending(Arc<Rental>),
    DestroyFailing {
        rental: Arc<Rental>,
        failures: u32,
        since: Timestamp,
    },
    Ended(Arc<Rental>),
    /// Its provider names a higher price than was agreed, now or from then on. Nothing was accepted.
    PriceRise {
        rental: Arc<Rental>,
        to: UsdRate,
        at: Option<Timestamp>,
    },
    /// What is to be set aside for it no longer fits; it is destroyed before the limit is met.
    NearLimit {
        rental: Arc<Rental>,
        overrun: Box<Overrun>,
        left: Option<Duration>,
    },
    /// A provider shows nothing, though machines are there. They go on costing.
    Blind {
        provider: Provider,
        since: Timestamp,
        fault: String,
    },
    /// A machine with a label of ours that nobody rents any more; it is destroyed.
    Orphan {
        provider: Provider,
        machine: String,
        label: String,
    },
}

/// What a rental asks of the limits.
pub(crate) fn ask(amount: Usd, rate: UsdRate) -> Ask {
    Ask { amount, rate }
}

pub(crate) type Done<T> = Result<T, Failure>;
