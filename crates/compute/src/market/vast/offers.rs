//! What vast.ai offers, cheapest first. An answer has 64 offers at most, so the next one begins at the last one's price;
//! and a minute has six searches, so a list goes on where the last one for the same stopped (see [`known`](super::known)).

use super::{
    DISK_GB_MIN, Vast,
    ask::{Route, SEARCHES},
    broken, cards, contract,
    known::{Page, Start},
    read,
};
use crate::market::{MarketFault, Wanted, wire::Call};
use forebay_domain::market::Offer;
use http::Method;
use serde_json::{Value, json};
use tracing::debug;

/// What an answer has at most.
pub(super) const PAGE: usize = 64;
/// As many as may be read in a minute.
const PAGES_MAX: usize = SEARCHES;
const MIB_OF_A_GB: u64 = 1_024;

impl Vast {
    pub(super) async fn search(&self, wanted: &Wanted) -> Result<Vec<Offer>, MarketFault> {
        let disk_gb = wanted.disk_gb.max(DISK_GB_MIN);
        let filter = filter(wanted, disk_gb);
        let (wish, known) = (filter.to_string(), self.known.with_disk(disk_gb));
        let mut from = Start::Cheapest;
        for number in 0..PAGES_MAX {
            let rows = match self.page(Route::Search, &from.narrow(&filter)).await {
                Ok(rows) => rows,
                // Others have used up the minute: what they were told is better than nothing.
                Err(MarketFault::RateLimited { .. }) if number == 0 && known.has(wanted) => break,
                Err(fault) if number == 0 => return Err(fault),
                // What there is already is the cheaper part of it.
                Err(fault) => {
                    debug!(?fault, pages = number, "further offers could not be read");
                    break;
                }
            };
            let page = Page::read(&rows, &from, disk_gb);
            let next = if number == 0 {
                self.known.go_on(&wish, page.next())
            } else {
                self.known.went_on(&wish, page.next())
            };
            known.take(page, wanted);
            let Some(next) = next.filter(|next| known.cheaper(wanted, next) < wanted.limit) else {
                break;
            };
            from = next;
        }
        Ok(wanted.choose(known.all()))
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
    if let Some(names) = wanted
        .gpu
        .as_deref()
        .map(cards::names)
        .filter(|names| !names.is_empty())
    {
        filter["gpu_name"] = json!({ "in": names });
    }
    filter
}
