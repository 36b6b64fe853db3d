//! io.net: containers on its own machines and its partners', paid for whole hours before they begin.
//!
//! A deployment ends by itself when its hours are over, which is the best of all ends: it is made for one hour and
//! extended while it is wanted. Its name is our label (see `names`); the first hour is never given back.
//! Times of a deployment and what was paid for it are io.net's own; nothing is counted here.

mod judge;
mod offers;
mod read;
mod shape;

use super::{
    ChargeQuery, Created, Destroyed, Machine, Market, MarketFault, Order, PriceChange, Wanted, names,
    paced::Paced,
    tail,
    wire::{Answer, Api, Call, Key, Lost},
};
use forebay_domain::{
    market::{Offer, Provider},
    money::Usd,
    port::BoxFuture,
};
use forebay_runtime::{Secret, SecretRef};
use http::{HeaderName, Method};
use offers::OfferKey;
use reqwest::Client;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use shape::{Fee, Place, Price};
use std::sync::{Mutex, MutexGuard};
use url::Url;

const CONTAINERS: &str = "/enterprise/v1/io-cloud/caas";
const MACHINES: &str = "/enterprise/v1/io-cloud/vmaas";
/// What a container serves where nobody names a port; io.net wants one.
const PORT: u16 = 8_000;
/// A container has one address.
const PORTS_MAX: usize = 1;
/// Deployments of ours whose names and payments are remembered.
const SEEN_MAX: u64 = 10_000;

/// io.net, in the section `markets:` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IoNetConfig {
    /// Where the API key stands. It must belong to io.net's project `io-cloud`.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub api_key: SecretRef,
    /// The base address of its API.
    #[serde(default = "real", skip_serializing_if = "is_real")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub url: Url,
}

fn real() -> Url {
    Url::parse("https://api.io.solutions").expect("it is written here")
}

fn is_real(url: &Url) -> bool {
    *url == real()
}

/// The provider.
pub struct IoNet {
    api: Paced,
    seen: moka::sync::Cache<String, Seen>,
    fee: Mutex<Option<Fee>>,
}

/// What is remembered of a deployment. Its detail says no name, and may say less of what was paid after a refund.
#[derive(Debug, Clone, Default)]
struct Seen {
    label: String,
    paid: Option<Usd>,
    /// It cannot be ended any further, whatever its status.
    is_over: bool,
    /// As its detail last said it.
    machine: Option<Machine>,
}

impl IoNet {
    pub fn new(config: &IoNetConfig, key: Secret, http: Client) -> Self {
        let header = HeaderName::from_static("x-api-key");
        Self {
            api: Paced::new(Api::new(http, &config.url, Key::Header(header, key))),
            seen: moka::sync::Cache::new(SEEN_MAX),
            fee: Mutex::default(),
        }
    }

    /// What a GET says, where it says something.
    async fn read(&self, call: Call) -> Result<Answer, MarketFault> {
        let answer = self.api.ask(call).await?;
        if answer.status == http::StatusCode::OK {
            Ok(answer)
        } else {
            Err(judge::fault(&answer))
        }
    }

    fn get(path: &str) -> Call {
        Call::new(Method::GET, format!("{CONTAINERS}{path}"))
    }

    fn fee(&self) -> MutexGuard<'_, Option<Fee>> {
        self.fee.lock().expect("nobody panics with a number")
    }

    /// The place that an offer names, if it has room.
    async fn place(&self, key: &OfferKey) -> Result<Option<Place>, MarketFault> {
        let call = Self::get("/available-replicas")
            .query("hardware_id", key.hardware.to_string())
            .query("hardware_qty", key.gpus.to_string());
        let answer = self.api.ask(call).await?;
        if answer.status == http::StatusCode::NOT_FOUND && judge::says_something(&answer) {
            return Ok(None);
        }
        if answer.status != http::StatusCode::OK {
            return Err(judge::fault(&answer));
        }
        let mut places = Place::list(&answer.body)?.into_iter();
        Ok(places.find(|place| place.is(&key.location) && place.available_replicas > 0))
    }

    /// What so many hours of one container cost there; `None` where there is no room.
    async fn price(&self, key: &OfferKey, place: &Place, hours: u32) -> Result<Option<Price>, MarketFault> {
        let call = Self::get("/price")
            .query("location_ids", json!([place.id]).to_string())
            .query("hardware_id", key.hardware.to_string())
            .query("duration_hours", hours.to_string())
            .query("gpus_per_container", key.gpus.to_string())
            .query("replica_count", "1");
        let answer = self.api.ask(call).await?;
        if judge::is_no_room(&answer) {
            return Ok(None);
        }
        if answer.status != http::StatusCode::OK {
            return Err(judge::fault(&answer));
        }
        let price: Price = shape::parse(&answer.body)?;
        if let Some(fee) = price.fee() {
            *self.fee() = Some(fee);
        }
        Ok(price.has_room().then_some(price))
    }

    async fn ordered(&self, order: &Order) -> Result<Created, MarketFault> {
        let gone = || MarketFault::OfferGone(order.offer.clone());
        let key = OfferKey::parse(&order.offer).ok_or_else(gone)?;
        if order.ports.len() > PORTS_MAX {
            return Err(MarketFault::Unsupported("reach more than one port of a container"));
        }
        let name = names::name_of(&order.label);
        let name = name.ok_or_else(|| MarketFault::Refused("the label cannot be written as a name".to_owned()))?;
        let place = self.place(&key).await?.ok_or_else(gone)?;
        let call = Call::new(Method::POST, format!("{CONTAINERS}/deploy")).json(body(order, &key, &place, &name));
        let created = match self.api.ask(call).await {
            Ok(answer) => judge::created(&answer),
            Err(Lost { why, may_have_arrived }) if may_have_arrived => Created::Ambiguous { why, id: None },
            Err(lost) => return Err(lost.why),
        };
        if let Created::Confirmed { id } = &created {
            self.remember(id, |seen| seen.label.clone_from(&order.label));
        }
        Ok(created)
    }

    fn remember(&self, id: &str, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen.get(id).unwrap_or_default();
        change(&mut seen);
        self.seen.insert(id.to_owned(), seen);
    }

    async fn ended(&self, id: &str) -> Result<Destroyed, MarketFault> {
        let path = format!("{CONTAINERS}/deployment/{}", judge::id(id)?);
        let answer = self.api.ask(Call::new(Method::DELETE, path)).await?;
        if answer.status.is_success() {
            return judge::destroyed(&answer);
        }
        let why = judge::fault(&answer);
        let is_no = answer.status == http::StatusCode::NOT_FOUND || matches!(why, MarketFault::Refused(_));
        // One that has ended cannot be ended again, and nobody says in which words that is refused.
        if is_no && self.is_over(id).await? {
            self.remember(id, |seen| seen.is_over = true);
            Ok(Destroyed::Gone)
        } else {
            Err(why)
        }
    }

    async fn more_hours(&self, id: &str, hours: u32) -> Result<(), MarketFault> {
        let path = format!("{CONTAINERS}/deployment/{}/extend", judge::id(id)?);
        let call = Call::new(Method::POST, path).json(json!({ "duration_hours": hours.max(1) }));
        judge::extended(&self.api.ask(call).await?)
    }

    async fn price_of_more(&self, id: &str, hours: u32) -> Result<Usd, MarketFault> {
        let detail = self.detail(id).await?;
        let detail = detail.ok_or_else(|| MarketFault::Refused("there is no such deployment".to_owned()))?;
        let incomplete = || MarketFault::Broken("a deployment without its hardware or place".to_owned());
        let (Some(hardware), Some(gpus)) = (detail.hardware_id.clone(), detail.gpus_per_container) else {
            return Err(incomplete());
        };
        let place = detail.locations.first().ok_or_else(incomplete)?;
        let key = OfferKey {
            hardware,
            gpus,
            location: place.id.to_string(),
        };
        let price = self.price(&key, place, hours.max(1)).await?;
        price.ok_or_else(|| MarketFault::OfferGone(key.to_string()))?.total()
    }

    /// What stays paid. After an early end that is the first hour or the time that it ran, whichever is more; unless the
    /// amount itself has shrunk, which then is what stays.
    async fn stays_paid(&self, query: &ChargeQuery) -> Result<Option<Usd>, MarketFault> {
        let seen = || self.seen.get(&query.id).and_then(|seen| seen.paid);
        let before = query.paid_before.or_else(seen);
        let detail = self.detail(&query.id).await?;
        Ok(detail.and_then(|detail| offers::stays_paid(&detail, before)))
    }

    async fn last_lines(&self, id: &str, lines: u32) -> Result<String, MarketFault> {
        let containers = self.containers(judge::id(id)?).await?;
        let Some(worker) = containers.workers.first() else {
            return Ok(String::new());
        };
        let path = format!("/deployment/{id}/log/{}", judge::id(&worker.container_id)?);
        let mut parts = Vec::new();
        for stream in ["stdout", "stderr"] {
            let opened = self.api.open(Self::get(&path).query("stream", stream)).await?;
            let read = tail::read(opened, lines).await?;
            parts.push(read.map_err(|answer| judge::fault(&answer))?);
        }
        parts.retain(|part| !part.is_empty());
        Ok(parts.join("\n"))
    }
}

/// What is sent to have one container made. What io.net does not know it refuses, so nothing else may stand here.
fn body(order: &Order, key: &OfferKey, place: &Place, name: &str) -> Value {
    let mut container = Map::new();
    container.insert("replica_count".to_owned(), json!(1));
    container.insert(
        "traffic_port".to_owned(),
        json!(order.ports.first().copied().unwrap_or(PORT)),
    );
    container.insert("env_variables".to_owned(), json!(order.env));
    container.insert("secret_env_variables".to_owned(), json!(order.secrets));
    if let Some(script) = &order.on_start {
        // There is no hook beside an image's own start: the script is the start.
        container.insert("entrypoint".to_owned(), json!(["/bin/sh", "-c"]));
        container.insert("args".to_owned(), json!([script]));
    }
    json!({
        "resource_private_name": name,
        "duration_hours": order.hours.max(1),
        "gpus_per_container": key.gpus,
        "hardware_id": key.hardware,
        "location_ids": [place.id],
        "container_config": container,
        "registry_config": { "image_url": order.image },
    })
}

impl Market for IoNet {
    fn provider(&self) -> Provider {
        Provider::IoNet
    }

    fn ports_max(&self) -> usize {
        PORTS_MAX
    }

    fn offers<'a>(&'a self, wanted: &'a Wanted) -> BoxFuture<'a, Result<Vec<Offer>, MarketFault>> {
        Box::pin(self.all_offers(wanted))
    }

    fn offer<'a>(&'a self, id: &'a str, disk_gb: u32) -> BoxFuture<'a, Result<Option<Offer>, MarketFault>> {
        Box::pin(self.one_offer(id, disk_gb))
    }

    fn create<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Created> {
        Box::pin(async { self.ordered(order).await.unwrap_or_else(Created::Refused) })
    }

    fn machines(&self) -> BoxFuture<'_, Result<Vec<Machine>, MarketFault>> {
        Box::pin(self.all_machines())
    }

    fn machine<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Machine>, MarketFault>> {
        Box::pin(self.one_machine(id))
    }

    fn destroy<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Destroyed, MarketFault>> {
        Box::pin(self.ended(id))
    }

    fn extend<'a>(&'a self, id: &'a str, hours: u32) -> BoxFuture<'a, Result<(), MarketFault>> {
        Box::pin(self.more_hours(id, hours))
    }

    fn extension_price<'a>(&'a self, id: &'a str, hours: u32) -> BoxFuture<'a, Result<Usd, MarketFault>> {
        Box::pin(self.price_of_more(id, hours))
    }

    fn charged<'a>(&'a self, machine: &'a ChargeQuery) -> BoxFuture<'a, Result<Option<Usd>, MarketFault>> {
        Box::pin(self.stays_paid(machine))
    }

    fn logs<'a>(&'a self, id: &'a str, lines: u32) -> BoxFuture<'a, Result<String, MarketFault>> {
        Box::pin(self.last_lines(id, lines))
    }

    /// Hours that were bought have their price.
    fn price_changes(&self) -> BoxFuture<'_, Result<Vec<PriceChange>, MarketFault>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}
