//! vast.ai: machines of many hosts, by the second.
//!
//! Its traps, and what is done about them: prices without the disk (every search says which disk), 64 offers at most
//! whatever the limit (paged by price, over minutes), filters that are not always applied (all checked again), a 404 for a wrong key
//! (never taken for "gone"), creates without an idempotency key (asked once; anything but a clear yes or no is open until
//! the label is looked for), 429 in several shapes (each route keeps to its documented pace).

mod ask;
mod cards;
mod create;
mod known;
mod listing;
mod logs;
mod money;
mod offers;
mod read;

use super::{
    ChargeQuery, Created, Destroyed, Machine, Market, MarketFault, Order, PriceChange, Wanted,
    wire::{Api, Call, Key},
};
use ask::{Paces, Route, Told};
use forebay_domain::{
    market::{Offer, Provider},
    money::Usd,
    port::BoxFuture,
};
use forebay_runtime::{Clock, Secret, SecretRef, http::Guarded};
use http::Method;
use known::Known;
use listing::Listing;
use reqwest::Client;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

/// Machines whose charges are remembered.
const CHARGED_MAX: u64 = 10_000;
/// Nothing smaller is rented out.
const DISK_GB_MIN: u32 = 8;

/// Renting at vast.ai.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VastConfig {
    /// Where the account's API key stands. It needs the scopes misc, user_read, instance_read, instance_write and
    /// billing_read.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub api_key: SecretRef,
    /// The address of its API, for a proxy in front of it or for tests.
    #[serde(default = "real_url", skip_serializing_if = "is_real_url")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub url: Url,
}

fn real_url() -> Url {
    Url::parse("https://console.vast.ai").expect("a URL")
}

fn is_real_url(url: &Url) -> bool {
    *url == real_url()
}

/// The market vast.ai, with one account.
pub struct Vast {
    api: Api,
    clock: Clock,
    paces: Paces,
    /// For logs, which lie at somebody else's.
    guarded: Guarded,
    listing: Listing,
    known: Known,
    /// What it said last that it had charged, by the machine.
    charged: moka::sync::Cache<String, Usd>,
}

impl Vast {
    /// `http` is the client for what the operator configured.
    pub fn new(config: &VastConfig, key: Secret, http: Client, clock: Clock) -> Self {
        Self {
            api: Api::new(http, &config.url, Key::Bearer(key)),
            clock,
            paces: Paces::new(),
            guarded: logs::guarded(&config.url),
            listing: Listing::default(),
            known: Known::new(),
            charged: moka::sync::Cache::new(CHARGED_MAX),
        }
    }

    async fn read_machine(&self, id: &str) -> Result<Option<Machine>, MarketFault> {
        let id = contract(id)?;
        let call = Call::new(Method::GET, format!("/api/v0/instances/{id}/")).query("owner", "me");
        let body = match self.ask(Route::Show, call).await {
            Ok(body) => body,
            Err(Told::Gone(_)) => return Ok(None),
            Err(told) => return Err(told.into()),
        };
        match body.get("instances") {
            Some(Value::Null) => Ok(None),
            Some(row) => {
                let machine = read::machine(row).filter(|machine| machine.id == id.to_string());
                machine
                    .map(Some)
                    .ok_or_else(|| broken("it showed another instance than it was asked for"))
            }
            None => Err(broken("its answer about an instance does not say whether it is there")),
        }
    }

    async fn end(&self, id: &str) -> Result<Destroyed, MarketFault> {
        let id = contract(id)?;
        let call = Call::new(Method::DELETE, format!("/api/v0/instances/{id}/")).json(json!({}));
        let told = self.ask(Route::Destroy, call).await;
        self.listing.forget();
        match told {
            Ok(_) => Ok(Destroyed::Accepted),
            Err(Told::Gone(_)) => Ok(Destroyed::Gone),
            Err(told) => Err(told.into()),
        }
    }
}

impl Market for Vast {
    fn provider(&self) -> Provider {
        Provider::Vast
    }

    fn offers<'a>(&'a self, wanted: &'a Wanted) -> BoxFuture<'a, Result<Vec<Offer>, MarketFault>> {
        Box::pin(self.search(wanted))
    }

    fn offer<'a>(&'a self, id: &'a str, disk_gb: u32) -> BoxFuture<'a, Result<Option<Offer>, MarketFault>> {
        Box::pin(self.look_up(id, disk_gb))
    }

    fn create<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Created> {
        Box::pin(self.rent(order))
    }

    /// At most five seconds old. What was made or destroyed from here since then is never missing from it because of that.
    fn machines(&self) -> BoxFuture<'_, Result<Vec<Machine>, MarketFault>> {
        Box::pin(self.list())
    }

    fn machine<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Machine>, MarketFault>> {
        Box::pin(self.read_machine(id))
    }

    fn destroy<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Destroyed, MarketFault>> {
        Box::pin(self.end(id))
    }

    fn extend<'a>(&'a self, _id: &'a str, _hours: u32) -> BoxFuture<'a, Result<(), MarketFault>> {
        Box::pin(async { Err(NOTHING_PREPAID) })
    }

    fn extension_price<'a>(&'a self, _id: &'a str, _hours: u32) -> BoxFuture<'a, Result<Usd, MarketFault>> {
        Box::pin(async { Err(NOTHING_PREPAID) })
    }

    fn charged<'a>(&'a self, machine: &'a ChargeQuery) -> BoxFuture<'a, Result<Option<Usd>, MarketFault>> {
        Box::pin(self.charges(machine))
    }

    fn logs<'a>(&'a self, id: &'a str, lines: u32) -> BoxFuture<'a, Result<String, MarketFault>> {
        Box::pin(self.read_log(id, lines))
    }

    fn price_changes(&self) -> BoxFuture<'_, Result<Vec<PriceChange>, MarketFault>> {
        Box::pin(self.pending_rises())
    }
}

const NOTHING_PREPAID: MarketFault = MarketFault::Unsupported("extend a machine, since it is paid while it runs");

/// Ids of instances are numbers, and stand in paths.
fn contract(id: &str) -> Result<u64, MarketFault> {
    let known = id
        .parse()
        .ok()
        .filter(|number: &u64| *number > 0 && number.to_string() == id);
    known.ok_or_else(|| MarketFault::Refused(format!("{:?} is no id of an instance there", MarketFault::words(id))))
}

fn broken(why: &str) -> MarketFault {
    MarketFault::Broken(why.to_owned())
}
