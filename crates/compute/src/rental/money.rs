//! What runs costs: each minute what has accrued is posted, and what the next hour costs is set aside anew.
//!
//! This asks no provider, so that a provider that shows nothing keeps nothing from being posted. Where the next hour no
//! longer fits, less time is set aside; where not even the time fits that ending a machine takes, its end begins.

use super::{
    Rentals,
    body::{Paying, Why},
    quote::HORIZON,
    record::{Record, after},
    state,
    types::{Done, RentalNews, ask},
};
use forebay_domain::{
    Failure,
    ledger::{Overrun, lasts},
    money::{Usd, UsdRate},
};
use forebay_runtime::looping::Loop;
use forebay_store::{
    ledger::{Hold, HoldError},
    rentals::{Desired, RentalState},
};
use jiff::Timestamp;
use std::time::Duration;
use tracing::warn;

/// What is set aside, at most and at least: not less than an end takes that fails a few times.
const HORIZONS: [Duration; 4] = [HORIZON, Duration::from_mins(30), Duration::from_mins(15), LEAD];
/// The end of a machine begins so long before the limit is met.
const LEAD: Duration = Duration::from_mins(6);
/// Of a limit, from which on somebody is told.
const WARN_PERCENT: i128 = 80;

pub(super) struct Accruing {
    rentals: Rentals,
}

impl Accruing {
    pub(super) fn new(rentals: Rentals) -> Self {
        Self { rentals }
    }
}

impl Loop for Accruing {
    type Seen = ();
    type Action = ();

    fn name(&self) -> &'static str {
        "rental_money"
    }

    async fn observe(&mut self) -> Result<(), Failure> {
        self.rentals.accrue().await
    }

    fn decide(&self, (): &()) -> Vec<()> {
        Vec::new()
    }

    async fn act(&mut self, (): ()) -> Result<(), Failure> {
        Ok(())
    }
}

/// What became of setting aside what the next while costs.
enum Renewed {
    /// All of it.
    Whole,
    /// As much as fits.
    Less(Box<Overrun>),
    /// Not even what ending it takes.
    Nothing(Box<Overrun>),
}

impl Rentals {
    /// One pass over all that costs. Totals are counted from the start, so that it does no harm to do it twice.
    pub async fn accrue(&self) -> Done<()> {
        let (mut first, mut tight) = (None, Vec::new());
        for row in self.0.store.open().await? {
            let done = match Record::read(row) {
                Ok(record) => self.accrue_one(record).await,
                Err(failure) => Err(failure),
            };
            match done {
                Ok(left) => tight.extend(left),
                Err(failure) => note(&mut first, failure),
            }
        }
        // What does not fit beside what others had set aside may fit beside what they have now.
        for record in tight {
            if let Err(failure) = self.end_unless_it_fits(record).await {
                note(&mut first, failure);
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Does so for one at once: what has just become dearer is not waited for.
    pub(super) async fn keep_up(&self, record: Record) -> Done<Record> {
        let id = record.id.clone();
        if let Some(tight) = self.accrue_one(record).await? {
            self.end_unless_it_fits(tight).await?;
        }
        self.read(&id).await
    }

    async fn end_unless_it_fits(&self, record: Record) -> Done<()> {
        let now = self.now();
        match self.renew(&record, now).await? {
            Renewed::Whole => self.at_ease(record).await,
            Renewed::Less(overrun) => self.near_limit(record, *overrun, false, now).await,
            Renewed::Nothing(overrun) => self.near_limit(record, *overrun, true, now).await,
        }
    }

    /// Gives it back where not even what its end takes could be set aside.
    async fn accrue_one(&self, record: Record) -> Done<Option<Record>> {
        let now = self.now();
        if let Some(extension) = &record.body.money.extension {
            let more = ask(extension.amount, UsdRate::ZERO);
            if let Some(hold) = &extension.hold {
                self.0.ledger.renew(hold, more, after(now, HORIZON)).await.ok();
            }
        }
        let Some(hold) = record.body.money.hold.clone().filter(|_| record.row.state.is_live()) else {
            return Ok(None);
        };
        let mut record = record;
        if record.is_there() && record.body.paying == Paying::Accrues {
            let total = record.accrued(now);
            self.0.ledger.accrue(&hold, total).await?;
            record = self
                .change(record, |record| {
                    record.body.money.posted = record.body.money.posted.max(total);
                    Vec::new()
                })
                .await?;
        }
        match self.renew(&record, now).await? {
            Renewed::Whole => self.at_ease(record).await?,
            Renewed::Less(overrun) => self.near_limit(record, *overrun, false, now).await?,
            Renewed::Nothing(_) => return Ok(Some(record)),
        }
        Ok(None)
    }

    /// Sets aside what the next while costs, beside what may have accrued and is posted by nobody yet.
    async fn renew(&self, record: &Record, now: Timestamp) -> Done<Renewed> {
        let Some(hold) = &record.body.money.hold else {
            return Ok(Renewed::Whole);
        };
        if record.body.paying == Paying::Prepaid {
            // All of it was set aside, and stays so while nobody knows whether it was spent.
            let all = ask(record.body.money.first_hold, UsdRate::ZERO);
            return match self.0.ledger.renew(hold, all, after(now, HORIZON)).await {
                Ok(_) | Err(HoldError::Refused(_)) => Ok(Renewed::Whole),
                Err(fault) => Err(fault.into()),
            };
        }
        let unposted = if record.is_there() {
            Usd::ZERO
        } else {
            record.accrued(now)
        };
        let left = super::record::between(now, record.body.ends_by).max(LEAD);
        let mut refused = None;
        for horizon in HORIZONS {
            let burn = record.body.burn();
            let wanted = ask(unposted.saturating_add(burn.cost_of(horizon.min(left))), burn);
            match self.0.ledger.renew(hold, wanted, after(now, HORIZON)).await {
                Ok(Hold { beyond: None, .. }) => return Ok(refused.map_or(Renewed::Whole, Renewed::Less)),
                // Less than before is always let in; where it does not fit all the same, still less may.
                Ok(Hold {
                    beyond: Some(overrun), ..
                })
                | Err(HoldError::Refused(overrun)) => refused = Some(overrun),
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(refused.map_or(Renewed::Whole, Renewed::Nothing))
    }

    /// The next hour fits: whoever was told that it does not is told again when it no longer does.
    async fn at_ease(&self, record: Record) -> Done<()> {
        self.change(record, |record| {
            record.body.money.is_warned = false;
            Vec::new()
        })
        .await?;
        Ok(())
    }

    async fn near_limit(&self, record: Record, overrun: Overrun, is_nothing: bool, now: Timestamp) -> Done<()> {
        if record.row.desired == Desired::Gone || record.row.state == RentalState::Creating {
            return Ok(());
        }
        let standings = self.0.ledger.standings(&record.payer()).await?;
        let left = lasts(&standings);
        if is_nothing || left.is_some_and(|left| left <= LEAD) {
            let ended = self
                .change(record, |record| {
                    state::end(record, Why::Limit, now).into_iter().collect()
                })
                .await?;
            self.say(RentalNews::NearLimit {
                rental: ended.view()?.into(),
                overrun: Box::new(overrun),
                left,
            });
            self.work_on(ended).await?;
            return Ok(());
        }
        let window = &overrun.standing;
        let used = i128::from(window.used().micros()) * 100;
        let is_near = used >= i128::from(window.window.limit.micros()) * WARN_PERCENT;
        if !is_near || record.body.money.is_warned {
            return Ok(());
        }
        let warned = self
            .change(record, |record| {
                record.body.money.is_warned = true;
                Vec::new()
            })
            .await?;
        self.say(RentalNews::NearLimit {
            rental: warned.view()?.into(),
            overrun: Box::new(overrun),
            left,
        });
        Ok(())
    }
}

/// Says what went wrong; the first of all is told on.
fn note(first: &mut Option<Failure>, failure: Failure) {
    warn!(error = failure.chain(), "what a machine costs could not be posted");
    first.get_or_insert(failure);
}
