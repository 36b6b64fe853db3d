//! RunPod: pods on its own and others' machines, paid by the second, over version 2 of its REST API.
//!
//! A pod has no label, so its name is ours (see `names`). What its disk costs the API does not tell: the configuration
//! does. A pod whose making ended in an error may be there and cost; only the list of all pods tells.

mod catalog;
mod judge;
mod pods;

use super::{
    ChargeQuery, Created, Destroyed, Machine, MachineState, Market, MarketFault, Order, PriceChange, Wanted, names,
    paced::Paced,
    tail,
    wire::{Answer, Api, Call, Key, Lost},
};
use catalog::OfferKey;
use forebay_domain::{
    market::{Offer, Provider},
    money::{Usd, UsdRate},
    port::BoxFuture,
};
use forebay_runtime::{Secret, SecretRef};
use http::{Method, StatusCode};
use pods::{Bill, Pod};
use reqwest::Client;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Value, json};
use url::Url;

/// The variable that holds the script which runs when a pod starts: RunPod takes a start's words apart itself, so the
/// script must not stand among them.
const ON_START: &str = "FOREBAY_ON_START";
const ARGS: &str = "sh -c 'eval \"$FOREBAY_ON_START\"'";
/// So many lines at most, by its documentation.
const LOG_LINES_MAX: u32 = 5_000;
/// Months have 720 hours, so that an hour is never too cheap.
const HOURS_OF_A_MONTH: i128 = 720;

/// RunPod, in the section `markets:` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunPodConfig {
    /// Where the API key stands. It must be allowed to read and write pods, and to read the catalogue and bills.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub api_key: SecretRef,
    /// The base address of its API, with the version.
    #[serde(default = "real", skip_serializing_if = "is_real")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub url: Url,
    /// What a GB of disk costs in a month, in US dollars: the API does not tell.
    #[serde(default = "disk_price", deserialize_with = "not_below_zero")]
    #[schemars(with = "f64", range(min = 0), extend("x-forebay-reload" = "live"))]
    pub disk_usd_per_gb_month: Usd,
}

fn real() -> Url {
    Url::parse("https://api.runpod.io/v2").expect("it is written here")
}

fn is_real(url: &Url) -> bool {
    *url == real()
}

/// A disk that gives money back would hide what the pod costs.
fn not_below_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Usd, D::Error> {
    let price = Usd::deserialize(deserializer)?;
    let fault = || de::Error::custom("a price is not below zero");
    Some(price).filter(|price| !price.is_negative()).ok_or_else(fault)
}

fn disk_price() -> Usd {
    Usd::from_micros(100_000)
}

/// The provider.
pub struct RunPod {
    api: Paced,
    disk_price: Usd,
}

impl RunPod {
    pub fn new(config: &RunPodConfig, key: Secret, http: Client) -> Self {
        Self {
            api: Paced::new(Api::new(http, &config.url, Key::Bearer(key))),
            disk_price: config.disk_usd_per_gb_month,
        }
    }

    fn get(path: impl Into<String>) -> Call {
        Call::new(Method::GET, path)
    }

    /// What a GET says, where it says something.
    async fn read(&self, call: Call) -> Result<Answer, MarketFault> {
        let answer = self.api.ask(call).await?;
        match answer.status {
            StatusCode::OK => Ok(answer),
            _ => Err(judge::fault(&answer)),
        }
    }

    /// What so much disk costs.
    fn disk_rate(&self, disk_gb: u32) -> UsdRate {
        let nanos = i128::from(self.disk_price.micros()) * 1_000 * i128::from(disk_gb);
        let hourly = (nanos + HOURS_OF_A_MONTH - 1).div_euclid(HOURS_OF_A_MONTH);
        UsdRate::from_nanos_per_hour(i64::try_from(hourly).unwrap_or(i64::MAX))
    }

    async fn ordered(&self, order: &Order) -> Result<Created, MarketFault> {
        let gone = || MarketFault::OfferGone(order.offer.clone());
        let key = OfferKey::parse(&order.offer).ok_or_else(gone)?;
        let name = names::name_of(&order.label);
        let name = name.ok_or_else(|| MarketFault::Refused("the label cannot be written as a name".to_owned()))?;
        let places = match &key.country {
            Some(country) => Some(self.places(&key, country).await?.ok_or_else(gone)?),
            None => None,
        };
        let call = Call::new(Method::POST, "/pods").json(body(order, &key, places, &name));
        match self.api.ask(call).await {
            Ok(answer) => Ok(judge::created(&answer)),
            Err(Lost { why, may_have_arrived }) if may_have_arrived => Ok(Created::Ambiguous { why, id: None }),
            Err(lost) => Err(lost.why),
        }
    }

    /// The data centres of a country that have this GPU now.
    async fn places(&self, key: &OfferKey, country: &str) -> Result<Option<Vec<String>>, MarketFault> {
        let gpu = self.gpu(key).await?;
        let places = gpu.map(|gpu| gpu.places(country)).unwrap_or_default();
        Ok(Some(places).filter(|places| !places.is_empty()))
    }

    async fn pods(&self) -> Result<Vec<Pod>, MarketFault> {
        Pod::list(&self.read(Self::get("/pods")).await?)
    }

    async fn one_pod(&self, id: &str) -> Result<Option<Pod>, MarketFault> {
        let answer = self.api.ask(Self::get(format!("/pods/{}", judge::id(id)?))).await?;
        if answer.status == StatusCode::NOT_FOUND && judge::is_problem(&answer) {
            // A 404 alone is no end: so is an API that has moved. The list has to agree.
            return Ok(self.pods().await?.into_iter().find(|pod| pod.id == id));
        }
        if answer.status != StatusCode::OK {
            return Err(judge::fault(&answer));
        }
        let pod = Pod::one(&answer)?;
        if pod.id != id {
            return Err(MarketFault::Broken("it answers with another pod".to_owned()));
        }
        Ok(Some(pod))
    }

    async fn ended(&self, id: &str) -> Result<Destroyed, MarketFault> {
        let call = Call::new(Method::DELETE, format!("/pods/{}", judge::id(id)?));
        let answer = self.api.ask(call).await?;
        if answer.status.is_success() {
            return judge::destroyed(&answer);
        }
        let why = judge::fault(&answer);
        let is_no = answer.status == StatusCode::NOT_FOUND && judge::is_problem(&answer);
        if !is_no && !matches!(why, MarketFault::Refused(_)) {
            return Err(why);
        }
        let pods = self.pods().await?;
        let pod = pods.iter().find(|pod| pod.id == id);
        if pod.is_none_or(|pod| pod.state() == MachineState::Ended) {
            Ok(Destroyed::Gone)
        } else {
            Err(why)
        }
    }

    fn machine_of(&self, pod: Pod) -> Machine {
        let state = pod.state();
        let rate = match (state, pod.disk) {
            (MachineState::Ended, _) => None,
            // A pod that has exited costs its disk.
            (MachineState::Stopped | MachineState::Exited, Some(disk)) => Some(self.disk_rate(disk)),
            _ => pod.rate(),
        };
        Machine {
            label: names::label_of(pod.name.as_deref().unwrap_or_default()),
            state,
            status: MarketFault::words(&pod.status),
            rate,
            paid: None,
            started_at: pod.started_at(),
            ends_at: None,
            endpoints: pod.endpoints(),
            id: pod.id,
        }
    }

    async fn billed(&self, query: &ChargeQuery) -> Result<Option<Usd>, MarketFault> {
        let call = Self::get("/billing/pods")
            .query("startTime", query.since.to_string())
            .query("endTime", query.until.to_string())
            .query("bucketSize", "hour")
            .query("podId", judge::id(&query.id)?);
        let answer = self.read(call).await?;
        Ok(Bill::read(&answer)?.of(&query.id, query.until))
    }

    async fn last_lines(&self, id: &str, lines: u32) -> Result<String, MarketFault> {
        let call = Self::get(format!("/pods/{}/logs", judge::id(id)?));
        let call = call.query("tail", lines.min(LOG_LINES_MAX).to_string());
        let read = tail::read(self.api.open(call).await?, lines).await?;
        read.map_err(|answer| judge::fault(&answer))
    }
}

/// What is sent to have a pod made. Keys that RunPod does not know it refuses; the number of GPUs is always said, since
/// pods without it have failed.
fn body(order: &Order, key: &OfferKey, places: Option<Vec<String>>, name: &str) -> Value {
    let mut env = order.env.clone();
    // It keeps no secrets apart that a key like ours could fill.
    env.extend(order.secrets.clone());
    env.extend(order.on_start.clone().map(|script| (ON_START.to_owned(), script)));
    let ports = order.ports.iter().map(|port| format!("{port}/http"));
    let mut body = json!({
        "name": name,
        "image": order.image,
        "gpu": { "id": key.gpu, "count": key.count },
        "cloud": key.cloud.as_str(),
        "disk": order.disk_gb.max(1),
        "env": env,
        "ports": ports.collect::<Vec<_>>(),
    });
    if order.on_start.is_some() {
        body["args"] = json!(ARGS);
    }
    if let Some(places) = places {
        body["dataCenterIds"] = json!(places);
    }
    body
}

impl Market for RunPod {
    fn provider(&self) -> Provider {
        Provider::RunPod
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
        Box::pin(async {
            let pods = self.pods().await?.into_iter();
            Ok(pods.map(|pod| self.machine_of(pod)).collect())
        })
    }

    fn machine<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Machine>, MarketFault>> {
        Box::pin(async { Ok(self.one_pod(id).await?.map(|pod| self.machine_of(pod))) })
    }

    fn destroy<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Destroyed, MarketFault>> {
        Box::pin(self.ended(id))
    }

    fn extend<'a>(&'a self, _id: &'a str, _hours: u32) -> BoxFuture<'a, Result<(), MarketFault>> {
        Box::pin(async { Err(MarketFault::Unsupported("sell time in advance")) })
    }

    fn extension_price<'a>(&'a self, _id: &'a str, _hours: u32) -> BoxFuture<'a, Result<Usd, MarketFault>> {
        Box::pin(async { Err(MarketFault::Unsupported("sell time in advance")) })
    }

    fn charged<'a>(&'a self, machine: &'a ChargeQuery) -> BoxFuture<'a, Result<Option<Usd>, MarketFault>> {
        Box::pin(self.billed(machine))
    }

    fn logs<'a>(&'a self, id: &'a str, lines: u32) -> BoxFuture<'a, Result<String, MarketFault>> {
        Box::pin(self.last_lines(id, lines))
    }

    /// It announces none; what a pod costs stands in its `cost`.
    fn price_changes(&self) -> BoxFuture<'_, Result<Vec<PriceChange>, MarketFault>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}
