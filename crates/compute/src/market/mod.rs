//! One provider of machines, as the rest of the gateway sees it.
//!
//! Three things are kept apart everywhere: what a provider *definitely* did, what it *definitely* did not do, and what
//! nobody knows. Creating is never repeated blindly, and a machine is gone only where its provider says that this
//! machine is gone, to somebody who was let in.

mod fault;
mod fit;
pub mod ionet;
pub mod local;
mod names;
mod paced;
pub mod runpod;
mod said;
mod tail;
pub mod vast;
pub mod wire;

pub use fault::MarketFault;

use forebay_domain::{
    market::{Offer, Provider},
    money::{Usd, UsdRate},
    port::BoxFuture,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// One provider. All of its calls are bounded in time and size; dropping a future ends the call, which for
/// [`Market::create`] makes it ambiguous.
pub trait Market: Send + Sync {
    fn provider(&self) -> Provider;

    /// Every offer that fits, cheapest first, as far as the provider's pages go.
    fn offers<'a>(&'a self, wanted: &'a Wanted) -> BoxFuture<'a, Result<Vec<Offer>, MarketFault>>;

    /// One offer, read anew and priced with so much disk; `None` where it is no longer there.
    fn offer<'a>(&'a self, id: &'a str, disk_gb: u32) -> BoxFuture<'a, Result<Option<Offer>, MarketFault>>;

    /// How many ports of a machine others can be let reach.
    fn ports_max(&self) -> usize {
        usize::MAX
    }

    /// Rents it. Asks the provider once, whatever happens.
    fn create<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Created>;

    /// All machines of the account, whoever made them. `Ok` only for a complete and authenticated listing.
    fn machines(&self) -> BoxFuture<'_, Result<Vec<Machine>, MarketFault>>;

    /// For how long a machine that was just made may be missing from them.
    fn list_lag(&self) -> Duration {
        LIST_LAG
    }

    /// One machine; `None` only where the provider says that this one does not exist.
    fn machine<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Machine>, MarketFault>>;

    /// Asks for its end. That it is accepted is not that it is gone.
    fn destroy<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Destroyed, MarketFault>>;

    /// Buys more time of a prepaid machine; asks the provider once.
    fn extend<'a>(&'a self, id: &'a str, hours: u32) -> BoxFuture<'a, Result<(), MarketFault>>;

    /// What so many more hours of this machine cost, where that is paid before.
    fn extension_price<'a>(&'a self, id: &'a str, hours: u32) -> BoxFuture<'a, Result<Usd, MarketFault>>;

    /// What the provider itself has charged for it so far; `None` where it does not say (yet).
    fn charged<'a>(&'a self, machine: &'a ChargeQuery) -> BoxFuture<'a, Result<Option<Usd>, MarketFault>>;

    /// The last lines of its log.
    fn logs<'a>(&'a self, id: &'a str, lines: u32) -> BoxFuture<'a, Result<String, MarketFault>>;

    /// Prices that the provider wants to raise. Never accepted from here.
    fn price_changes(&self) -> BoxFuture<'_, Result<Vec<PriceChange>, MarketFault>>;
}

/// What somebody looks for. Providers may check less: whoever lists checks again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// Part of the GPU's name, ignoring case and spaces.
    pub gpu: Option<String>,
    /// Of one GPU, nominal.
    pub vram_gb_min: Option<u32>,
    pub gpus_min: Option<u32>,
    pub rate_max: Option<UsdRate>,
    pub reliability_min: Option<f64>,
    /// ISO 3166-1, two letters.
    pub country: Option<String>,
    /// Priced with so much disk.
    pub disk_gb: u32,
    /// Not more of them than this.
    pub limit: usize,
}

/// What is rented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The offer, by the provider's own id.
    pub offer: String,
    /// Found again by it, whatever becomes of the answer: `fb:<tenant>:<ulid>`, unique for ever.
    pub label: String,
    pub image: String,
    pub disk_gb: u32,
    /// Not secret.
    pub env: BTreeMap<String, String>,
    /// Never logged, never shown; in a provider's secret store where it has one.
    pub secrets: BTreeMap<String, String>,
    /// TCP ports that are to be reached.
    pub ports: Vec<u16>,
    /// A shell script that runs when the machine starts.
    pub on_start: Option<String>,
    /// Where time is paid before it begins.
    pub hours: u32,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It is there, under this id.
    Confirmed { id: String },
    /// It is not there, and nothing will be charged.
    Refused(MarketFault),
    /// Nobody knows; where the provider named an id with its error, it may be that one. Found out by the label.
    Ambiguous { why: MarketFault, id: Option<String> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destroyed {
    /// It will be gone.
    Accepted,
    /// There is no such machine any more.
    Gone,
}

/// A machine of the account.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// The provider's own id.
    pub id: String,
    /// What its creator called it; empty where nobody did, or the provider does not say.
    pub label: String,
    pub state: MachineState,
    /// As the provider words it.
    pub status: String,
    /// What it costs now; `None` where the provider does not say.
    pub rate: Option<UsdRate>,
    /// What was paid for it before, in all.
    pub paid: Option<Usd>,
    pub started_at: Option<Timestamp>,
    /// When the provider ends it by itself.
    pub ends_at: Option<Timestamp>,
    /// Where its ports are reached: `http://203.0.113.42:40017`, by the port inside.
    pub endpoints: BTreeMap<u16, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    Starting,
    Running,
    /// It is there and does not work; its disk may cost on.
    Stopped,
    /// It will not run by itself.
    Failed,
    /// What it ran has ended by itself; its disk may cost on.
    Exited,
    /// Its end is under way.
    Ending,
    /// The provider keeps the record of one that is no more.
    Ended,
}

/// Which charges are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeQuery {
    pub id: String,
    pub label: String,
    pub since: Timestamp,
    pub until: Timestamp,
    /// What was posted for it so far, by our own ledger: what was paid where time is paid before, or what it came to.
    pub paid_before: Option<Usd>,
    /// Nobody will ask again.
    pub is_last: bool,
}

/// A price that is to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceChange {
    pub id: String,
    pub from: UsdRate,
    pub to: UsdRate,
    pub at: Option<Timestamp>,
}

/// Lists of what runs elsewhere lag behind for so long.
pub const LIST_LAG: Duration = Duration::from_mins(1);

/// How long any one call of a provider may take.
pub const CALL_TIME_MAX: Duration = Duration::from_secs(30);
