//! What vast.ai offered in the last minutes, to whichever search.
//!
//! One answer has 64 offers and a minute has six searches for lists, so a long list is read over several minutes: each
//! time the cheapest page is read anew, and then the pages where the last list for the same stopped. What lies between
//! was read before. So a list gets longer the longer somebody asks for it, and one that finds the minute used up still
//! has what the others were told. Whatever is quoted is read anew.

use super::{offers::PAGE, read};
use crate::market::Wanted;
use forebay_domain::market::Offer;
use moka::sync::Cache;
use serde_json::{Value, json};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::time::Instant;

/// What was read longer ago is not shown.
const AGE_MAX: Duration = Duration::from_mins(10);
/// After so long a list begins again behind its first page.
const SWEEP_MAX: Duration = Duration::from_mins(5);
/// Sizes of disks for which offers are kept: each has its own prices.
const DISKS_MAX: u64 = 8;
const OFFERS_MAX: usize = 4_096;
const WISHES_MAX: u64 = 256;

/// From where on a page is read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Start {
    Cheapest,
    /// This price and above, in the provider's own digits.
    At(Value),
    /// Above this price: a page with nothing new had one price only.
    Above(Value),
}

impl Start {
    /// The filter, of what is not cheaper.
    pub(super) fn narrow(&self, filter: &Value) -> Value {
        let mut filter = filter.clone();
        let (operator, price) = match self {
            Self::Cheapest => return filter,
            Self::At(price) => ("gte", price),
            Self::Above(price) => ("gt", price),
        };
        let mut bounds = filter["dph_total"].take();
        if bounds.is_null() {
            bounds = json!({});
        }
        bounds[operator] = price.clone();
        filter["dph_total"] = bounds;
        filter
    }

    fn price(&self) -> f64 {
        match self {
            Self::Cheapest => f64::NEG_INFINITY,
            Self::At(price) | Self::Above(price) => price.as_f64().unwrap_or(f64::NEG_INFINITY),
        }
    }
}

/// One answer to a search.
pub(super) struct Page {
    rows: Vec<Row>,
    from: Start,
    /// The price of its last row, where there may be more behind it.
    last: Option<Value>,
}

struct Row {
    price: f64,
    offer: Offer,
}

impl Page {
    pub(super) fn read(rows: &[Value], from: &Start, disk_gb: u32) -> Self {
        let row = |row: &Value| {
            Some(Row {
                price: row.get("dph_total")?.as_f64()?,
                offer: read::offer(row, disk_gb)?,
            })
        };
        let last = rows.last().filter(|_| rows.len() >= PAGE);
        let price = last
            .and_then(|row| row.get("dph_total"))
            .filter(|price| price.is_number());
        Self {
            rows: rows.iter().filter_map(row).collect(),
            from: from.clone(),
            last: price.cloned(),
        }
    }

    /// From where the next one is read; nothing where this one is the last.
    pub(super) fn next(&self) -> Option<Start> {
        let last = self.last.clone()?;
        let is_one_price = matches!(&self.from, Start::At(price) if *price == last);
        Some(if is_one_price {
            Start::Above(last)
        } else {
            Start::At(last)
        })
    }
}

/// What is known for each size of disk, and how far each wish was read.
pub(super) struct Known {
    disks: Cache<u32, Arc<WithDisk>>,
    sweeps: Cache<String, Sweep>,
}

#[derive(Clone)]
struct Sweep {
    begun: Instant,
    /// Nothing once it was read to its end.
    next: Option<Start>,
}

impl Known {
    pub(super) fn new() -> Self {
        Self {
            disks: Cache::new(DISKS_MAX),
            sweeps: Cache::new(WISHES_MAX),
        }
    }

    pub(super) fn with_disk(&self, gb: u32) -> Arc<WithDisk> {
        self.disks.get_with(gb, Arc::default)
    }

    /// After the first page: where the last list for the same stopped, or behind this page.
    pub(super) fn go_on(&self, wish: &str, behind: Option<Start>) -> Option<Start> {
        let earlier = self.sweeps.get(wish);
        if let Some(earlier) = earlier.filter(|earlier| earlier.begun.elapsed() < SWEEP_MAX) {
            return earlier.next;
        }
        let sweep = Sweep {
            begun: Instant::now(),
            next: behind.clone(),
        };
        self.sweeps.insert(wish.to_owned(), sweep);
        behind
    }

    /// After a further page.
    pub(super) fn went_on(&self, wish: &str, next: Option<Start>) -> Option<Start> {
        let begun = self.sweeps.get(wish).map_or_else(Instant::now, |sweep| sweep.begun);
        let sweep = Sweep {
            begun,
            next: next.clone(),
        };
        self.sweeps.insert(wish.to_owned(), sweep);
        next
    }

    /// Somebody has it now, or will.
    pub(super) fn forget(&self, id: &str) {
        for (_, disk) in &self.disks {
            disk.lock().remove(id);
        }
    }
}

/// Offers priced with one size of disk, by their ids.
#[derive(Default)]
pub(super) struct WithDisk(Mutex<BTreeMap<String, Seen>>);

struct Seen {
    offer: Offer,
    price: f64,
    at: Instant,
}

impl WithDisk {
    /// Its rows are there, and what would stand between them and does not is no longer there.
    pub(super) fn take(&self, page: Page, wanted: &Wanted) {
        let (lowest, now) = (page.from.price(), Instant::now());
        let highest = page.last.as_ref().and_then(Value::as_f64).unwrap_or(f64::INFINITY);
        let there: BTreeSet<&str> = page.rows.iter().map(|row| row.offer.id.id()).collect();
        let mut known = self.lock();
        known.retain(|id, seen| {
            // Of those with the very price of its last row the next page has the rest.
            let is_inside = lowest < seen.price && seen.price < highest;
            let is_missing = is_inside && !there.contains(id.as_str()) && wanted.takes(&seen.offer);
            !is_missing && now.duration_since(seen.at) < AGE_MAX
        });
        for Row { price, offer } in page.rows {
            let id = offer.id.id().to_owned();
            if known.len() < OFFERS_MAX || known.contains_key(&id) {
                known.insert(id, Seen { offer, price, at: now });
            }
        }
    }

    pub(super) fn has(&self, wanted: &Wanted) -> bool {
        self.all().iter().any(|offer| wanted.takes(offer))
    }

    /// How many fit of those that cost less than where the next page begins.
    pub(super) fn cheaper(&self, wanted: &Wanted, next: &Start) -> usize {
        let is_below = |seen: &&Seen| seen.price.total_cmp(&next.price()) != Ordering::Greater;
        let known = self.lock();
        known
            .values()
            .filter(is_below)
            .filter(|seen| wanted.takes(&seen.offer))
            .count()
    }

    pub(super) fn all(&self) -> Vec<Offer> {
        let now = Instant::now();
        let known = self.lock();
        let young = known.values().filter(|seen| now.duration_since(seen.at) < AGE_MAX);
        young.map(|seen| seen.offer.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}
