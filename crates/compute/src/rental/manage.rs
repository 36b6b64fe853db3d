//! What owners do with their machines, and what the machines themselves say.

use super::{
    Rentals,
    body::{Extension, Paying, Why},
    bootstrap,
    quote::HORIZON,
    record::{Record, after, between},
    state,
    steps::Step,
    types::{Done, Endpoint, Rental, Whose, ask},
    unknown,
};
use crate::market::MarketFault;
use forebay_domain::{
    Code, Failure, Principal,
    access::Role,
    id::HoldId,
    ledger::{Enforcement, Payer},
    market::Provider,
    money::UsdRate,
};
use forebay_store::{
    ledger::HoldRequest,
    rentals::{RentalQuery, RentalState},
    responses::ResponseOwner,
};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

const HOUR: Duration = Duration::from_hours(1);
/// Most lines of a log.
const LOG_LINES_MAX: u32 = 1_000;

impl Rentals {
    /// One machine: the caller's own, its tenant's for operators, anybody's for admins. Somebody else's is not there.
    pub async fn get(&self, principal: &Principal, id: &str) -> Done<Rental> {
        self.reached(principal, id).await?.view()
    }

    /// The newest machines that the caller may see.
    pub async fn list(&self, principal: &Principal, whose: Whose, live: bool) -> Done<Vec<Rental>> {
        let mut query = RentalQuery {
            live,
            ..RentalQuery::default()
        };
        match (whose, principal.role) {
            (Whose::All, Role::Admin) => {}
            (Whose::All, Role::Operator) => query.tenant = Some(principal.tenant.clone()),
            (Whose::All | Whose::Mine, _) => query.owner = Some(ResponseOwner::from(principal)),
        }
        let rows = self.0.store.list(&query).await?;
        rows.into_iter().map(|row| Record::read(row)?.view()).collect()
    }

    /// The live machine that is meant by our id, by the provider's own id, or by the offer that one of the caller's own
    /// was made of, while that means one.
    pub async fn find(&self, principal: &Principal, provider: Option<Provider>, name: &str) -> Done<Rental> {
        if let Ok(rental) = self.get(principal, name).await
            && provider.is_none_or(|provider| provider == rental.provider())
        {
            return Ok(rental);
        }
        let is_of = |rental: &Rental| provider.is_none_or(|provider| provider == rental.provider());
        let is_machine = |rental: &Rental| is_of(rental) && rental.machine.as_deref() == Some(name);
        let is_offer =
            |rental: &Rental| is_of(rental) && (rental.offer.id() == name || rental.offer.to_string() == name);
        let mut meant = self.list(principal, Whose::Mine, true).await?;
        if meant.iter().any(is_machine) {
            meant.retain(is_machine);
        } else if meant.iter().any(is_offer) {
            meant.retain(is_offer);
        } else {
            // An offer is never meant to be somebody else's machine; a machine's own id can only mean that one.
            meant = self.list(principal, Whose::All, true).await?;
            meant.retain(is_machine);
        }
        match meant.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(unknown(name)),
            _ => {
                let ids: Vec<&str> = meant.iter().map(|rental| rental.id.as_str()).collect();
                Err(Failure::new(
                    Code::Conflict,
                    format!("several of your machines are meant: {}", ids.join(", ")),
                )
                .hint("Name one of them."))
            }
        }
    }

    /// Wants it gone. That is kept until it is, whatever becomes of this process.
    pub async fn destroy(&self, principal: &Principal, id: &str) -> Done<Rental> {
        let record = self.reached(principal, id).await?;
        let now = self.now();
        let record = self
            .change(record, |record| {
                state::end(record, Why::Asked, now).into_iter().collect()
            })
            .await?;
        // The provider is asked at once, and where that fails again and again.
        let done = self.work_on(record.clone()).await.unwrap_or(record);
        self.nudge(done.provider);
        done.view()
    }

    /// Lets it live longer, within what the configuration allows. Time that is paid before it begins is bought, once.
    pub async fn extend(&self, principal: &Principal, id: &str, by: Duration) -> Done<Rental> {
        let record = self.reached(principal, id).await?;
        if record.row.state != RentalState::Up {
            let message = format!("the machine is `{}` and cannot be extended", record.row.state.as_str());
            return Err(Failure::new(Code::Conflict, message));
        }
        let most = Duration::from_hours(self.0.config.load().lifetime_max_hours.into());
        let lifetime = record.body.lifetime.saturating_add(by);
        if by.is_zero() || lifetime > most {
            let minutes = most.saturating_sub(record.body.lifetime).as_secs() / 60;
            let message = format!("this machine can be extended by 1 to {minutes} minutes");
            return Err(Failure::new(Code::InvalidArguments, message));
        }
        let agreed = self.0.config.load().approval;
        if agreed.is_needed(record.body.rate(), lifetime) {
            let message = "so long a lifetime of this machine has to be agreed to before it is rented";
            return Err(Failure::new(Code::Forbidden, message)
                .hint("Rent a machine for the whole time with a quote, and have that agreed to."));
        }
        let extended = match record.body.paying {
            Paying::Accrues => self.lengthen(record, by).await?,
            Paying::Prepaid => {
                let rentals = self.clone();
                self.outliving("extend", async move { rentals.buy(record, by).await })
                    .await?
            }
        };
        extended.view()
    }

    /// What runs is counted already; it must still fit.
    async fn lengthen(&self, record: Record, by: Duration) -> Done<Record> {
        if record.body.rate() > UsdRate::ZERO {
            let standings = self.0.ledger.standings(&record.payer()).await?;
            let mut hard = standings
                .iter()
                .filter(|one| one.window.enforcement == Enforcement::Hard);
            if let Some(full) = hard.find(|one| one.used() > one.window.limit) {
                let message = format!("{} is past its limit of ${}", full.purse, full.window.limit);
                return Err(Failure::new(Code::SpendingLimitExceeded, message));
            }
        }
        self.change(record, |record| {
            record.body.lifetime = record.body.lifetime.saturating_add(by);
            record.body.ends_by = after(record.body.ends_by, by);
            Vec::new()
        })
        .await
    }

    /// Buys more time: held first, asked once, and found out by what its provider says was paid where nobody knows.
    async fn buy(&self, record: Record, by: Duration) -> Done<Record> {
        let hours = u32::try_from(by.as_secs().div_ceil(HOUR.as_secs())).unwrap_or(u32::MAX);
        if record.body.money.extension.is_some() {
            let message = "more time was asked for already, and nobody knows yet whether it was sold";
            return Err(Failure::new(Code::Conflict, message).hint("Look at the machine in a few minutes."));
        }
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
                let by = HOUR.saturating_mul(extension.hours);
                record.body.money.payments.push(super::body::Payment {
                    hold: hold.clone(),
                    amount: extension.amount,
                });
                record.body.lifetime = record.body.lifetime.saturating_add(by);
                record.body.ends_by = after(record.body.ends_by, by);
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

    /// The last lines of a machine's log.
    pub async fn logs(&self, principal: &Principal, id: &str, lines: u32) -> Done<String> {
        let record = self.reached(principal, id).await?;
        let Some(machine) = &record.row.machine else {
            return Err(Failure::new(
                Code::Conflict,
                "the machine is not there yet, and has no log",
            ));
        };
        let market = self.market_or_refuse(record.provider)?;
        let read = market.logs(machine, lines.clamp(1, LOG_LINES_MAX)).await;
        read.map_err(|fault| super::told::failure(record.provider, &fault))
    }

    /// Where the caller's own machines are reached, as their providers said.
    pub async fn endpoints(&self, principal: &Principal) -> Done<Vec<Endpoint>> {
        let mine = self.list(principal, Whose::Mine, true).await?;
        let is_up = |rental: &&Rental| rental.state == RentalState::Up;
        let of = |rental: &Rental| {
            let endpoint = |(port, url): (&u16, &String)| Endpoint {
                rental: rental.id.clone(),
                port: *port,
                url: url.clone(),
            };
            rental.endpoints.iter().map(endpoint).collect::<Vec<_>>()
        };
        Ok(mine.iter().filter(is_up).flat_map(of).collect())
    }

    /// Notes that a machine is used: it is not idle. Written at most once a minute.
    pub async fn touch(&self, id: &str) -> Done<()> {
        let record = self.read(id).await?;
        let now = self.now();
        self.change(record, |record| {
            let last = record.body.used_at.unwrap_or(record.row.created_at);
            if between(last, now) >= Duration::from_mins(1) {
                record.body.used_at = Some(now);
            }
            Vec::new()
        })
        .await?;
        Ok(())
    }

    /// The machine whose token this is, while the token is good. It stays good: this is for what a machine needs before it
    /// can report itself.
    pub async fn recognise(&self, token: &str) -> Done<Rental> {
        self.of_token(token).await?.view()
    }

    /// A machine reports itself. Its token is good for this once.
    pub async fn redeem(&self, token: &str) -> Done<Rental> {
        let record = self.of_token(token).await?;
        let hash = bootstrap::hash(token);
        let now = self.now();
        // Of two with the same token one is the first to write; what the other reads then has no token any more.
        let is_first = AtomicBool::new(false);
        let redeemed = self
            .change(record, |record| {
                let is_good = record.row.token_hash == Some(hash);
                is_first.store(is_good, Ordering::Relaxed);
                if is_good {
                    record.row.token_hash = None;
                    record.body.reported_at = Some(now);
                    record.body.used_at = Some(now);
                }
                Vec::new()
            })
            .await?;
        if !is_first.into_inner() {
            return Err(bad_token());
        }
        redeemed.view()
    }

    async fn of_token(&self, token: &str) -> Done<Record> {
        let found = self.0.store.of_token(bootstrap::hash(token)).await?;
        let record = Record::read(found.ok_or_else(bad_token)?)?;
        if record.row.state.is_live() {
            Ok(record)
        } else {
            Err(bad_token())
        }
    }

    async fn reached(&self, principal: &Principal, id: &str) -> Done<Record> {
        let record = self.0.store.get(id).await?.map(Record::read).transpose()?;
        let is_reached = |record: &Record| match principal.role {
            Role::Admin => true,
            Role::Operator => record.owner.tenant == principal.tenant,
            Role::User | Role::Viewer => record.row.owner == ResponseOwner::from(principal),
        };
        record.filter(is_reached).ok_or_else(|| unknown(id))
    }

    /// How the limits of whoever pays stand.
    pub async fn standings(&self, principal: &Principal) -> Done<Vec<forebay_domain::ledger::Standing>> {
        Ok(self.0.ledger.standings(&Payer::from(principal)).await?)
    }
}

fn bad_token() -> Failure {
    Failure::new(
        Code::InvalidToken,
        "this machine's token was used, or belongs to no machine that is there",
    )
}
