//! One look at one provider: its machines against our rows, and then whatever is left to be done.
//!
//! The list is read first and the rows after it, so that whatever is in the list has its row by then. A list that is not
//! complete, or that somebody made who was not let in, says nothing at all: what runs goes on costing, and somebody is told.

use super::{
    Rentals,
    record::{Record, between},
    sight::{List, is_of_another, machine_of, readable, sight},
    state::{self, Sight},
    types::{Done, RentalNews},
};
use crate::market::{Machine, MachineState, MarketFault};
use forebay_domain::{Failure, market::Provider};
use forebay_runtime::looping::Loop;
use forebay_store::rentals::RentalState;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use std::{collections::BTreeSet, time::Duration};
use tracing::{info, warn};

/// A provider without machines of ours is looked at so often, for machines that nobody knows of.
const ORPHANS_EVERY: Duration = Duration::from_mins(5);
const PRICES_EVERY: Duration = Duration::from_mins(10);
/// After so long without seeing anything somebody is told, and then again.
const BLIND_ALARM: Duration = Duration::from_secs(90);
const BLIND_AGAIN: Duration = Duration::from_mins(15);
/// What is told where a new key shows none of the machines of the one before.
const STRANGER: &str = "the key or the address was changed, and no machine that was rented before is shown";
/// Rentals that are worked on at once.
const AT_ONCE: usize = 8;
/// What a process remembers of a provider between two looks.
#[derive(Debug, Clone, Default)]
pub(super) struct Watching {
    looked_at: Option<Timestamp>,
    prices_at: Option<Timestamp>,
    blind_since: Option<Timestamp>,
    told_at: Option<Timestamp>,
    pub orphans: super::orphans::Suspects,
    /// Those of which it was told that nobody knows whether they were made.
    pub unclear: BTreeSet<String>,
    mark: Option<(i64, i64)>,
    /// The account that has shown a machine of an account before it, and so sees what that one saw.
    vouched: Option<String>,
}

impl Watching {
    /// The next pass looks, whether or not there are machines.
    pub(super) fn look_again(&mut self) {
        self.looked_at = None;
    }
}

pub(super) struct Reconcile {
    rentals: Rentals,
    provider: Provider,
}

impl Reconcile {
    pub(super) fn new(rentals: Rentals, provider: Provider) -> Self {
        Self { rentals, provider }
    }
}

impl Loop for Reconcile {
    type Seen = ();
    type Action = ();

    fn name(&self) -> &'static str {
        match self.provider {
            Provider::Vast => "rentals_vast",
            Provider::IoNet => "rentals_ionet",
            Provider::RunPod => "rentals_runpod",
            Provider::Local => "rentals_local",
        }
    }

    async fn observe(&mut self) -> Result<(), Failure> {
        self.rentals.reconcile(self.provider).await
    }

    fn decide(&self, (): &()) -> Vec<()> {
        Vec::new()
    }

    async fn act(&mut self, (): ()) -> Result<(), Failure> {
        Ok(())
    }
}

impl Rentals {
    /// One pass over a provider. Any number of them, on any replica, at any time, do no harm.
    pub async fn reconcile(&self, provider: Provider) -> Done<()> {
        let now = self.now();
        self.notice(provider).await?;
        let seat = self.seat(provider);
        if !self.sit(&seat, now).await? {
            return Ok(());
        }
        if provider == Provider::Local {
            self.bury_the_dead(now).await?;
        }
        let open = self.0.store.open_of(&seat).await?;
        let has_live = open.iter().any(|row| row.state.is_live());
        let has_market = self.market(provider).is_some();
        let is_looked_at = has_live || (has_market && self.is_time_to_look(provider, now));
        if !is_looked_at {
            return self.work_off(readable(open)).await;
        }
        let account = self.account(provider);
        let lag = self.market(provider).map_or(Duration::ZERO, |market| market.list_lag());
        let listing = self.listing(provider).await;
        // Whatever is in the list has its row by now.
        let records = readable(self.0.store.open_of(&seat).await?);
        let is_trusted = self.is_trusted(
            provider,
            account.as_ref(),
            &records,
            listing.as_deref().unwrap_or_default(),
        );
        let is_blind =
            |record: &Record| record.state.is_live() && !is_trusted && is_of_another(record, account.as_ref());
        let sight = match &listing {
            Err(fault) => Some(fault.clone()),
            Ok(_) if records.iter().any(is_blind) => Some(MarketFault::LockedOut(STRANGER.to_owned())),
            Ok(_) => None,
        };
        self.note_sight(provider, sight.as_ref(), has_live, now);
        if let Ok(machines) = &listing {
            self.see_orphans(provider, machines).await?;
        }
        let list = listing.as_deref().ok().map(|machines| List {
            machines,
            account: account.as_ref(),
            is_trusted,
            lag,
        });
        let records = self.seen(records, list, now).await?;
        self.work_off(records).await?;
        if has_live {
            self.see_prices(provider, now).await?;
        }
        Ok(())
    }

    async fn listing(&self, provider: Provider) -> Result<Vec<Machine>, MarketFault> {
        match self.market(provider) {
            Some(market) => market.machines().await,
            None => Err(MarketFault::LockedOut("it is no longer configured".to_owned())),
        }
    }

    /// Writes down what was seen of each, and whether it has had its time.
    async fn seen(&self, records: Vec<Record>, list: Option<List<'_>>, now: Timestamp) -> Done<Vec<Record>> {
        let config = self.0.config.load();
        let minutes = |minutes: u32| Duration::from_mins(minutes.into());
        let patience = state::Patience {
            boot: minutes(config.boot_minutes),
            exited: minutes(config.exited_minutes),
        };
        drop(config);
        let mut seen = Vec::with_capacity(records.len());
        for record in records {
            let burn = record.body.burn();
            let mut changed = self
                .change(record, |record| {
                    let sight = sight(record, list);
                    if let (Sight::Present(_), Some(list)) = (sight, list) {
                        record.body.account = list.account.cloned();
                    }
                    let mut facts = state::look(record, sight, now);
                    if let Some(why) = state::is_due(record, now, patience) {
                        facts.extend(state::end(record, why, now));
                    }
                    facts
                })
                .await?;
            if changed.body.burn() > burn {
                changed = self.keep_up(changed).await?;
            }
            self.tell_again(&changed)?;
            let changed = self.see_extension(changed, list.is_some()).await?;
            seen.push(changed);
        }
        Ok(seen)
    }

    /// That nobody knows whether it was made is told by each process that finds it so: the one that wrote it down may have
    /// died before it could tell.
    fn tell_again(&self, record: &Record) -> Done<()> {
        let is_unclear = record.row.state == RentalState::FindingOut;
        let is_told = self.watching(record.provider, |watching| {
            if is_unclear {
                !watching.unclear.insert(record.id.clone())
            } else {
                watching.unclear.remove(&record.id);
                true
            }
        });
        if !is_told {
            self.say(RentalNews::AmbiguousCreate(record.view()?.into()));
        }
        Ok(())
    }

    /// Does what is left, several at once: one provider that takes its time must not keep the others' ends waiting.
    async fn work_off(&self, records: Vec<Record>) -> Done<()> {
        let work = stream::iter(records).map(|record| async {
            let id = record.id.clone();
            let worked = self.one(record).await;
            if let Err(failure) = &worked {
                warn!(
                    rental.id = id,
                    error = failure.chain(),
                    "a machine could not be seen to"
                );
            }
            worked
        });
        let failures: Vec<Failure> = work
            .buffer_unordered(AT_ONCE)
            .filter_map(async |one| one.err())
            .collect()
            .await;
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    async fn one(&self, record: Record) -> Done<()> {
        let mut record = record;
        // Its end was accepted and no list has it: whether it is gone its provider can say at once.
        let is_gone_perhaps = record.row.state == RentalState::Destroying && record.body.misses > 0;
        if let (true, Some(market), Some(machine)) = (
            is_gone_perhaps,
            self.market(record.provider),
            record.row.machine.clone(),
        ) {
            let looked = market.machine(&machine).await;
            let now = self.now();
            let is_ended = |one: &Machine| one.state == MachineState::Ended;
            if looked.is_ok_and(|machine| machine.as_ref().is_none_or(is_ended)) {
                record = self
                    .change(record, |record| state::unknown_to_provider(record, now))
                    .await?;
            }
        }
        self.work_on(record).await?;
        Ok(())
    }

    /// What became of time that was asked for: sold, where more was paid or it ends later; not sold, where several lists
    /// show neither. A provider that says neither is taken to have sold it.
    async fn see_extension(&self, record: Record, is_complete: bool) -> Done<Record> {
        let Some(extension) = record.body.money.extension.clone() else {
            return Ok(record);
        };
        let is_asked = between(extension.asked_at, self.now()) >= state::ASKING_MAX;
        if is_asked && extension.hold.is_none() {
            // Whoever wanted it has died before anybody was asked.
            return self.not_bought(record).await;
        }
        let Some(seen) = record.body.seen.clone().filter(|_| is_complete && is_asked) else {
            return Ok(record);
        };
        let is_more = seen.paid > extension.paid_before || seen.ends_at > extension.ended_before;
        let is_silent = seen.paid.is_none() && seen.ends_at.is_none();
        if is_more || is_silent || !record.row.state.is_live() {
            return self.bought(record).await;
        }
        let counted = self
            .change(record, |record| {
                if let Some(extension) = &mut record.body.money.extension {
                    extension.unchanged += 1;
                }
                Vec::new()
            })
            .await?;
        let is_settled = |one: &super::body::Extension| one.unchanged >= state::MISSES;
        if counted.body.money.extension.as_ref().is_some_and(is_settled) {
            return self.not_bought(counted).await;
        }
        Ok(counted)
    }

    /// Prices that a provider wants to raise are told, and never accepted.
    async fn see_prices(&self, provider: Provider, now: Timestamp) -> Done<()> {
        let is_due = self.watching(provider, |watching| {
            let is_due = watching.prices_at.is_none_or(|at| between(at, now) >= PRICES_EVERY);
            if is_due {
                watching.prices_at = Some(now);
            }
            is_due
        });
        let Some(market) = self.market(provider).filter(|_| is_due) else {
            return Ok(());
        };
        let Ok(changes) = market.price_changes().await else {
            return Ok(());
        };
        for record in readable(self.0.store.open_of(&self.seat(provider)).await?) {
            let own = changes
                .iter()
                .filter(|change| Some(&change.id) == record.row.machine.as_ref());
            for change in own {
                self.0.metrics.price_rise(provider);
                self.say(RentalNews::PriceRise {
                    rental: record.view()?.into(),
                    to: change.to,
                    at: change.at,
                });
            }
        }
        Ok(())
    }

    /// Whether this account is known to see what the one before it saw: it has shown a machine of that one. A key of
    /// somebody else shows complete lists without any of ours.
    fn is_trusted(
        &self,
        provider: Provider,
        account: Option<&String>,
        records: &[Record],
        machines: &[Machine],
    ) -> bool {
        let is_shown = |record: &Record| is_of_another(record, account) && machine_of(record, machines).is_some();
        let has_shown = records.iter().any(is_shown);
        self.watching(provider, |watching| {
            if has_shown {
                watching.vouched = account.cloned();
            }
            watching.vouched.is_some() && watching.vouched.as_ref() == account
        })
    }

    fn is_time_to_look(&self, provider: Provider, now: Timestamp) -> bool {
        self.watching(provider, |watching| {
            watching.looked_at.is_none_or(|at| between(at, now) >= ORPHANS_EVERY)
        })
    }

    fn note_sight(&self, provider: Provider, fault: Option<&MarketFault>, has_live: bool, now: Timestamp) {
        let alarm = self.watching(provider, |watching| {
            let Some(fault) = fault else {
                watching.looked_at = Some(now);
                let was_blind = watching.blind_since.take().is_some();
                watching.told_at = None;
                if was_blind {
                    info!(market.provider = %provider, "a provider can be seen again");
                }
                return None;
            };
            let since = *watching.blind_since.get_or_insert(now);
            let is_long = between(since, now) >= BLIND_ALARM;
            let is_told = watching.told_at.is_some_and(|at| between(at, now) < BLIND_AGAIN);
            let is_alarm = has_live && is_long && !is_told;
            is_alarm.then(|| {
                watching.told_at = Some(now);
                (since, fault.to_string())
            })
        });
        self.0.metrics.sight(provider, fault.is_none());
        if let Some((since, fault)) = alarm {
            warn!(market.provider = %provider, error = fault, "a provider shows nothing; what runs goes on costing");
            self.say(RentalNews::Blind { provider, since, fault });
        }
    }

    /// Tells whoever listens where another replica, or another pass, has changed something.
    async fn notice(&self, provider: Provider) -> Done<()> {
        let mark = self.0.store.mark().await?;
        let is_new = self.watching(provider, |watching| watching.mark.replace(mark) != Some(mark));
        if is_new {
            self.0.changed.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    pub(super) fn watching<T>(&self, provider: Provider, look: impl FnOnce(&mut Watching) -> T) -> T {
        let mut watching = self.0.watching.lock().expect("nobody panics while holding it");
        look(watching.entry(provider).or_default())
    }
}
