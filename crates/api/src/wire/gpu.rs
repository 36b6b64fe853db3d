//! Machines: what is for rent, what was quoted, and what somebody has. Prices are US dollars.

use forebay_domain::{
    market::{OfferId, Provider},
    money::Usd,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// What somebody looks for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GpuOfferQuery {
    /// `vast.ai`, `io.net`, `runpod`, `local`, or `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Memory of one GPU, in GB, in the sizes that cards are sold as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_vram: Option<f64>,
    /// The highest price of an hour, all in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<f64>)]
    pub max_price: Option<Usd>,
    /// Part of the GPU's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_gpus: Option<u32>,
    /// From 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_reliability: Option<f64>,
    /// Two letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Priced with so much disk, in GB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_gb: Option<u32>,
    /// At most so many; 100 where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A machine that can be rented.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GpuOffer {
    /// `vast.ai:21874411`.
    #[schema(value_type = String)]
    pub id: OfferId,
    #[schema(value_type = String)]
    pub provider: Provider,
    /// The provider's own id of the offer.
    pub instance_id: String,
    /// As the trade calls it; empty for a share of a CPU.
    pub gpu: String,
    pub gpus: u32,
    /// Of one GPU, in the size that it is sold as.
    pub vram_gb: u32,
    /// All in: every GPU, and the disk.
    #[schema(value_type = f64)]
    pub price_per_hour_usd: Usd,
    pub disk_gb: u32,
    /// `accrues`, or `prepaid` in whole hours.
    pub billing: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_gb: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reliability: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// How long it can be had at most, in hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_hours: Option<u64>,
}

/// What is for rent, the cheapest first, and how each provider answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GpuOfferList {
    pub offers: Vec<GpuOffer>,
    pub providers: Vec<GpuMarket>,
}

/// How one provider answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GpuMarket {
    #[schema(value_type = String)]
    pub provider: Provider,
    /// `fresh`, `cached`, `failed`, `slow` or `off`.
    pub state: String,
    /// How many of its offers there were, before the list was cut.
    pub offers: usize,
    /// How old they are, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// What is to be quoted, or rented.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GpuCreate {
    /// The offer by its whole id, `vast.ai:21874411`; or `provider` and `instance_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The provider's own id of the offer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// A quote, instead of an offer. Whatever else is said here has to agree with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quote_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_gb: Option<u32>,
    /// How long it lives at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hours: Option<u32>,
    /// It is destroyed once nobody has used it through the gateway for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_minutes: Option<u32>,
    /// TCP ports that are to be reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// Not secret.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The same key rents once. Over REST the header `Idempotency-Key` says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Say what would happen, and rent nothing.
    pub dry_run: bool,
}

/// What renting would cost, promised for a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GpuQuote {
    pub id: String,
    pub offer: GpuOffer,
    pub image: String,
    pub disk_gb: u32,
    /// How long it lives at most.
    pub hours: f64,
    #[schema(value_type = f64)]
    pub price_per_hour_usd: Usd,
    /// Set aside, or paid, at once.
    #[schema(value_type = f64)]
    pub first_hold_usd: Usd,
    /// Over its whole lifetime.
    #[schema(value_type = f64)]
    pub most_usd: Usd,
    pub expires_at: Timestamp,
    /// Somebody has to agree before it is rented.
    pub needs_approval: bool,
    /// Whether the limits would let it in now.
    pub allowed: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What became of a wish to rent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GpuCreated {
    /// `rented`, `dry_run` or `needs_approval`.
    pub outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<GpuInstance>,
    /// What it would cost; where it needs approval, rent this quote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<GpuQuote>,
}

/// A machine that was rented.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GpuInstance {
    pub id: String,
    #[schema(value_type = String)]
    pub provider: Provider,
    /// The provider's own id of it, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// The offer that it was made of.
    #[schema(value_type = String)]
    pub offer_id: OfferId,
    /// `intended`, `creating`, `finding_out`, `up`, `destroying`, `refused` or `gone`.
    pub state: String,
    /// As its provider words it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    pub gpu: String,
    pub gpus: u32,
    pub vram_gb: u32,
    pub image: String,
    pub disk_gb: u32,
    /// What was agreed on.
    #[schema(value_type = f64)]
    pub price_per_hour_usd: Usd,
    /// What its provider asks for now, where that is more and it is paid by the time. Nobody has agreed to it, and limits are judged by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub price_now_per_hour_usd: Option<Usd>,
    /// Posted for it so far.
    #[schema(value_type = f64)]
    pub spent_usd: Usd,
    pub created_at: Timestamp,
    /// When it is destroyed at the latest.
    pub ends_by: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Why it ends, or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The last thing that went wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Where its ports are reached.
    pub endpoints: Vec<GpuEndpoint>,
    /// `none` where there is no address of the gateway that it could come home to, `waited_for`, or `reported`.
    pub agent: String,
    /// When it reported itself last: once, and again where its container was started again on the same disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_reported_at: Option<Timestamp>,
    pub tenant: String,
    /// Who rented it.
    pub subject: String,
}

/// Where a port of a machine is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GpuEndpoint {
    /// Inside the machine.
    pub port: u16,
    pub url: String,
}

/// Which machines are wanted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GpuInstanceQuery {
    /// Those of the whole tenant, for operators; of every tenant, for administrators.
    pub all: bool,
    /// Those that are no more, too.
    pub ended: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GpuInstanceList {
    pub instances: Vec<GpuInstance>,
}

/// So many hours more.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GpuExtend {
    pub hours: u32,
    /// Say what it would cost, and give no time.
    #[serde(default)]
    pub dry_run: bool,
}

/// What became of a wish for more time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum GpuExtended {
    DryRun(Box<GpuExtension>),
    Extended(Box<GpuInstance>),
}

/// What more time would cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GpuExtension {
    /// `dry_run`
    pub outcome: String,
    /// As it is now.
    pub instance: GpuInstance,
    /// What would be given: 0 where the same key has had it. Time that is paid before it begins is sold by the hour.
    pub hours: f64,
    /// When it would be destroyed at the latest.
    pub ends_by: Timestamp,
    /// What that time costs.
    #[schema(value_type = f64)]
    pub cost_usd: Usd,
    /// What of it is paid at once.
    #[schema(value_type = f64)]
    pub paid_at_once_usd: Usd,
    /// Whether the limits would let it in now.
    pub allowed: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How much of a log is wanted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GpuLogQuery {
    /// So many of the last lines; 100 where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GpuLog {
    pub id: String,
    pub log: String,
}

/// What the agent of a machine says of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GpuReport {
    /// Of the binary that it is.
    pub version: String,
    #[serde(default)]
    pub cpus: u32,
    /// What the machine has drawn for itself and keeps on its disk: whoever brings it along again is the same machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
}
