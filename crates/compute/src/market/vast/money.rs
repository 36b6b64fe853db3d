//! What vast.ai says that it has charged, and which prices it wants to raise.

use super::{Vast, ask::Route, broken, listing::next_page, read};
use crate::market::{
    ChargeQuery, MarketFault, PriceChange,
    wire::{Call, text, timestamp, unsigned, usd},
};
use forebay_domain::money::Usd;
use http::Method;
use serde_json::{Value, json};
use tracing::warn;

const DAY_SECONDS: i64 = 86_400;
const PAGE: &str = "500";
const PAGES_MAX: usize = 20;

impl Vast {
    /// The sum of all days. Charges are kept by the day, so whole days are asked for; the label and the id are this one
    /// machine's for ever.
    async fn sum_of(&self, machine: &ChargeQuery) -> Result<Option<Usd>, MarketFault> {
        let day_of = |seconds: i64| seconds.div_euclid(DAY_SECONDS) * DAY_SECONDS;
        let days = json!({
            "day": {
                "gte": day_of(machine.since.as_second()),
                "lte": day_of(machine.until.as_second()) + DAY_SECONDS - 1,
            },
            "type": { "in": ["instance"] },
        });
        let (mut sum, mut token) = (None::<Usd>, None::<String>);
        for _ in 0..PAGES_MAX {
            let mut call = Call::new(Method::GET, "/api/v0/charges/")
                .query("select_filters", days.to_string())
                .query("format", "table")
                .query("limit", PAGE);
            if let Some(token) = &token {
                call = call.query("after_token", token);
            }
            let body = self.ask(Route::Charges, call).await?;
            let rows = body.get("results").and_then(Value::as_array);
            let rows = rows.ok_or_else(|| broken("its answer about charges has none"))?;
            for row in rows.iter().filter(|row| is_of(row, machine)) {
                let amount = usd(row, "amount").ok_or_else(|| broken("a charge has no amount"))?;
                sum = Some(sum.unwrap_or_default().saturating_add(amount));
            }
            let next = next_page(&body)?;
            if next.is_none() {
                return Ok(sum);
            }
            if next == token {
                return Err(broken("a page of its charges names itself as the next one"));
            }
            token = next;
        }
        Err(broken("its list of charges has no end"))
    }

    /// What it has charged, where that can be believed. Charges come late, and nobody says how late: a sum below what was
    /// posted may be a part of one, so it counts once it was said twice, or where nobody asks again.
    pub(super) async fn charges(&self, machine: &ChargeQuery) -> Result<Option<Usd>, MarketFault> {
        let sum = self.sum_of(machine).await?;
        let before = self.charged.get(&machine.id);
        if let Some(sum) = sum {
            self.charged.insert(machine.id.clone(), sum);
        }
        let is_less = machine
            .paid_before
            .is_some_and(|paid| sum.is_some_and(|sum| sum < paid));
        let is_believed = !is_less || machine.is_last || before == sum;
        Ok(sum.filter(|_| is_believed))
    }

    pub(super) async fn pending_rises(&self) -> Result<Vec<PriceChange>, MarketFault> {
        let call = Call::new(Method::GET, "/api/v0/instances/pending-price-increases/");
        let body = self.ask(Route::Rises, call).await?;
        let rows = body.get("pending_price_increases").and_then(Value::as_array);
        let rows = rows.ok_or_else(|| broken("its answer about price rises has none"))?;
        if body.get("truncated") == Some(&Value::Bool(true)) {
            warn!(shown = rows.len(), "vast.ai has more pending price rises than it shows");
        }
        Ok(rows.iter().filter_map(change).collect())
    }
}

fn is_of(row: &Value, machine: &ChargeQuery) -> bool {
    let label = row.get("metadata").and_then(|metadata| text(metadata, "label"));
    label == Some(&machine.label) || text(row, "source") == Some(&format!("instance-{}", machine.id))
}

fn change(row: &Value) -> Option<PriceChange> {
    Some(PriceChange {
        id: unsigned(row, "contract_id").filter(|id| *id > 0)?.to_string(),
        from: read::rate_of(row, "old")?,
        to: read::rate_of(row, "new")?,
        at: timestamp(row, "contract_end_date"),
    })
}
