//! One machine of the fake vast.ai: what it is at a time, what it has cost, and how it is shown.

use super::{dollars, merged, offers};
use forebay_domain::money::{Usd, UsdRate};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

pub(super) const DAY_SECONDS: i64 = 86_400;

/// What becomes of a machine once it was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Runs,
    Exits,
    GoesOffline,
    StaysLoading,
    /// Its image is not there.
    BadImage,
}

impl Fate {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "runs" => Ok(Self::Runs),
            "exits" => Ok(Self::Exits),
            "goes-offline" => Ok(Self::GoesOffline),
            "stays-loading" => Ok(Self::StaysLoading),
            "bad-image" => Ok(Self::BadImage),
            _ => Err(format!("{text:?} is no fate")),
        }
    }

    fn status(self) -> &'static str {
        match self {
            Self::Runs => "running",
            Self::Exits => "exited",
            Self::GoesOffline => "offline",
            Self::StaysLoading | Self::BadImage => "loading",
        }
    }
}

/// One machine.
#[derive(Debug, Clone)]
pub struct Rented {
    pub id: u64,
    pub offer: offers::Ask,
    pub label: Option<String>,
    /// What it was ordered with.
    pub order: Value,
    pub disk_gb: u64,
    pub made_at: Timestamp,
    pub is_bid: bool,
    /// It is missing from so many lists more.
    pub hidden: u32,
    /// It was stopped, and somebody else has its GPU.
    pub has_lost_gpu: bool,
    /// It starts as soon as its GPU is free.
    pub is_queued: bool,
    /// Where its first port is really reached.
    endpoint: Option<SocketAddr>,
    boot_step: Duration,
    fate: Fate,
    /// Instead of the walk.
    fixed: Option<&'static str>,
    intended: &'static str,
    billed_until: Timestamp,
    /// By the day's first second: how long GPU and disk were billed.
    used: BTreeMap<i64, (Duration, Duration)>,
}

pub(super) struct New {
    pub(super) id: u64,
    pub(super) offer: offers::Ask,
    pub(super) order: Value,
    pub(super) disk_gb: u64,
    pub(super) now: Timestamp,
    pub(super) hidden: u32,
    pub(super) boot_step: Duration,
    pub(super) fate: Fate,
    pub(super) endpoint: Option<SocketAddr>,
}

impl Rented {
    pub(super) fn new(new: New) -> Self {
        Self {
            id: new.id,
            label: new.order["label"].as_str().map(str::to_owned),
            is_bid: new.order["price"].is_number(),
            offer: new.offer,
            order: new.order,
            disk_gb: new.disk_gb,
            made_at: new.now,
            hidden: new.hidden,
            has_lost_gpu: false,
            is_queued: false,
            endpoint: new.endpoint,
            boot_step: new.boot_step,
            fate: new.fate,
            fixed: None,
            intended: "running",
            billed_until: new.now,
            used: BTreeMap::new(),
        }
    }

    /// It is stopped, and meant to be.
    pub(super) fn halt(&mut self) {
        self.fixed = Some("stopped");
        self.intended = "stopped";
        self.is_queued = false;
    }

    pub(super) fn fix(&mut self, status: &'static str) {
        self.fixed = Some(status);
    }

    pub(super) fn start(&mut self) {
        self.intended = "running";
        self.is_queued = self.has_lost_gpu;
        if !self.has_lost_gpu {
            self.fixed = Some("running");
        }
    }

    /// Whoever had its GPU is gone: what waits for it starts, and costs.
    pub fn free_gpu(&mut self) {
        self.has_lost_gpu = false;
        if std::mem::take(&mut self.is_queued) {
            self.start();
        }
    }

    /// When it came to where its fate leads.
    fn arrived_at(&self) -> Timestamp {
        self.made_at + self.boot_step * 3
    }

    pub fn status(&self, now: Timestamp) -> Option<&'static str> {
        if self.fixed.is_some() {
            return self.fixed;
        }
        let step = |number: u32| self.made_at + self.boot_step * number;
        if now < step(1) {
            None
        } else if now < step(2) {
            Some("created")
        } else if now < step(3) {
            Some("loading")
        } else {
            Some(self.fate.status())
        }
    }

    fn gpu_rate(&self) -> UsdRate {
        UsdRate::from_nanos_per_hour(self.offer.base)
    }

    fn disk_rate(&self) -> UsdRate {
        UsdRate::from_nanos_per_hour(self.offer.disk(self.disk_gb))
    }

    /// What it costs from its creation on is added up day by day.
    pub(super) fn bill_until(&mut self, now: Timestamp) {
        // The walk changes what is billed once: when it arrives.
        let arrived_at = self.arrived_at();
        if self.fixed.is_none() && self.billed_until < arrived_at && arrived_at < now {
            self.bill_part(arrived_at);
        }
        self.bill_part(now);
    }

    fn bill_part(&mut self, until: Timestamp) {
        while self.billed_until < until {
            let day = self.billed_until.as_second().div_euclid(DAY_SECONDS) * DAY_SECONDS;
            let next_day = Timestamp::from_second(day + DAY_SECONDS).expect("a day of a test");
            let end = next_day.min(until);
            let time = Duration::try_from(end.duration_since(self.billed_until)).unwrap_or_default();
            let status = self.status(self.billed_until);
            let (gpu, disk) = self.used.entry(day).or_default();
            if matches!(status, Some("running" | "frozen" | "rebooting")) {
                *gpu += time;
            }
            if !matches!(status, Some("offline" | "unknown")) {
                *disk += time;
            }
            self.billed_until = end;
        }
    }

    /// All that was charged for it.
    pub fn cost(&self) -> Usd {
        self.used
            .keys()
            .map(|day| self.cost_of_day(*day))
            .map(|(gpu, disk)| gpu.saturating_add(disk))
            .sum()
    }

    fn cost_of_day(&self, day: i64) -> (Usd, Usd) {
        let (gpu, disk) = self.used.get(&day).copied().unwrap_or_default();
        (self.gpu_rate().cost_of(gpu), self.disk_rate().cost_of(disk))
    }

    /// The row of one day's charges, rounded to a tenth of a cent.
    pub(super) fn charges(&self, from: i64, to: i64) -> Vec<Value> {
        let days = self.used.keys().copied().filter(|day| (from..=to).contains(day));
        let row = |day: i64| {
            let (gpu, disk) = self.cost_of_day(day);
            let (gpu_time, _) = self.used[&day];
            let hours = gpu_time.as_secs_f64() / 3_600.0;
            let end = day + DAY_SECONDS - 1;
            let item = |kind: &str, amount: Usd, what: String| {
                json!({
                    "start": day, "end": end, "type": kind, "source": null, "description": what,
                    "amount": rounded(amount), "metadata": {}, "items": [],
                })
            };
            let metadata = self
                .label
                .as_ref()
                .map_or_else(|| json!({}), |label| json!({ "label": label }));
            let price = dollars(self.offer.base);
            json!({
                "start": day, "end": end, "type": "instance", "source": format!("instance-{}", self.id),
                "description": format!("Instance {} Charges - 1 days", self.id),
                "amount": rounded(gpu.saturating_add(disk)), "metadata": metadata,
                "items": [
                    item("gpu", gpu, format!("{hours:.3} hours at ${price}/hour")),
                    item("disk", disk, format!("{} GB of disk", self.disk_gb)),
                ],
            })
        };
        days.map(row).collect()
    }

    /// As lists and look-ups show it.
    pub(super) fn row(&self, now: Timestamp) -> Value {
        let status = self.status(now);
        let offer = &self.offer;
        let disk = offer.disk(self.disk_gb);
        let is_active = matches!(status, Some("running" | "frozen" | "rebooting"));
        let gpu_now = if is_active { offer.base } else { 0 };
        let state = if self.fixed == Some("stopped") {
            "stopped"
        } else {
            "running"
        };
        let env = self.order["env"].as_object();
        let env: Vec<Value> = env
            .into_iter()
            .flatten()
            .map(|(key, value)| json!([key, value]))
            .collect();
        let what = json!({
            "id": self.id, "machine_id": offer.id % 100_000, "host_id": offer.id % 60_000, "label": self.label,
            "actual_status": status, "intended_status": self.intended, "cur_state": state,
            "next_state": if self.is_queued { "running" } else { state }, "status_msg": self.message(status),
            "image_uuid": self.order["image"], "image_runtype": self.order["runtype"], "image_args": self.order["args"],
            "extra_env": env, "onstart": self.order["onstart"], "template_id": null, "gpu_name": offer.gpu,
            "num_gpus": offer.gpus, "gpu_ram": offer.gpu_ram, "gpu_util": 0.0, "gpu_temp": 39.0,
            "public_ipaddr": self.address(), "local_ipaddrs": "10.0.0.5 172.17.0.2\n", "ssh_host": "ssh6.vast.ai",
            "ssh_port": 13_406, "ssh_idx": "6", "direct_port_start": 40_000, "direct_port_end": 40_999,
            "ports": if status == Some("running") { self.ports() } else { Value::Null },
        });
        let terms = json!({
            "start_date": seconds(self.made_at), "end_date": 1_798_761_600.0, "uptime_mins": null,
            "is_bid": self.is_bid, "min_bid": dollars(offer.min_bid), "dph_base": dollars(offer.base),
            "dph_total": dollars(offer.base + disk), "storage_cost": dollars(offer.storage),
            "storage_total_cost": dollars(disk), "inet_up_cost": 0.0026, "inet_down_cost": 0.0026,
            "search": {
                "gpuCostPerHour": dollars(offer.base), "diskHour": dollars(disk),
                "totalHour": dollars(offer.base + disk),
            },
            "instance": {
                "gpuCostPerHour": dollars(gpu_now), "diskHour": dollars(disk), "totalHour": dollars(gpu_now + disk),
            },
            "credit_balance": null, "credit_discount": null, "verification": offer.verification,
            "geolocation": offer.place, "volume_info": [],
        });
        merged(what, terms)
    }

    fn message(&self, status: Option<&str>) -> Option<String> {
        let image = self.order["image"].as_str().unwrap_or_default();
        match (status, self.fate) {
            (Some("running"), _) => Some(format!("success, running {}\n", image.replace(':', "_"))),
            (Some("loading"), Fate::BadImage) => Some(format!("Error response from daemon: manifest unknown: {image}")),
            (Some("loading"), _) => Some("pulling image".to_owned()),
            (Some("exited"), _) => Some("exited with code 1".to_owned()),
            _ => None,
        }
    }

    fn address(&self) -> String {
        let address = self.endpoint.map(|endpoint| endpoint.ip().to_string());
        address.unwrap_or_else(|| "203.0.113.42".to_owned()) + "\n"
    }

    /// Ports of the order, each behind one of the host's.
    fn ports(&self) -> Value {
        let env = self.order["env"].as_object();
        let inside = env.into_iter().flatten().filter_map(|(key, _)| key.strip_prefix("-p "));
        let mut ports = serde_json::Map::new();
        for (index, mapping) in inside.enumerate() {
            let port = mapping.rsplit(':').next().unwrap_or_default();
            let port = if port.contains('/') {
                port.to_owned()
            } else {
                format!("{port}/tcp")
            };
            let own = self
                .endpoint
                .filter(|_| index == 0)
                .map(|endpoint| endpoint.port().into());
            let host_port = own.unwrap_or(40_000 + (self.id * 7 + index as u64) % 1_000);
            let binding = json!([
                { "HostIp": "0.0.0.0", "HostPort": host_port.to_string() },
                { "HostIp": "::", "HostPort": host_port.to_string() },
            ]);
            ports.insert(port, binding);
        }
        Value::Object(ports)
    }
}

fn rounded(amount: Usd) -> Value {
    let mills = (amount.micros() + 500).div_euclid(1_000);
    dollars(mills * 1_000_000)
}

fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}
