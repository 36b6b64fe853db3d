//! What io.net answers, as it is read: nothing is believed that was not checked here.
//!
//! Its specifications disagree with each other, so the reading is lenient where that costs nothing (an envelope or none,
//! numbers as texts, times without a zone) and strict where money or a machine depends on it.

use crate::market::{
    MachineState, MarketFault,
    said::{amount, time},
};
use forebay_domain::money::Usd;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{fmt, time::Duration};

const HOUR: u64 = 3_600;

/// An id of hardware or a place: a number with io.net's own machines, a text with its partners'.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum IntOrText {
    Int(u64),
    Text(String),
}

impl fmt::Display for IntOrText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// JSON within its envelope `{"data": …}`, or without one.
pub(super) fn unwrapped(body: &[u8]) -> Result<Value, MarketFault> {
    let value: Value = serde_json::from_slice(body).map_err(|_| MarketFault::Broken("no JSON".to_owned()))?;
    Ok(match value {
        Value::Object(mut fields)
            if fields
                .get("data")
                .is_some_and(|data| data.is_object() || data.is_array()) =>
        {
            fields.remove("data").unwrap_or_default()
        }
        other => other,
    })
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, MarketFault> {
    parsed(unwrapped(body)?)
}

pub(super) fn parsed<T: DeserializeOwned>(value: Value) -> Result<T, MarketFault> {
    serde_json::from_value(value).map_err(|error| MarketFault::Broken(MarketFault::words(&error.to_string())))
}

/// A number of minutes, as a whole or a broken one.
fn minutes(value: Option<f64>) -> Option<Duration> {
    Duration::try_from_secs_f64(value? * 60.0).ok()
}

/// Time is bought in whole hours, of which minutes that were rounded one by one may miss some.
pub(super) fn in_hours(bought: Duration) -> Duration {
    const MISSED_MAX: u64 = 120;
    let (hours, over) = (bought.as_secs() / HOUR, bought.as_secs() % HOUR);
    match over {
        0..=MISSED_MAX if hours > 0 => Duration::from_secs(hours * HOUR),
        over if over >= HOUR - MISSED_MAX => Duration::from_secs(hours.saturating_add(1).saturating_mul(HOUR)),
        _ => bought,
    }
}

/// What is null is not there.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A machine with its price: a row of the hardware that is there to be rented.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Hardware {
    pub(super) deploy_id: IntOrText,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    num_cards: Value,
    #[serde(default, deserialize_with = "or_default")]
    sold_out: bool,
    #[serde(default)]
    price: Value,
    #[serde(default)]
    vram_per_card: Option<f64>,
    #[serde(default)]
    pub(super) storage: Option<f64>,
    #[serde(default)]
    pub(super) vcpu: Option<f64>,
    #[serde(default)]
    pub(super) memory: Option<f64>,
    #[serde(default)]
    pub(super) location: Option<String>,
    #[serde(default)]
    pub(super) supplier: Option<String>,
}

#[derive(Deserialize)]
struct HardwareList {
    hardware: Vec<Value>,
}

impl Hardware {
    /// All rows that can be rented. A row that cannot be read is not offered.
    pub(super) fn list(body: &[u8]) -> Result<Vec<Self>, MarketFault> {
        let list: HardwareList = parse(body)?;
        let rows = list
            .hardware
            .into_iter()
            .filter_map(|row| serde_json::from_value::<Self>(row).ok());
        Ok(rows.filter(Self::can_be_rented).collect())
    }

    fn can_be_rented(&self) -> bool {
        !self.sold_out && self.cards() > 0 && self.price().is_some_and(|price| price > Usd::ZERO)
    }

    pub(super) fn cards(&self) -> u32 {
        self.num_cards
            .as_u64()
            .and_then(|cards| u32::try_from(cards).ok())
            .unwrap_or(0)
    }

    /// Of an hour of the whole, without io.net's fee.
    pub(super) fn price(&self) -> Option<Usd> {
        amount(&self.price)
    }

    /// Of one card, in GB as it is sold.
    pub(super) fn vram_gb(&self) -> u32 {
        whole(self.vram_per_card)
    }

    /// How much disk comes with it; it cannot be had otherwise.
    pub(super) fn disk_gb(&self) -> Option<u32> {
        self.storage.map(|gb| whole(Some(gb)))
    }
}

/// A size in whole GB; nonsense is none.
fn whole(gb: Option<f64>) -> u32 {
    let seconds = gb.and_then(|gb| Duration::try_from_secs_f64(gb).ok());
    seconds
        .and_then(|seconds| u32::try_from(seconds.as_secs()).ok())
        .unwrap_or(0)
}

/// Which hardware runs containers.
#[derive(Debug, Deserialize)]
pub(super) struct ContainerHardware {
    pub(super) hardware_id: IntOrText,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) max_gpus_per_container: u32,
}

#[derive(Deserialize)]
struct ContainerHardwareList {
    hardware: Vec<Value>,
}

impl ContainerHardware {
    pub(super) fn list(body: &[u8]) -> Result<Vec<Self>, MarketFault> {
        let list: ContainerHardwareList = parse(body)?;
        Ok(list
            .hardware
            .into_iter()
            .filter_map(|row| serde_json::from_value(row).ok())
            .collect())
    }
}

/// A place, and how many containers of the asked kind it has room for.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Place {
    pub(super) id: IntOrText,
    #[serde(default)]
    pub(super) iso2: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) available_replicas: u64,
}

impl Place {
    pub(super) fn list(body: &[u8]) -> Result<Vec<Self>, MarketFault> {
        parse(body)
    }

    /// Whether it is the one that an offer names: by its id, or by its country.
    pub(super) fn is(&self, location: &str) -> bool {
        let country = self
            .iso2
            .as_deref()
            .is_some_and(|iso2| iso2.eq_ignore_ascii_case(location));
        country || self.id.to_string() == location
    }
}

/// What a time of it costs, all in.
#[derive(Debug, Deserialize)]
pub(super) struct Price {
    total_cost_usdc: Value,
    #[serde(default, deserialize_with = "or_default")]
    available_replica_count: Vec<u64>,
    #[serde(default)]
    ionet_fee_percent: Value,
    #[serde(default)]
    currency_conversion_fee_percent: Value,
}

impl Price {
    pub(super) fn total(&self) -> Result<Usd, MarketFault> {
        let total = amount(&self.total_cost_usdc).filter(|total| *total > Usd::ZERO);
        total.ok_or_else(|| MarketFault::Broken("a price that is none".to_owned()))
    }

    /// `false` only where it is said.
    pub(super) fn has_room(&self) -> bool {
        self.available_replica_count.is_empty() || self.available_replica_count.iter().any(|count| *count > 0)
    }

    /// What is put on top of the price of the hardware, where it is said.
    pub(super) fn fee(&self) -> Option<Fee> {
        let exchange = amount(&self.currency_conversion_fee_percent).unwrap_or_default();
        let percent = amount(&self.ionet_fee_percent)?.saturating_add(exchange);
        Some(Fee {
            percent_micros: percent.micros(),
        })
    }
}

/// A share of a price, in millionths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fee {
    percent_micros: i64,
}

impl Fee {
    /// The price with it, rounded up.
    pub(super) fn on(self, price: Usd) -> Option<Usd> {
        const WHOLE: i128 = 100_000_000;
        let all_in = i128::from(price.micros()).checked_mul(WHOLE + i128::from(self.percent_micros))?;
        i64::try_from((all_in + WHOLE - 1) / WHOLE).ok().map(Usd::from_micros)
    }
}

/// One row of the list of deployments.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) status: String,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    compute_minutes_served: Option<f64>,
    #[serde(default)]
    compute_minutes_remaining: Option<f64>,
}

impl Listed {
    pub(super) fn started_at(&self) -> Option<Timestamp> {
        time(self.created_at.as_deref())
    }

    pub(super) fn ends_at(&self) -> Option<Timestamp> {
        let bought = minutes(self.compute_minutes_served)?.checked_add(minutes(self.compute_minutes_remaining)?)?;
        self.started_at()?.checked_add(in_hours(bought)).ok()
    }
}

/// One page of them.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub(super) deployments: Vec<Listed>,
    pub(super) total: usize,
}

/// One deployment. It does not say its name.
#[derive(Debug, Deserialize)]
pub(super) struct Detail {
    pub(super) id: String,
    pub(super) status: String,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    started_at: Option<String>,
    #[serde(default)]
    finished_at: Option<String>,
    #[serde(default)]
    amount_paid: Value,
    #[serde(default)]
    compute_minutes_served: Option<f64>,
    #[serde(default)]
    compute_minutes_remaining: Option<f64>,
    #[serde(default)]
    pub(super) hardware_id: Option<IntOrText>,
    #[serde(default)]
    pub(super) gpus_per_container: Option<u32>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) locations: Vec<Place>,
    #[serde(default)]
    container_config: Option<ContainerConfig>,
}

#[derive(Debug, Deserialize)]
struct ContainerConfig {
    #[serde(default)]
    traffic_port: Option<u16>,
}

impl Detail {
    pub(super) fn port(&self) -> Option<u16> {
        self.container_config.as_ref()?.traffic_port
    }

    pub(super) fn paid(&self) -> Option<Usd> {
        amount(&self.amount_paid)
    }

    pub(super) fn started_at(&self) -> Option<Timestamp> {
        time(self.started_at.as_deref()).or_else(|| time(self.created_at.as_deref()))
    }

    pub(super) fn served(&self) -> Option<Duration> {
        minutes(self.compute_minutes_served)
    }

    /// The time that was paid for, in all.
    pub(super) fn bought(&self) -> Option<Duration> {
        self.served()?.checked_add(minutes(self.compute_minutes_remaining)?)
    }

    /// When it ends by itself, or when it has ended.
    pub(super) fn ends_at(&self) -> Option<Timestamp> {
        let ended = time(self.finished_at.as_deref());
        ended.or_else(|| self.started_at()?.checked_add(in_hours(self.bought()?)).ok())
    }
}

/// The containers of a deployment.
#[derive(Debug, Deserialize)]
pub(super) struct Containers {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) workers: Vec<Worker>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Worker {
    pub(super) container_id: String,
    /// Null until it is well.
    #[serde(default)]
    pub(super) public_url: Option<String>,
}

/// What a status means. One that nobody has told us of is of a machine that is there, and may well cost.
pub(super) fn state(status: &str) -> MachineState {
    let plain = status.trim().to_ascii_lowercase().replace(['_', '-'], " ");
    match plain.as_str() {
        "running" => MachineState::Running,
        "failed" => MachineState::Failed,
        "termination requested" => MachineState::Ending,
        "completed" | "destroyed" => MachineState::Ended,
        _ => MachineState::Starting,
    }
}
