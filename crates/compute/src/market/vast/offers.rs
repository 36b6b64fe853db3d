//! What vast.ai offers, cheapest first. An answer has 64 offers at most, so the next one begins at the last one's price.

use super::{DISK_GB_MIN, Vast, ask::Route, ask::SEARCHES, broken, contract, read};
use crate::market::{MarketFault, Wanted, wire::Call};
use forebay_domain::market::Offer;
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tracing::debug;

/// What an answer has at most.
const PAGE: usize = 64;
/// As many as may be read in a minute.
const PAGES_MAX: usize = SEARCHES;
const MIB_OF_A_GB: u64 = 1_024;

impl Vast {
    pub(super) async fn search(&self, wanted: &Wanted) -> Result<Vec<Offer>, MarketFault> {
        let disk_gb = wanted.disk_gb.max(DISK_GB_MIN);
        let mut filter = filter(wanted, disk_gb);
        let (mut offers, mut seen) = (Vec::new(), BTreeSet::new());
        for number in 0..PAGES_MAX {
            let rows = match self.page(Route::Search, &filter).await {
                Ok(rows) => rows,
                Err(fault) if number == 0 => return Err(fault),
                // What there is already is the cheaper part of it.
                Err(fault) => {
                    debug!(?fault, pages = number, "further offers could not be read");
                    break;
                }
            };
            let known = seen.len();
            for row in &rows {
                let is_new = row.get("id").and_then(Value::as_u64).is_some_and(|id| seen.insert(id));
                let offer = read::offer(row, disk_gb).filter(|offer| is_new && wanted.takes(offer));
                offers.extend(offer);
            }
            let has_new = seen.len() > known;
            let last = rows
                .last()
                .and_then(|row| row.get("dph_total"))
                .filter(|price| price.is_number());
            let (Some(last), true) = (last, rows.len() >= PAGE && offers.len() < wanted.limit) else {
                break;
            };
            // A page with nothing new has one price only: go on above it.
            let bound = if has_new { "gte" } else { "gt" };
            let most = filter["dph_total"]["lte"].take();
            filter["dph_total"] = if most.is_null() {
                json!({})
            } else {
                json!({ "lte": most })
            };
            filter["dph_total"][bound] = last.clone();
        }
        Ok(wanted.choose(offers))
    }

    pub(super) async fn look_up(&self, id: &str, disk_gb: u32) -> Result<Option<Offer>, MarketFault> {
        let Ok(id) = contract(id) else {
            return Ok(None);
        };
        let disk_gb = disk_gb.max(DISK_GB_MIN);
        // By `id` nothing is ever found.
        let filter = json!({
            "type": "on-demand",
            "ask_contract_id": { "eq": id },
            "allocated_storage": disk_gb,
            "limit": PAGE,
        });
        let rows = self.page(Route::LookUp, &filter).await?;
        let mut found = rows.iter().filter_map(|row| read::offer(row, disk_gb));
        Ok(found.find(|offer| offer.id.id() == id.to_string()))
    }

    async fn page(&self, route: Route, filter: &Value) -> Result<Vec<Value>, MarketFault> {
        let call = Call::new(Method::POST, "/api/v0/bundles/").json(filter.clone());
        let mut body = self.ask(route, call).await?;
        match body.get_mut("offers").map(Value::take) {
            Some(Value::Array(rows)) => Ok(rows),
            _ => Err(broken("its answer to a search has no offers")),
        }
    }
}

/// As much as it can be asked to leave out. It does not always, and so everything is checked again.
fn filter(wanted: &Wanted, disk_gb: u32) -> Value {
    let mut filter = json!({
        "type": "on-demand",
        "verified": { "eq": true },
        "rentable": { "eq": true },
        "rented": { "eq": false },
        "external": { "eq": false },
        "disk_space": { "gte": disk_gb },
        "order": [["dph_total", "asc"]],
        "limit": PAGE,
        "allocated_storage": disk_gb,
    });
    if let Some(gb) = wanted.vram_gb_min {
        // A card reports up to a tenth less than it is sold as.
        filter["gpu_ram"] = json!({ "gte": u64::from(gb) * MIB_OF_A_GB * 9 / 10 });
    }
    if let Some(gpus) = wanted.gpus_min {
        filter["num_gpus"] = json!({ "gte": gpus });
    }
    if let Some(rate) = wanted.rate_max {
        filter["dph_total"] = json!({ "lte": rate.hourly() });
    }
    if let Some(reliability) = wanted.reliability_min {
        filter["reliability"] = json!({ "gte": reliability });
    }
    if let Some(names) = wanted.gpu.as_deref().map(names).filter(|names| !names.is_empty()) {
        filter["gpu_name"] = json!({ "in": names });
    }
    filter
}

/// The names there of what somebody calls a card. Without any the search is not narrowed, and only its first pages are
/// looked through.
fn names(wanted: &str) -> Vec<&'static str> {
    let plain = |name: &str| name.replace([' ', '_', '-'], "").to_ascii_lowercase();
    let wanted = plain(wanted);
    CARDS
        .iter()
        .copied()
        .filter(|card| plain(card).contains(&wanted))
        .collect()
}

/// Names of cards as they are written there.
const CARDS: &[&str] = &[
    "A10",
    "A100 PCIE",
    "A100 SXM4",
    "A100X",
    "A16",
    "A2",
    "A30",
    "A40",
    "B200",
    "B300",
    "GH200 SXM",
    "GTX 1060",
    "GTX 1070",
    "GTX 1070 Ti",
    "GTX 1080",
    "GTX 1080 Ti",
    "GTX 1650",
    "GTX 1660",
    "GTX 1660 S",
    "GTX 1660 Ti",
    "H100 NVL",
    "H100 PCIE",
    "H100 SXM",
    "H200",
    "H200 NVL",
    "L4",
    "L40",
    "L40S",
    "Q RTX 6000",
    "Q RTX 8000",
    "RTX 2060",
    "RTX 2060S",
    "RTX 2070",
    "RTX 2070S",
    "RTX 2080",
    "RTX 2080 Ti",
    "RTX 3050",
    "RTX 3060",
    "RTX 3060 Ti",
    "RTX 3070",
    "RTX 3070 Ti",
    "RTX 3080",
    "RTX 3080 Ti",
    "RTX 3090",
    "RTX 3090 Ti",
    "RTX 4000Ada",
    "RTX 4060",
    "RTX 4060 Ti",
    "RTX 4070",
    "RTX 4070 Ti",
    "RTX 4070S",
    "RTX 4070S Ti",
    "RTX 4080",
    "RTX 4080S",
    "RTX 4090",
    "RTX 4090D",
    "RTX 4500Ada",
    "RTX 5000Ada",
    "RTX 5060",
    "RTX 5060 Ti",
    "RTX 5070",
    "RTX 5070 Ti",
    "RTX 5080",
    "RTX 5090",
    "RTX 5880Ada",
    "RTX 6000Ada",
    "RTX A2000",
    "RTX A4000",
    "RTX A4500",
    "RTX A5000",
    "RTX A6000",
    "RTX PRO 4000",
    "RTX PRO 4500",
    "RTX PRO 5000",
    "RTX PRO 6000 S",
    "RTX PRO 6000 WS",
    "Tesla P100",
    "Tesla P4",
    "Tesla P40",
    "Tesla T4",
    "Tesla V100",
    "Titan RTX",
    "Titan V",
    "Titan Xp",
];
