//! What the fake vast.ai has to offer: always the same machines in the same order.

use super::{dollars, merged};
use serde_json::{Value, json};

/// Hours of a month, by which disk is priced.
const HOURS_OF_A_MONTH: i64 = 720;

/// One slot that can be rented by one.
#[derive(Debug, Clone)]
pub struct Ask {
    pub id: u64,
    pub gpu: &'static str,
    pub gpus: u64,
    /// MiB of one GPU, as it reports itself.
    pub gpu_ram: u64,
    /// Nano-dollars an hour, without disk.
    pub base: i64,
    /// Nano-dollars a GB and month.
    pub storage: i64,
    pub min_bid: i64,
    pub disk_space: u64,
    pub reliability: f64,
    pub place: Option<&'static str>,
    pub verification: &'static str,
    /// The machine that has it.
    pub taken_by: Option<u64>,
}

impl Ask {
    /// Nano-dollars an hour for so much disk.
    pub fn disk(&self, gb: u64) -> i64 {
        self.storage * i64::try_from(gb).unwrap_or(i64::MAX / self.storage.max(1)) / HOURS_OF_A_MONTH
    }

    /// As a search shows it.
    pub fn row(&self, disk_gb: u64) -> Value {
        let disk = self.disk(disk_gb);
        let total = self.base + disk;
        let machine = json!({
            "id": self.id, "ask_contract_id": self.id, "bundle_id": 987_654_321, "machine_id": self.id % 100_000,
            "host_id": self.id % 60_000, "num_gpus": self.gpus, "gpu_name": self.gpu, "gpu_ram": self.gpu_ram,
            "gpu_total_ram": self.gpu_ram * self.gpus, "gpu_frac": 0.25, "gpu_arch": "nvidia", "gpu_mem_bw": 1008.0,
            "compute_cap": 890, "cuda_max_good": 12.8, "driver_version": "570.124.06", "cpu_name": "EPYC 7543",
            // Some machines do not say how many cores they have.
            "cpu_cores": if self.id.is_multiple_of(7) { Value::Null } else { json!(64) },
            "cpu_cores_effective": 16.0, "cpu_ram": 257_672, "disk_space": self.disk_space, "disk_bw": 3121.0,
            "inet_up": 812.4, "inet_down": 921.7, "inet_up_cost": 0.0026, "inet_down_cost": 0.0026,
            "direct_port_count": 249, "static_ip": true, "public_ipaddr": "203.0.113.42\n",
        });
        let terms = json!({
            "geolocation": self.place, "reliability": self.reliability, "reliability2": self.reliability,
            "verification": self.verification, "hosting_type": u8::from(self.id.is_multiple_of(2)), "external": null,
            "rentable": self.taken_by.is_none(), "rented": self.taken_by.is_some(), "is_bid": false,
            "dph_base": dollars(self.base), "dph_total": dollars(total), "min_bid": dollars(self.min_bid),
            "storage_cost": dollars(self.storage), "storage_total_cost": dollars(disk),
            "search": {
                "gpuCostPerHour": dollars(self.base), "diskHour": dollars(disk), "totalHour": dollars(total),
                "discountTotalHour": 0, "discountedTotalPerHour": dollars(total),
            },
            "discounted_dph_total": dollars(total), "score": 412.7, "dlperf": 98.4, "duration": 2_419_200.0,
            "end_date": 1_798_761_600.0, "vms_enabled": false, "resource_type": "gpu",
        });
        merged(machine, terms)
    }
}

/// Name, MiB, and nano-dollars an hour of one GPU.
const CARDS: &[(&str, u64, i64)] = &[
    ("RTX 4090", 24_564, 389_000_000),
    ("RTX 3090", 24_576, 189_000_000),
    ("RTX 4060 Ti", 16_380, 109_000_000),
    ("L4", 22_528, 329_000_000),
    ("RTX A6000", 49_140, 459_000_000),
    ("H100 SXM", 81_559, 1_899_000_000),
    ("GTX 1080 Ti", 11_264, 69_000_000),
    ("A100 SXM4", 81_920, 899_000_000),
];
const PLACES: &[Option<&str>] = &[
    Some("Quebec, CA"),
    Some("California, US"),
    Some("Bulgaria, BG"),
    None,
    Some("Bavaria, DE"),
];
/// The first of them, which documents speak of.
const FIRST_ID: u64 = 21_874_411;

/// So many slots. The first is an RTX 4090 in Quebec for $0.389 and disk.
pub(super) fn catalogue(count: usize) -> Vec<Ask> {
    let slot = |index: usize| {
        let (gpu, gpu_ram, price) = CARDS[index % CARDS.len()];
        let gpus = [1, 1, 2, 1, 4][(index / CARDS.len()) % 5];
        // Dearer with each round, and so that some prices are the same.
        let dearer = i64::try_from(index / CARDS.len() / 2).unwrap_or_default() * 1_000_000;
        let base = (price + dearer) * i64::try_from(gpus).unwrap_or(1);
        Ask {
            id: FIRST_ID + 17 * index as u64,
            gpu,
            gpus,
            gpu_ram,
            base,
            storage: 150_000_000,
            min_bid: base / 2,
            disk_space: 412,
            reliability: if index % 11 == 10 { 0.91 } else { 0.9981 },
            place: PLACES[index % PLACES.len()],
            verification: if index % 13 == 12 { "unverified" } else { "verified" },
            taken_by: None,
        }
    };
    (0..count).map(slot).collect()
}
