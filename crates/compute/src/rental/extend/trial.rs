//! What more time for a machine would cost, and what limits would say to it. Nothing is held, and nothing is bought.

use super::{HOUR, asked_already, has_had, sold_hours};
use crate::rental::{
    Rentals,
    body::Paying,
    check,
    record::{Record, after},
    told,
    types::{Advice, Done, ExtendRequest, Rental, ask},
    unknown,
};
use forebay_domain::{
    Principal,
    money::{Usd, UsdRate},
};
use jiff::Timestamp;
use std::time::Duration;

/// What would become of a wish for more time.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    pub rental: Rental,
    /// What would be given; nothing where the same wish has had it. Time that is paid before it begins is sold by the hour.
    pub by: Duration,
    /// When the machine would be destroyed at the latest.
    pub ends_by: Timestamp,
    /// What that time costs.
    pub cost: Usd,
    /// What of it is paid at once.
    pub at_once: Usd,
    pub verdict: Verdict,
}

/// What the limits of whoever pays would say now.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Judged(Advice),
    /// What runs is counted already, and one of them is passed.
    PastLimit(String),
}

impl Rentals {
    /// Says what [`Rentals::extend`] would do. Whatever that refuses for other reasons than money is refused here, too.
    pub async fn try_extending(&self, principal: &Principal, id: &str, request: ExtendRequest) -> Done<Trial> {
        let key = request.idempotency_key.as_deref();
        check::key(key)?;
        let record = self.reached(principal, id).await?;
        if has_had(&record, key, request.by)? {
            let fits = Advice::Fits { warnings: Vec::new() };
            return trial(&record, Duration::ZERO, (Usd::ZERO, Usd::ZERO), Verdict::Judged(fits));
        }
        self.may_live_longer(principal, &record, request.by)?;
        if record.body.paying == Paying::Prepaid {
            return self.try_buying(&record, request.by).await;
        }
        let verdict = self.may_cost_longer(&record).await?;
        let cost = record.body.burn().cost_of(request.by);
        trial(&record, request.by, (cost, Usd::ZERO), verdict)
    }

    async fn try_buying(&self, record: &Record, by: Duration) -> Done<Trial> {
        asked_already(record)?;
        let hours = sold_hours(by);
        let machine = record.row.machine.clone().ok_or_else(|| unknown(&record.id))?;
        let market = self.market_or_refuse(record.provider)?;
        let priced = market.extension_price(&machine, hours).await;
        let price = priced.map_err(|fault| told::failure(record.provider, &fault))?;
        let advice = self.advice_on(&record.payer(), ask(price, UsdRate::ZERO)).await?;
        let sold = HOUR.saturating_mul(hours);
        trial(record, sold, (price, price), Verdict::Judged(advice))
    }
}

fn trial(record: &Record, by: Duration, (cost, at_once): (Usd, Usd), verdict: Verdict) -> Done<Trial> {
    Ok(Trial {
        rental: record.view()?,
        by,
        ends_by: after(record.body.ends_by, by),
        cost,
        at_once,
        verdict,
    })
}
