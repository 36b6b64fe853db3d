//! More time for a machine: within what the configuration allows and the limits leave, agreed to where that is wanted, and
//! once for each name that a wish has.

mod trial;

pub use trial::{Trial, Verdict};

use super::{
    Rentals,
    body::{Extended, Extension, Paying, Payment},
    quote::HORIZON,
    record::{Record, after},
    steps::Step,
    types::{Advice, Done, ExtendRequest, Rental, ask},
    unknown,
};
use crate::market::MarketFault;
use forebay_domain::{
    Action, Code, Failure, Principal,
    id::HoldId,
    ledger::{Enforcement, Standing},
    money::UsdRate,
};
use forebay_store::{
    ledger::{HoldError, HoldRequest},
    rentals::RentalState,
};
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);
/// Names of wishes for more time that a machine remembers, the last ones.
const NAMES_MAX: usize = 32;

/// So much more time, under the name that somebody gave to the wish.
#[derive(Debug, Clone)]
struct Longer {
    by: Duration,
    key: Option<String>,
}

impl Longer {
    fn is_new(&self, record: &Record) -> bool {
        self.key.as_deref().is_none_or(|key| earlier(record, key).is_none())
    }

    fn give(self, record: &mut Record) {
        record.body.lifetime = record.body.lifetime.saturating_add(self.by);
        record.body.ends_by = after(record.body.ends_by, self.by);
        note(record, self.key, self.by);
    }
}

/// What was given under that name.
fn earlier<'a>(record: &'a Record, key: &str) -> Option<&'a Extended> {
    record.body.extended.iter().find(|one| one.key == key)
}

/// Whether this very wish has got its time before.
fn has_had(record: &Record, key: Option<&str>, by: Duration) -> Done<bool> {
    match key.and_then(|key| earlier(record, key)) {
        None => Ok(false),
        Some(before) if before.by == by => Ok(true),
        Some(_) => {
            let message = "this idempotency key has asked for another time";
            Err(Failure::new(Code::Conflict, message).hint("Use a new key for another wish."))
        }
    }
}

/// So much time is sold by the hour.
fn sold_hours(by: Duration) -> u32 {
    u32::try_from(by.as_secs().div_ceil(HOUR.as_secs())).unwrap_or(u32::MAX)
}

fn asked_already(record: &Record) -> Done<()> {
    if record.body.money.extension.is_none() {
        return Ok(());
    }
    let message = "more time was asked for already, and nobody knows yet whether it was sold";
    Err(Failure::new(Code::Conflict, message).hint("Look at the machine in a few minutes."))
}

fn note(record: &mut Record, key: Option<String>, by: Duration) {
    record.body.extended.extend(key.map(|key| Extended { key, by }));
    let most = record.body.extended.len().saturating_sub(NAMES_MAX);
    record.body.extended.drain(..most);
}

impl Rentals {
    /// Lets it live longer, within what the configuration allows. Time that is paid before it begins is bought, once. The
    /// same name is the same wish: what it got once it has.
    pub async fn extend(&self, principal: &Principal, id: &str, wish: impl Into<ExtendRequest> + Send) -> Done<Rental> {
        let request = wish.into();
        let key = request.idempotency_key;
        super::check::key(key.as_deref())?;
        let (record, by) = (self.reached(principal, id).await?, request.by);
        if has_had(&record, key.as_deref(), by)? {
            return record.view();
        }
        self.may_live_longer(principal, &record, by)?;
        let more = Longer { by, key };
        let extended = match record.body.paying {
            Paying::Accrues => self.lengthen(record, more).await?,
            Paying::Prepaid => {
                let rentals = self.clone();
                self.outliving("extend", async move { rentals.buy(record, more).await })
                    .await?
            }
        };
        extended.view()
    }

    fn may_live_longer(&self, principal: &Principal, record: &Record, by: Duration) -> Done<()> {
        if record.row.state != RentalState::Up {
            let message = format!("the machine is `{}` and cannot be extended", record.row.state.as_str());
            return Err(Failure::new(Code::Conflict, message));
        }
        let config = self.0.config.load();
        let most = Duration::from_hours(config.lifetime_max_hours.into());
        let lifetime = record.body.lifetime.saturating_add(by);
        if by.is_zero() || lifetime > most {
            let minutes = most.saturating_sub(record.body.lifetime).as_secs() / 60;
            let message = format!("this machine can be extended by 1 to {minutes} minutes");
            return Err(Failure::new(Code::InvalidArguments, message));
        }
        let is_asked = config.approval.is_needed(record.body.burn(), lifetime);
        if is_asked && !principal.decide(&Action::SPENDING_APPROVE).is_allowed() {
            let message = "so long a lifetime of this machine has to be agreed to, and you may not agree to it";
            return Err(Failure::new(Code::Forbidden, message).hint(format!(
                "Whoever may `{}` (operators and administrators) can extend it for you: its id is {}.",
                Action::SPENDING_APPROVE,
                record.id
            )));
        }
        Ok(())
    }

    /// What runs is counted already. Where it costs at all, some limit has to count for it still, and none may be passed.
    async fn may_cost_longer(&self, record: &Record) -> Done<Verdict> {
        let fits = Verdict::Judged(Advice::Fits { warnings: Vec::new() });
        if record.body.burn() == UsdRate::ZERO {
            return Ok(fits);
        }
        let standings = self.0.ledger.standings(&record.payer()).await?;
        if !standings.iter().any(Standing::bounds) {
            return Ok(Verdict::Judged(Advice::NoLimit));
        }
        let mut hard = standings
            .iter()
            .filter(|one| one.window.enforcement == Enforcement::Hard);
        let full = hard.find(|one| one.used() > one.window.limit);
        Ok(full.map_or(fits, |full| {
            Verdict::PastLimit(format!("{} is past its limit of ${}", full.purse, full.window.limit))
        }))
    }

    async fn lengthen(&self, record: Record, more: Longer) -> Done<Record> {
        match self.may_cost_longer(&record).await? {
            Verdict::Judged(Advice::NoLimit) => return Err(HoldError::NoLimit.into()),
            Verdict::Judged(_) => {}
            Verdict::PastLimit(message) => return Err(Failure::new(Code::SpendingLimitExceeded, message)),
        }
        self.change(record, |record| {
            // The same wish may have arrived twice.
            if more.is_new(record) {
                more.clone().give(record);
            }
            Vec::new()
        })
        .await
    }

    /// Buys more time: held first, asked once, and found out by what its provider says was paid where nobody knows.
    async fn buy(&self, record: Record, more: Longer) -> Done<Record> {
        let hours = sold_hours(more.by);
        asked_already(&record)?;
        let machine = record.row.machine.clone().ok_or_else(|| unknown(&record.id))?;
        let market = self.market_or_refuse(record.provider)?;
        let provider = record.provider;
        let failed = |fault: &MarketFault| super::told::failure(provider, fault);
        let price = market
            .extension_price(&machine, hours)
            .await
            .map_err(|fault| failed(&fault))?;
        let seen = record.body.seen.clone();
        let draw: [u8; 8] = self.0.entropy.bytes();
        let extension = Extension {
            key: format!("rental:{}:more:{}", record.id, hex::encode(draw)),
            wish: more.key,
            asked: more.by,
            hold: None,
            amount: price,
            hours,
            asked_at: self.now(),
            paid_before: seen.as_ref().and_then(|seen| seen.paid),
            ended_before: seen.and_then(|seen| seen.ends_at),
            unchanged: 0,
        };
        let intended = self.intend(record, extension).await?;
        match market.extend(&machine, hours).await {
            Ok(()) => self.bought(intended).await,
            Err(fault) if fault.is_blind() => {
                let message = format!("{}: {fault}; nobody knows whether the time was sold", intended.provider);
                Err(Failure::new(Code::UpstreamFailed, message)
                    .hint("It is being found out; do not ask again before the machine says so."))
            }
            Err(fault) => {
                self.not_bought(intended).await?;
                Err(failed(&fault))
            }
        }
    }

    /// Writes down that more time is wanted, sets aside what it costs, and writes that down too, before anybody is asked.
    /// Where that ends half way, what was set aside is found by its name and let go.
    async fn intend(&self, record: Record, wanted: Extension) -> Done<Record> {
        let intended = self
            .change(record, |record| {
                if record.row.state == RentalState::Up && record.body.money.extension.is_none() {
                    record.body.money.extension = Some(wanted.clone());
                }
                Vec::new()
            })
            .await?;
        let is_wanted = |record: &Record| {
            record
                .body
                .money
                .extension
                .as_ref()
                .is_some_and(|one| one.key == wanted.key)
        };
        let meanwhile = || Failure::new(Code::Conflict, "the machine was changed meanwhile").hint("Try again.");
        if !is_wanted(&intended) {
            return Err(meanwhile());
        }
        self.0.steps.done(Step::Intended).await;
        let hold = match self.extension_hold(&intended, &wanted).await {
            Ok(hold) => hold,
            Err(failure) => {
                self.not_bought(intended).await?;
                return Err(failure);
            }
        };
        self.0.steps.done(Step::Held).await;
        let written = self
            .change(intended, |record| {
                let is_up = record.row.state == RentalState::Up;
                let own = record.body.money.extension.as_mut().filter(|one| one.key == wanted.key);
                if let (true, Some(own)) = (is_up, own) {
                    own.hold = Some(hold.clone());
                }
                Vec::new()
            })
            .await;
        match written {
            Ok(written) if written.body.money.extension.as_ref().and_then(|one| one.hold.as_ref()) == Some(&hold) => {
                Ok(written)
            }
            Ok(other) => {
                self.0.ledger.void(&hold).await?;
                if is_wanted(&other) {
                    self.not_bought(other).await?;
                }
                Err(meanwhile())
            }
            Err(failure) => {
                self.0.ledger.void(&hold).await?;
                Err(failure)
            }
        }
    }

    async fn extension_hold(&self, record: &Record, wanted: &Extension) -> Done<HoldId> {
        let request = HoldRequest {
            payer: record.payer(),
            purpose: record.purpose(),
            ask: ask(wanted.amount, UsdRate::ZERO),
            trace: record.trace(),
            idempotency_key: Some(wanted.key.clone()),
            lapses_at: after(self.now(), HORIZON),
            needs_limit: true,
        };
        Ok(self.0.ledger.hold(request).await?.id)
    }

    /// The time is theirs, and paid for.
    pub(super) async fn bought(&self, record: Record) -> Done<Record> {
        let Some(extension) = record.body.money.extension.clone() else {
            return Ok(record);
        };
        let Some(hold) = extension.hold.clone() else {
            return self.not_bought(record).await;
        };
        self.post(&hold, extension.amount).await?;
        self.change(record, |record| {
            if record.body.money.extension.take_if(|one| *one == extension).is_some() {
                record.body.money.payments.push(Payment {
                    hold: hold.clone(),
                    amount: extension.amount,
                });
                let bought = Longer {
                    by: HOUR.saturating_mul(extension.hours),
                    key: None,
                };
                bought.give(record);
                note(record, extension.wish.clone(), extension.asked);
            }
            Vec::new()
        })
        .await
    }

    pub(super) async fn not_bought(&self, record: Record) -> Done<Record> {
        let Some(extension) = record.body.money.extension.clone() else {
            return Ok(record);
        };
        let held = match &extension.hold {
            Some(hold) => Some(hold.clone()),
            None => self.0.ledger.hold_under(&record.owner.tenant, &extension.key).await?,
        };
        if let Some(hold) = held {
            self.0.ledger.void(&hold).await?;
        }
        self.change(record, |record| {
            record.body.money.extension.take_if(|one| one.key == extension.key);
            Vec::new()
        })
        .await
    }
}
